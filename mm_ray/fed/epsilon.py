"""What a run's rounds cost in privacy, where its phases add noise."""

from collections.abc import Iterable
from typing import Any

from mm_ray.fed.fedavg import TrainingPhase
from mm_ray.fed.federation import Federation
from mm_ray.fed.phase import Phase
from mm_ray.fed.privacy import DpEvent, delta_of, epsilon_of

EPSILON = "privacy/epsilon"


def epsilon_metric(phase: Phase, rounds: int, federation: Federation) -> dict[str, float]:
    """`privacy/epsilon` of a phase's first rounds by themselves; nothing without noise."""
    if not isinstance(phase, TrainingPhase) or not phase.server.noise:
        return {}
    spent = DpEvent(phase.sample_frac, phase.server.noise, rounds)
    return {EPSILON: epsilon_of([spent], delta_of(len(federation.clients)))}


def privacy_of(phases: Iterable[Phase], federation: Federation) -> dict[str, Any]:
    """`privacy` for `result.json`: epsilon and delta of all phases together; nothing if none adds noise.

    Epsilon is None where a phase trains on clients' data without noise: then there is no bound.
    """
    training = [phase for phase in phases if isinstance(phase, TrainingPhase)]
    if not any(phase.server.noise for phase in training):
        return {}
    spent = [DpEvent(phase.sample_frac, phase.server.noise, phase.rounds) for phase in training]
    delta = delta_of(len(federation.clients))
    epsilon = epsilon_of(spent, delta) if all(phase.server.noise for phase in training) else None
    return {"privacy": {"epsilon": epsilon, "delta": delta}}
