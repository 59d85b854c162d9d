"""Updates kept apart: what a rule that compares clients needs, beside the sums that everything else uses.

A client's weights and sums travel as `ClientUpdate.by_client`, which `+` puts side by side. The result of a rule is therefore
the same however clients are cut into chunks and on however many actors they run. The price is memory: the driver holds all
the round's updates at once.

Parts that the same clients of a round hold are judged together, as one vector (K clients, P parameters): for a rule that
chooses clients an encoder and its head then come from the same ones.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mm_ray.plugins import resolve
from mm_ray.types import ClientUpdate

MEAN = "mean"
RULES = "mm_ray.fed.aggregators"


def tag_by_client(update: ClientUpdate, client: int) -> ClientUpdate:
    """A client's update, its weights and sums by themselves."""
    return replace(update, weights={}, sums={}, by_client={client: ClientUpdate(update.weights, update.sums)})


def robust_aggregate(total: ClientUpdate, rule: str, bad_frac: float) -> ClientUpdate:
    """A round's update in which each part is what the rule makes of its holders' changes, with weight 1.

    Args:
        total: The sum of updates that `kept_apart` made.
        rule: A module of `mm_ray.fed.aggregators`, or your own.
        bad_frac: The fraction of clients that may be bad.

    """
    combine = resolve("server.rule", rule, RULES, "combine").combine
    holders, parts = _holders(total), dict[str, np.ndarray]()
    for names in _groups(holders):
        updates = [total.by_client[client] for client in holders[names[0]]]
        changes_KP = np.stack([np.concatenate([update.mean(part) for part in names]) for update in updates])
        parts |= _cut(np.asarray(combine(changes_KP, bad_frac), np.float32), names, updates[0])
    return replace(total, weights=dict.fromkeys(parts, 1.0), sums={**total.sums, **parts}, by_client={})


def _holders(total: ClientUpdate) -> dict[str, tuple[int, ...]]:
    """The clients that hold each part, ascending."""
    held: dict[str, list[int]] = {}
    for client in sorted(total.by_client):
        for part in total.by_client[client].weights:
            held.setdefault(part, []).append(client)
    return {part: tuple(clients) for part, clients in held.items()}


def _groups(holders: Mapping[str, tuple[int, ...]]) -> list[list[str]]:
    """Parts with the same holders, each group and its parts sorted by name."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for part in sorted(holders):
        groups.setdefault(holders[part], []).append(part)
    return list(groups.values())


def _cut(change_P: np.ndarray, parts: list[str], update: ClientUpdate) -> dict[str, np.ndarray]:
    sizes = [len(update.sums[part]) for part in parts]
    return dict(zip(parts, np.split(change_P, np.cumsum(sizes)[:-1]), strict=True))
