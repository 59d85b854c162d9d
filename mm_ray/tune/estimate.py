"""What a study will cost, from one measured round and from what its space asks for."""

import hashlib
import json
import resource
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import optuna

from mm_ray.config import ExperimentConfig, with_overrides
from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.experiment import Plan, run_rounds
from mm_ray.fed.federation import Federation
from mm_ray.fed.method import find_method
from mm_ray.fed.phase import Phase
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.tune.space import Space
from mm_ray.tune.space_probe import probe_study

MEASURED_ROUNDS = 2
"""The first one also pays for what a process does once."""
KEPT_FRAC = 0.4
"""Share of the rounds whose state stays in the phase store: every fifth, the last, and the records (0.3 to 0.5 seen)."""


@dataclass(frozen=True)
class Estimate:
    """Of a study."""

    rounds_asked: int
    rounds_computed: int
    """After sharing."""
    seconds: float
    memory_bytes: int
    """Of each trial with its actors."""
    disk_bytes: int
    round_s: float

    def line(self, at_once: int) -> str:
        """For people."""
        trials = f"{at_once} trial{'s' * (at_once > 1)} at once"
        return (
            f"estimate: {self.rounds_asked:,} rounds asked, about {self.rounds_computed:,} to compute (one took "
            f"{self.round_s:.2g} s), at most {duration(self.seconds)} with {trials}, "
            f"{size(self.memory_bytes)} of memory a trial, {size(self.disk_bytes)} of disk"
        )


def estimate(plan: Plan, space: Space, phases: str, trials: int, num_seeds: int, at_once: int, num_actors: int) -> Estimate:
    """Measure a round of the plan's first phase, which stays in the phase store, and scale.

    A phase's round costs as much more as its clients train more clips times more parameters. Trials are what the space gives
    for choices drawn evenly, its enqueued ones first; a phase that several of them share counts once.
    """
    store = PhaseStore(phases)
    round_s, state_bytes = _measure(plan, store)
    first = plan.method.phases[0]
    unit_s = round_s / max(_work(first, plan.federation), 1)
    asked, longest = 0, dict[str, tuple[int, float]]()
    for config in _configs(plan.config, space, trials):
        for digest, phase in _phases(config):
            asked += phase.rounds
            rounds = max(longest.get(digest, (0, 0.0))[0], phase.rounds)
            longest[digest] = (rounds, rounds * unit_s * _work(phase, plan.federation))
    computed = sum(rounds for rounds, _ in longest.values()) * num_seeds
    alone_s = sum(unit_s * phase.rounds * _work(phase, plan.federation) for phase in plan.method.phases) * num_seeds
    together_s = max(sum(seconds for _, seconds in longest.values()) * num_seeds - alone_s, 0)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    disk = int(computed * KEPT_FRAC * state_bytes)
    return Estimate(asked * num_seeds, computed, alone_s + together_s / at_once, memory * (1 + num_actors), disk, round_s)


def _measure(plan: Plan, store: PhaseStore) -> tuple[float, int]:
    """Seconds of a round of the first phase, and bytes of its state."""
    rounds = run_rounds(plan, store, SerialExecutor())
    reports = []
    for report in rounds:
        reports.append(report)
        if len(reports) == min(MEASURED_ROUNDS, plan.method.phases[0].rounds):
            break
    rounds.close()
    stored = store.rounds(reports[0].key)
    state = store.load(reports[0].key, stored[0])
    return min(report.seconds for report in reports), sum(array.nbytes for array in state.flat().values())


def _work(phase: Phase, federation: Federation) -> float:
    cohort = phase.plan(federation, 1)
    return sum(client.num_clips * phase.traffic(federation, client)[1] for client in cohort)


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
            "settings": phase.settings(),
            "sources": [digests[role.phase] for role in phase.sources],
            "partition": [str(config.partition), str(config.data), config.seed],
        }
        text = json.dumps(content, sort_keys=True, default=str)
        digests[phase.name] = hashlib.sha256(text.encode()).hexdigest()
        yield digests[phase.name], phase


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 100:
        return f"{max(round(seconds), 1)} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def size(num_bytes: float) -> str:
    """A size as people say it."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.2g} {unit}" if num_bytes < 10 * scale else f"{num_bytes / scale:.0f} {unit}"
    return f"{max(num_bytes / 1e3, 1):.0f} kB"
