"""Updates kept apart: what a rule that compares clients needs, in the sums that everything else uses too.

A client's part travels as `from/ID/PART`, so that `+` puts clients side by side where it would have added them up. The result
of a rule is therefore the same however clients are cut into chunks and on however many actors they run. The price is memory:
the driver holds all the round's updates at once.

Parts that the same clients of a round hold are judged together, as one vector (K clients, P parameters): for a rule that
chooses clients an encoder and its head then come from the same ones.
"""

from collections.abc import Mapping

import numpy as np

from mm_ray.plugins import resolve
from mm_ray.types import ClientUpdate

FROM = "from/"
MEAN = "mean"
RULES = "mm_ray.fed.rules"


def kept_apart(update: ClientUpdate, client: int) -> ClientUpdate:
    """A client's update under names of its own."""
    weights = {f"{FROM}{client}/{part}": weight for part, weight in update.weights.items()}
    sums = {f"{FROM}{client}/{name}" if name in update.weights else name: array for name, array in update.sums.items()}
    return ClientUpdate(weights, sums, update.metrics)


def combined(total: ClientUpdate, rule: str, bad_frac: float) -> ClientUpdate:
    """A round's update in which each part is what the rule makes of its holders' changes, with weight 1.

    Args:
        total: The sum of updates that `kept_apart` made.
        rule: A module of `mm_ray.fed.rules`, or your own.
        bad_frac: The fraction of clients that may be bad.

    """
    combine = resolve("server.rule", rule, RULES, "combine").combine
    others = {name: array for name, array in total.sums.items() if name not in total.weights}
    parts: dict[str, np.ndarray] = {}
    for names in _groups(_holders(total)):
        changes_KP = np.stack([_change(total, client, names) for client in _holders(total)[names[0]]])
        parts |= _cut(np.asarray(combine(changes_KP, bad_frac), np.float32), names, total, _holders(total)[names[0]][0])
    return ClientUpdate(dict.fromkeys(parts, 1.0), {**others, **parts}, total.metrics, total.refused)


def _holders(total: ClientUpdate) -> dict[str, tuple[int, ...]]:
    """The clients that hold each part, ascending."""
    held: dict[str, list[int]] = {}
    for name in total.weights:
        client, _, part = name.removeprefix(FROM).partition("/")
        held.setdefault(part, []).append(int(client))
    return {part: tuple(sorted(clients)) for part, clients in held.items()}


def _groups(holders: Mapping[str, tuple[int, ...]]) -> list[list[str]]:
    """Parts with the same holders, each group and its parts sorted by name."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for part in sorted(holders):
        groups.setdefault(holders[part], []).append(part)
    return list(groups.values())


def _change(total: ClientUpdate, client: int, parts: list[str]) -> np.ndarray:
    return np.concatenate([total.mean(f"{FROM}{client}/{part}") for part in parts])


def _cut(change_P: np.ndarray, parts: list[str], total: ClientUpdate, client: int) -> dict[str, np.ndarray]:
    sizes = [len(total.sums[f"{FROM}{client}/{part}"]) for part in parts]
    return dict(zip(parts, np.split(change_P, np.cumsum(sizes)[:-1]), strict=True))
