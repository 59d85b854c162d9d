"""A study that reuses an older one's trials (`--from OLD`) whose configuration lies in the new space."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from mm_ray.config import ExperimentConfig, with_overrides
from mm_ray.errors import UserError, bad_value
from mm_ray.runtime.run_folder import stored_config
from mm_ray.runtime.tracking import flat_config
from mm_ray.storage import append_lines, read_object
from mm_ray.tune.searcher import ENDED_AFTER, FROM, StudySearch
from mm_ray.tune.study_log import read_trials

OUTSIDE = "outside the space"


def check_earlier(name: str, runs: str, own: str) -> Path:
    """The folder of the study that `--from` names.

    Raises:
        UserError: There is none, or it is the new study itself.

    """
    folder = Path(runs).expanduser() / name
    if name == own:
        raise bad_value("from", name, "is this study itself; --resume continues it")
    if not (folder / "study.json").exists():
        raise bad_value("from", name, f"no study in {folder}; see --runs")
    return folder


def take_trials(search: StudySearch, base: ExperimentConfig, num_seeds: int, folder: Path) -> str:
    """Add the complete trials of an older study whose whole configuration the new space suggests too.

    A parameter that only the new space has takes the value from the older study's config. Data and your own code are assumed to
    be unchanged. Trials that a driver added before it was killed are left as they are.

    Returns:
        A line: which were taken, and why the others were not.

    """
    their_base, their_seeds = stored_config(folder / "config.yaml"), read_object(folder / "study.json", "restore it")["seeds"]
    taken, left = list[int](), dict[str, list[int]]()
    there = {trial.user_attrs.get(FROM) for trial in search.study.get_trials(deepcopy=False)}
    for row in read_trials(folder):
        theirs, source = with_overrides(their_base, row["overrides"]), f"{folder.name}/{row['number']}"
        if row["state"] != "COMPLETE":
            left.setdefault("not complete", []).append(row["number"])
        elif their_seeds != num_seeds:
            left.setdefault(f"seeds {their_seeds}, here {num_seeds}", []).append(row["number"])
        elif isinstance(known := _known(search, base, theirs, row), str):
            left.setdefault(known, []).append(row["number"])
        else:
            taken.append(row["number"])
            if source not in there:
                _add(search, *known, row, source)
    reasons = "; ".join(f"{_numbers(numbers)} ({reason})" for reason, numbers in left.items())
    return f"from {folder.name}: trials {_numbers(taken) or 'none'} taken" + (f"; not taken: {reasons}" if reasons else "")


def _numbers(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _known(
    search: StudySearch, base: ExperimentConfig, theirs: ExperimentConfig, row: Mapping[str, Any]
) -> tuple[FrozenTrial, dict[str, Any]] | str:
    """A trial of the new space with the same configuration, and its overrides; or why there is none."""
    space, fields = search.space, flat_config(theirs)
    fixed = FixedTrial(fields | row["params"])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a value out of range, which is refused below
            overrides = space.overrides(fixed)  # type: ignore[arg-type]
            mine = flat_config(with_overrides(base, overrides))
        values = [row["metrics"].get(name) for name in space.objectives]
        trial = create_trial(params=fixed.params, distributions=fixed.distributions, values=[value or 0.0 for value in values])
    except (UserError, ValueError):
        return OUTSIDE
    if other := [name for name in fields if fields[name] != mine[name]]:
        return f"{other[0]} {fields[other[0]]}, here {mine[other[0]]}"
    missing = [name for name in (*space.objectives, *space.at_least) if row["metrics"].get(name) is None]
    return f"without {missing[0]}" if missing else (trial, overrides)


def _add(search: StudySearch, known: FrozenTrial, overrides: dict[str, Any], row: Mapping[str, Any], source: str) -> None:
    """Add a known trial to the study, and then its row; without the row it is made again (`mm_ray.tune.study_log`)."""
    study, space, metrics = search.study, search.space, row["metrics"]
    ended = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
    notes = {key: row[key] for key in ("best_round", "seed_scores")} | {"rounds_computed": 0, "seconds": 0.0}
    notes["rounds_reused"] = row["rounds_computed"] + row["rounds_reused"]
    trial = create_trial(
        state=TrialState.COMPLETE,
        params=known.params,
        distributions=known.distributions,
        values=[metrics[name] for name in space.objectives],
        user_attrs=notes | {FROM: source, ENDED_AFTER: ended},
        intermediate_values=_curve(row, next(iter(space.objectives))) if len(space.objectives) == 1 else {},
        constraints={name: least - metrics[name] for name, least in space.at_least.items()},
    )
    study.add_trial(trial)
    own = {"number": study.get_trials(deepcopy=False)[-1].number, "params": known.params, "overrides": overrides, FROM: source}
    curve = [report | {"reused": True} for report in row["curve"]]
    score = {"score": metrics[next(iter(space.objectives))]}
    append_lines(search.run_dir / "trials.jsonl", json.dumps({**row, **notes, **own, **score, "curve": curve}) + "\n")


def _curve(row: Mapping[str, Any], objective: str) -> dict[int, float]:
    """What schedulers judge: the seeds' scores, or the objective in the rounds of the last phase."""
    if len(row["seed_scores"] or ()) > 1:
        return dict(enumerate(row["seed_scores"], 1))
    last = [report for report in row["curve"] if report["phase"] == row["curve"][-1]["phase"]]
    return {report["round"]: report["metrics"][objective] for report in last if objective in report["metrics"]}
