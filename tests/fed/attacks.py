"""Clients that send something else than they learned; for tests only."""

from dataclasses import dataclass, field, fields, replace

import numpy as np
from fed.tiny import tiny_plan

from mm_ray.fed.phase import KEY
from mm_ray.methods.modality_mirror import Unimodal

ATTACKS = {
    "sign": lambda array: -4 * array,
    "scaled": lambda array: 100 * array,
    "nan": lambda array: np.full_like(array, np.nan),
    "shape": lambda array: array[:-1],
    "dtype": lambda array: array.astype(np.float64),
}


@dataclass(frozen=True)
class Attacked(Unimodal):
    """The unimodal phase with some bad clients."""

    bad: frozenset[int] = field(default=frozenset(), metadata={KEY: lambda phase: {"bad": sorted(phase.bad)}})
    attack: str = "sign"

    def client_updates(self, context, clients):
        updates = super().client_updates(context, clients)
        return [self.spoilt(update) if c.id in self.bad else update for c, update in zip(clients, updates, strict=True)]

    def spoilt(self, update):
        return replace(update, sums={part: ATTACKS[self.attack](array) for part, array in update.sums.items()})


def attacked_plan(overrides, bad, attack):
    """A tiny plan whose first phase, and only that one, is attacked."""
    plan = tiny_plan(overrides)
    first = plan.method.phases[0]
    given = {each.name: getattr(first, each.name) for each in fields(first)}
    phases = (Attacked(**given, bad=frozenset(bad), attack=attack), *plan.method.phases[1:])
    return replace(plan, method=replace(plan.method, phases=phases))
