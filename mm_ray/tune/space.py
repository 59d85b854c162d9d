"""A search space: a Python file with `space(trial) -> overrides`, `OBJECTIVES`, `ENQUEUED`, `AT_LEAST` (see tune_spaces/)."""

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, distribution_to_json
from optuna.study import StudyDirection

from mm_ray import config
from mm_ray.errors import UserError, bad_value, in_one_line
from mm_ray.plugins import in_user_code, resolve
from mm_ray.seeding import stream

NUM_PROBES = 32
DIRECTIONS = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
METRICS = (
    "dev/audio_top1",
    "dev/audio_uar",
    "dev/audio_macro_f1",
    "dev/gain_top1",
    "bytes",
    "compute_s",
    "rounds",
    "flops",
    "sim_seconds",
)
"""The metrics of a finished trial (mm_ray/tune/trial.py): the student on dev at its best round; its lead over phase 1's
audio network in top-1; bytes that a federation would send, seconds of computation, rounds, the clients' FLOPs and, with
`clients.profile`, simulated seconds, each including reused rounds."""

ACTORS = "all trials of a study have the same actors"
NO_EFFECT = {
    "clients.num_actors.": ACTORS,
    "clients.num_cpus.": ACTORS,
    "clients.num_gpus.": ACTORS,
    "data.": "a study reads its data once",
}
"""Fields that a trial cannot change, and why."""

Function = Callable[[optuna.Trial], dict[str, Any]]


@dataclass(frozen=True)
class Space:
    """A search space, checked: every probe of it gave overrides that the config accepts."""

    name: str
    """As the user gave it: a short name, a file or a dotted name."""
    function: Function
    objectives: Mapping[str, str]
    """Metric to `max` or `min`, in order."""
    enqueued: tuple[dict[str, Any], ...]
    """Optuna parameters that are tried first."""
    digest: str
    """Sixteen hex digits that change when the suggestions change, not when a comment does."""
    distributions: Mapping[str, BaseDistribution] = field(default_factory=dict)
    """What the probes saw suggested, by Optuna's parameter name."""
    source: "str | Function" = ""
    """What `load_space` was given: a name, or the function itself."""
    at_least: Mapping[str, float] = field(default_factory=dict)
    """Constraints: a trial whose metric is below its bound is not chosen, and the searcher avoids its region."""

    @property
    def directions(self) -> list[StudyDirection]:
        """Optuna's directions, one per objective."""
        return [DIRECTIONS[way] for way in self.objectives.values()]

    def overrides(self, trial: optuna.Trial) -> dict[str, Any]:
        """The config overrides of a trial.

        Raises:
            UserError: Any error in the user's function, with file, line and message.

        """
        overrides: dict[str, Any] = in_user_code("space", self.name, "fails", lambda: self.function(trial))
        return overrides


def load_space(source: str | Function) -> Space:
    """Load and check a space.

    Args:
        source: A module of tune_spaces/ (`distill`), or your own (`my/space.py`, `lab.space`, `spaces.py:wide`); or a function
            of a trial, whose attributes `OBJECTIVES`, `ENQUEUED` and `AT_LEAST` count like those of a file.

    Raises:
        UserError: Unknown name, an error in the file, overrides that the config refuses, an enqueued parameter that the
            space does not suggest, or a space that gives different overrides for the same choices.

    """
    if isinstance(source, str):
        name, module = source, resolve("space", source, "tune_spaces", "space", fresh=True)
        if not callable(module.space):
            raise bad_value("space", name, "needs a function space(trial) that returns config overrides")
    else:
        name, module = source.__name__.strip("<>"), SimpleNamespace(**vars(source) | {"space": source})
    draft = replace(_declared(name, module), source=source)
    seen, distributions = _probe(draft)
    _check_enqueued(draft, distributions)
    behaviour = [seen, dict(draft.objectives), *([dict(draft.at_least)] if draft.at_least else [])]
    digest = hashlib.sha256(json.dumps(behaviour, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return replace(draft, digest=digest, distributions=distributions)


def _declared(name: str, module: Any) -> Space:
    objectives = dict(getattr(module, "OBJECTIVES", {"dev/audio_top1": "max"}))
    wrong = [way for way in objectives.values() if way not in DIRECTIONS]
    if wrong or not objectives:
        raise bad_value("space", name, f"OBJECTIVES maps metrics to 'max' or 'min', not {objectives}")
    at_least = {metric: float(bound) for metric, bound in getattr(module, "AT_LEAST", {}).items()}
    for field_name, metrics in (("OBJECTIVES", objectives), ("AT_LEAST", at_least)):
        unknown = [metric for metric in metrics if metric not in METRICS]
        if unknown:
            raise bad_value("space", name, f"{field_name} names {', '.join(unknown)}; metrics are: {', '.join(METRICS)}")
    first, way = next(iter(objectives.items()))
    if not first.startswith("dev/audio_") or way != "max":
        remedy = "the first of OBJECTIVES chooses the best trial: dev/audio_top1, dev/audio_uar or dev/audio_macro_f1, 'max'"
        raise bad_value("space", name, f"{remedy}, not {first}: {way!r}")
    enqueued = tuple(dict(params) for params in getattr(module, "ENQUEUED", []))
    return Space(name, module.space, objectives, enqueued, digest="", at_least=at_least)


def _probe(space: Space) -> tuple[list[Any], dict[str, BaseDistribution]]:
    seen: list[Any] = []
    distributions: dict[str, BaseDistribution] = {}
    for first, again in zip(probe_study(NUM_PROBES), probe_study(NUM_PROBES), strict=True):
        overrides = space.overrides(first)
        if overrides != space.overrides(again):
            raise bad_value("space", space.name, "gives other overrides for the same choices; use only trial.suggest_...")
        _check_overrides(space, overrides)
        distributions |= first.distributions
        seen.append([overrides, {key: distribution_to_json(value) for key, value in first.distributions.items()}])
    return seen, distributions


def _check_overrides(space: Space, overrides: Any) -> None:
    if not isinstance(overrides, dict) or not all(isinstance(name, str) for name in overrides):
        raise bad_value("space", space.name, f"space(trial) returns a dict of dotted config names, not {overrides!r}")
    for name in overrides:
        if remedy := next((why for beginning, why in NO_EFFECT.items() if f"{name}.".startswith(beginning)), None):
            raise bad_value("space", space.name, f"{name} has no effect in a search space: {remedy}; give the flag --{name}")
    try:
        config.with_overrides(config.ExperimentConfig(), overrides)
    except UserError as error:
        raise bad_value("space", space.name, re.sub(r"--(?=\w)", "", str(error))) from error  # a space has no dashes


def warnings_of_enqueued(space: Space) -> list[str]:
    """Optuna's warnings of enqueued values that the space cannot suggest; it would try them all the same.

    Raises:
        UserError: An enqueued trial gives overrides that the config refuses, or a choice that there is not.

    """
    study = optuna.create_study(storage=optuna.storages.InMemoryStorage(), sampler=optuna.samplers.RandomSampler(seed=0))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for params in space.enqueued:
            study.enqueue_trial(params)
            _check_overrides(space, space.overrides(study.ask()))
    return [in_one_line(warning.message) for warning in caught if "out of range" in str(warning.message)]


def _check_enqueued(space: Space, distributions: Mapping[str, BaseDistribution]) -> None:
    for params in space.enqueued:
        unknown = sorted(set(params) - set(distributions))
        if unknown:
            raise bad_value("space", space.name, f"ENQUEUED names {', '.join(unknown)}, which space(trial) never suggests")


def probe_study(num_probes: int) -> Iterator[optuna.Trial]:
    """Trials of a throw-away study whose choices depend only on the probe's number and the parameter's name."""
    study = optuna.create_study(storage=optuna.storages.InMemoryStorage(), sampler=_ProbeSampler())
    for _ in range(num_probes):
        yield study.ask()


class OneByOneSampler(optuna.samplers.BaseSampler):
    """Draws each parameter by itself, by a subclass's `sample_independent`."""

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, BaseDistribution]:
        """No parameters are drawn together."""
        return {}

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        """No parameters are drawn together."""
        return {}


class _ProbeSampler(OneByOneSampler):
    # Not Optuna's random sampler: the digest must outlive a new version of Optuna or numpy.

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: BaseDistribution) -> Any:
        return _pick(param_distribution, stream(0, "probe", trial.number, param_name) / 2**63)


def _pick(distribution: Any, unit: float) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(unit * len(distribution.choices))]
    value = distribution.low + unit * (distribution.high - distribution.low)
    if distribution.step:
        value = distribution.low + distribution.step * round((value - distribution.low) / distribution.step)
    return min(value, distribution.high)
