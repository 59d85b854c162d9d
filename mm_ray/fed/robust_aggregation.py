"""Robust aggregation: rules that compare clients, beside the sums over clients that everything else uses.

A client's weights and sums travel as `ClientUpdate.by_client`, which `+` concatenates. So the result of a rule depends neither
on how clients are cut into chunks nor on the number of actors. The price is memory: the driver holds all of a round's updates
at once.

Parts that are held by the same clients of a round form one vector (K clients, P parameters). A rule that chooses clients
therefore takes an encoder and its head from the same clients.
"""

from dataclasses import replace

import numpy as np

from mm_ray.plugins import resolve
from mm_ray.types import ClientUpdate

MEAN = "mean"
RULES = "mm_ray.fed.aggregators"


def tag_by_client(update: ClientUpdate, client: int) -> ClientUpdate:
    """A client's update, with its weights and sums kept separate."""
    return replace(update, weights={}, sums={}, by_client={client: ClientUpdate(update.weights, update.sums)})


def robust_aggregate(total: ClientUpdate, rule: str, bad_frac: float) -> ClientUpdate:
    """A round's update in which each part is what the rule makes of its holders' changes, with weight 1.

    Args:
        total: The sum of updates that `tag_by_client` made.
        rule: A module of `mm_ray.fed.aggregators`, or your own.
        bad_frac: The fraction of clients that may be bad.

    """
    combine = resolve("server.rule", rule, RULES, "combine").combine
    groups: dict[tuple[int, ...], list[str]] = {}
    """Parts by the clients that hold them, both sorted."""
    for part in sorted({part for update in total.by_client.values() for part in update.weights}):
        holders = tuple(client for client in sorted(total.by_client) if part in total.by_client[client].weights)
        groups.setdefault(holders, []).append(part)
    parts: dict[str, np.ndarray] = {}
    for clients, names in groups.items():
        updates = [total.by_client[client] for client in clients]
        changes_KP = np.stack([np.concatenate([update.mean(part) for part in names]) for update in updates])
        ends = np.cumsum([len(updates[0].sums[part]) for part in names])[:-1]
        parts |= zip(names, np.split(np.asarray(combine(changes_KP, bad_frac), np.float32), ends), strict=True)
    return replace(total, weights=dict.fromkeys(parts, 1.0), sums={**total.sums, **parts}, by_client={})
