"""What a study will cost, from one measured round and the configurations of its space."""

import hashlib
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import optuna

from mm_ray.config import ExperimentConfig, with_overrides
from mm_ray.fed.executor import Executor
from mm_ray.fed.experiment import CONTROL_PHASES, Experiment, run_rounds
from mm_ray.fed.federation import Federation
from mm_ray.fed.method import find_method
from mm_ray.fed.phase import Phase, key_settings
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.tune.space import Space, probe_study
from mm_ray.tune.stored import NotStored, StoredOnly

MEASURED_ROUNDS = 2
"""The first one also includes what a process does only once."""
NUM_FINALISTS = 3
"""Configurations that run again with fresh seeds at the end of a study with several seeds."""
KEPT_FRAC = 0.4
"""Share of the rounds whose state stays in the phase store: every fifth, the last, and the records (0.3 to 0.5 seen)."""


@dataclass(frozen=True)
class Measured:
    """Measurements of the first rounds of a plan's first phase."""

    start_s: float
    """By which the first round took longer: the start of client actors, if there are any; 0 where the rounds were stored."""
    round_s: float
    """A round, with what it writes and evaluates."""
    state_bytes: int


@dataclass(frozen=True)
class Estimate:
    """The estimated cost of a study."""

    rounds_asked: int
    """Of the trials."""
    rounds_computed: int
    """Of the trials, after sharing."""
    rounds_after: int
    """Of the finals and the controls."""
    seconds: float
    """All of it, the start of the actors included."""
    memory_bytes: int
    """Of each trial with its actors."""
    disk_bytes: int
    measured: Measured

    def line(self, at_once: int) -> str:
        """For people."""
        trials = f"{at_once} trial{'s' * (at_once > 1)} at once"
        start_s, round_s = self.measured.start_s, self.measured.round_s
        start = f", the first one {duration(start_s)} longer" if start_s else ""
        return (
            f"estimate: {self.rounds_asked:,} rounds asked, about {self.rounds_computed:,} to compute and "
            f"{self.rounds_after:,} for the finals and the controls; about {duration(self.seconds)} with {trials} "
            f"(from a measured round of {round_s:.2g} s{start}), {size(self.memory_bytes)} of memory per trial, "
            f"{size(self.disk_bytes)} of disk"
        )


def estimate(
    plan: Experiment, space: Space, measured: Measured, trials: int, seeds: tuple[int, int], at_once: int, processes: int
) -> Estimate:
    """Scale a measured round.

    A round's cost scales with its clients' training clips times parameters. The trials are choices drawn evenly from the space,
    its enqueued ones first; a phase that several of them share counts once. The finals run the base config with fresh seeds; so
    does the test, if it has its own seeds (the second of `seeds`, after those of a trial). A control costs as much as its last
    phase. The trials start their actors once more after the measurement. `processes` is the number of a trial's processes.
    """
    num_seeds, num_test_seeds = seeds
    unit_s = measured.round_s / max(_work(plan.method.phases[0], plan.federation), 1)
    asked, longest = 0, dict[str, tuple[int, float]]()
    for config in _configs(plan.config, space, trials):
        for digest, phase in _phases(config):
            asked += phase.rounds
            rounds = max(longest.get(digest, (0, 0.0))[0], phase.rounds)
            longest[digest] = (rounds, rounds * unit_s * _work(phase, plan.federation))
    computed = sum(rounds for rounds, _ in longest.values()) * num_seeds
    alone_s = sum(unit_s * phase.rounds * _work(phase, plan.federation) for phase in plan.method.phases) * num_seeds
    together_s = max(sum(seconds for _, seconds in longest.values()) * num_seeds - alone_s, 0)
    after = _after(plan, trials, num_seeds, num_test_seeds)
    after_s = sum(unit_s * rounds * _work(phase, plan.federation) for phase, rounds in after)
    rounds_after = sum(rounds for _, rounds in after)
    seconds = 2 * measured.start_s + alone_s + (together_s + after_s) / at_once
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    disk = int((computed + rounds_after) * KEPT_FRAC * measured.state_bytes)
    return Estimate(asked * num_seeds, computed, rounds_after, seconds, memory * processes, disk, measured)


def _after(plan: Experiment, trials: int, num_seeds: int, num_test_seeds: int) -> list[tuple[Phase, int]]:
    """Phases that are computed after the trials, with how many rounds of each: the controls' own, the finals', the test's."""
    controls = [find_method(with_overrides(plan.config, {"method": name})) for name in CONTROL_PHASES]
    own = [phase for control in controls for phase in control.phases if phase.name == control.main.phase]
    finals = list(plan.method.phases) if num_seeds > 1 else []
    shared, last = finals[:-1], finals[-1:]
    return [
        *((phase, phase.rounds * (num_test_seeds or num_seeds)) for phase in own),
        *((phase, phase.rounds * num_test_seeds) for phase in plan.method.phases if num_test_seeds),
        *((phase, phase.rounds * num_seeds) for phase in shared),
        *((phase, phase.rounds * num_seeds * min(NUM_FINALISTS, trials)) for phase in last),
    ]


def measure(plan: Experiment, store: PhaseStore, device: str, start: Callable[[], Executor]) -> Measured:
    """Time the first rounds of the plan's first phase as in trials; the rounds stay in the store.

    Args:
        plan: The base config's plan.
        store: The phase store.
        device: What client actors train on.
        start: Starts an executor; called if the rounds are not stored yet.

    """
    try:
        return _measure(plan, store, StoredOnly(device))
    except NotStored:
        executor = start()
    try:
        return _measure(plan, store, executor)
    finally:
        executor.close()


def _measure(plan: Experiment, store: PhaseStore, executor: Executor) -> Measured:
    wanted = min(MEASURED_ROUNDS, plan.method.phases[0].rounds)
    with closing(run_rounds(plan, store, executor)) as rounds:
        begun = time.perf_counter()
        reports = [next(rounds)]
        first_s = time.perf_counter() - begun
        reports += [report for _, report in zip(range(wanted - 1), rounds, strict=False)]
        last_s = time.perf_counter() - begun - first_s
    if reports[-1].reused:
        start_s, round_s = 0.0, min(report.seconds for report in reports)
    else:
        round_s = last_s / (wanted - 1) if wanted > 1 else reports[0].seconds
        start_s = max(first_s - round_s, 0.0)
    stored = store.rounds(reports[0].key)
    state_bytes = sum(array.nbytes for array in store.load(reports[0].key, stored[0]).flat().values()) if stored else 0
    return Measured(start_s, round_s, state_bytes)


def _work(phase: Phase, federation: Federation) -> float:
    cohort = phase.cohort(federation, 1)
    return sum(client.num_clips * phase.cost(federation, client).bytes_up for client in cohort)


def _configs(base: ExperimentConfig, space: Space, trials: int) -> Iterator[ExperimentConfig]:
    for params in space.enqueued[:trials]:
        study = optuna.create_study(storage=optuna.storages.InMemoryStorage())
        study.enqueue_trial(params)
        yield with_overrides(base, space.overrides(study.ask()))
    for trial in probe_study(max(trials - len(space.enqueued), 0)):
        yield with_overrides(base, space.overrides(trial))


def _phases(config: ExperimentConfig) -> Iterator[tuple[str, Phase]]:
    """The phases of a config, each with a digest of its settings and its sources'."""
    digests: dict[str, str] = {}
    for phase in find_method(config).phases:
        content: Mapping[str, Any] = {
            "settings": key_settings(phase),
            "sources": [digests[role.phase] for role in phase.sources],
            "partition": [str(config.partition), str(config.data), config.seed],
        }
        text = json.dumps(content, sort_keys=True, default=str)
        digests[phase.name] = hashlib.sha256(text.encode()).hexdigest()
        yield digests[phase.name], phase


def duration(seconds: float) -> str:
    """A time for people."""
    if seconds < 100:
        return f"{max(round(seconds), 1)} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def size(num_bytes: float) -> str:
    """A size for people."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.2g} {unit}" if num_bytes < 10 * scale else f"{num_bytes / scale:.0f} {unit}"
    return f"{max(num_bytes / 1e3, 1):.0f} kB"
