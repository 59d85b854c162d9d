"""A study from its settings to its conclusion: what `mm_ray.tune` and its command share."""

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import Any

import optuna

from mm_ray.config import ExperimentConfig
from mm_ray.data.feature_row import one_torch_thread
from mm_ray.errors import bad_value
from mm_ray.fed.experiment import check_config, plan_experiment
from mm_ray.fed.virtual_time import SIM_SECONDS
from mm_ray.plugins import find_file
from mm_ray.report.vector import check_figures
from mm_ray.runtime.cluster import cluster_at, connect
from mm_ray.runtime.gpu_sharing import before_measuring, share_gpus
from mm_ray.runtime.placement import place_trial
from mm_ray.runtime.run_folder import check_places, default_name, open_folder
from mm_ray.runtime.tracking import DEFAULT, check_trackers
from mm_ray.startup import load_with_progress, say_changed_code, say_idle_gpus
from mm_ray.storage import check_place, names_full_disk, write_text
from mm_ray.tune.earlier_study import check_earlier, take_trials
from mm_ray.tune.export import check_export, export
from mm_ray.tune.finalize import StudyConclusion, finalize, report_so_far
from mm_ray.tune.flags import HOSTS, KEPT
from mm_ray.tune.reevaluation import Finals, ranking, run_finals
from mm_ray.tune.searcher import SearchSettings
from mm_ray.tune.space import load_space
from mm_ray.tune.stopping import Interrupted, StopConditions, seconds_of
from mm_ray.tune.study import Runner, Study, check_study
from mm_ray.tune.study_storage import check_same_study


@dataclass(frozen=True)
class StudyRequest:
    """The settings of a study; docs/study.md explains them."""

    config: ExperimentConfig
    space: str | Callable[[optuna.Trial], dict[str, Any]] = "distill"
    trials: int = 8
    seeds: int = 1
    test_seeds: int = 5
    time: str = ""
    rounds: int = 0
    patience: int = 0
    searcher: str = "tpe"
    scheduler: str = "none"
    storage: str = ""
    host: str = "actor"
    export: bool = False
    name: str = ""
    runs: str = "runs"
    phases: str = ""
    address: str = ""
    tracker: str = DEFAULT
    from_study: str = ""
    figures: bool = False


@dataclass(frozen=True)
class FinishedStudy:
    """A completed study."""

    study: Study
    found: StudyConclusion
    finals: Finals | None
    optuna_study: optuna.Study
    exported: Path | None


def run_study(request: StudyRequest) -> FinishedStudy:
    """Run a study to its end, or resume it.

    Raises:
        UserError: A mistake in the settings, the space or the data, or no trial was completed.
        EnvironmentFailure: Ray does not start.
        Interrupted: By ^C or TERM; results so far and a report are kept in the folder that it names.

    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with one_torch_thread():
        runner = _prepared(request)
        with names_full_disk(runner.study.folder):
            if request.from_study:
                earlier = check_earlier(request.from_study, request.runs, runner.study.folder.name)
                print(take_trials(runner.study.open_search(), request.config, request.seeds, earlier), flush=True)
            return _run(runner, request.export)


def _prepared(request: StudyRequest) -> Runner:
    config = request.config
    space, digest = load_space(request.space), default_name(config)
    name = request.name or f"study-{Path(space.name).stem}-{digest}"
    _check_numbers(request)
    search = SearchSettings(request.searcher, request.scheduler, request.storage, experiment=digest.rpartition("-")[2])
    limits = StopConditions(seconds_of(request.time), request.rounds, request.patience)
    check_study(space, search, request.seeds)
    if SIM_SECONDS in {*space.objectives, *space.at_least} and not config.clients.profile:
        raise bad_value("space", space.name, f"names {SIM_SECONDS}; add --clients.profile, such as phone,laptop,server")
    trackers = check_trackers(request.tracker)
    check_figures(request.figures)
    check_config(config)
    phases = check_places(request.runs, name, request.phases, config)
    expected = cluster_at(request.address)
    place_trial(before_measuring(config.clients, expected), expected, request.host)
    if request.from_study:
        check_earlier(request.from_study, request.runs, name)
    table = load_with_progress(config.data, request.runs)
    plan = plan_experiment(config, table)
    if request.export:
        check_export(config, space, table)
    check_place(phases)
    say_changed_code(phases)
    folder = open_folder(request.runs, name, config)
    check_same_study(space, folder, folder.name, search.storage, search.experiment)
    _keep(folder, request)
    cluster = connect(request.address)
    study = Study(
        config, space, folder, phases, request.trials, request.host, search, limits, request.seeds, request.test_seeds,
        trackers, request.figures, share_gpus([plan], table, cluster),
    )  # fmt: skip
    print(f"study {folder}: {study.trials} trials of the space {space.name} on {cluster.name} ({cluster.num_cpus:g} CPUs)")
    say_idle_gpus(config.clients, cluster.num_gpus)
    if DEFAULT in trackers:
        print(f"follow it: tensorboard --logdir {quote(str(folder / 'tensorboard'))}", flush=True)
    if find_spec("optuna_dashboard"):
        print(f"      or: optuna-dashboard {quote(request.storage or str(folder / 'optuna.journal'))}", flush=True)
    return Runner(study, table, cluster)


def _check_numbers(request: StudyRequest) -> None:
    if request.seeds < 1:
        raise bad_value("seeds", request.seeds, "needs at least 1")
    if request.test_seeds < 0:
        raise bad_value("test_seeds", request.test_seeds, "must be 0 (the trial's own seeds) or above")
    if request.host not in HOSTS:
        raise bad_value("host", request.host, f"must be {' or '.join(HOSTS)}")


def _keep(folder: Path, request: StudyRequest) -> None:
    """Write `study.json`, from which `--resume` takes the settings again."""
    kept = {name: getattr(request, name) for name in KEPT} | {
        "space": _spelling(request.space),
        "searcher": _spelling(request.searcher),
    }
    write_text(folder / "study.json", json.dumps(kept, indent=2))


def _spelling(space: str | Callable[[optuna.Trial], dict[str, Any]]) -> str:
    """A name under which any process finds a space: for a file or a function in a file, with the file's full path. A function
    in no file (a notebook's) has none: its study cannot be resumed by `--resume`, but by the same call.
    """
    if not isinstance(space, str):
        file = inspect.getsourcefile(space) or ""
        return f"{file}:{space.__name__}" if Path(file).is_file() else space.__name__
    file, colon, thing = space.partition(":")
    return f"{find_file(file)}{colon}{thing}" if file.endswith(".py") else space


def _run(runner: Runner, wants_export: bool) -> FinishedStudy:
    study = runner.study
    try:
        search, budget = runner.run()
        if budget.reason:
            print(f"the study ends early: {budget.reason}; the same command with a larger limit resumes it")
        finals = run_finals(runner, search) if study.num_seeds > 1 and ranking(search.study) else None
        found = finalize(runner, search, finals)
    except Interrupted:
        report_so_far(runner)
        print(f"report so far: {study.folder / 'report.html'}", flush=True)
        raise Interrupted(study.folder) from None
    exported = export(study.folder, found.tested) if wants_export else None
    return FinishedStudy(study, found, finals, search.study, exported)
