"""From clients' updates to the round's: each is screened before it is summed, a bad one is rejected, a long one clipped.

In the simulation this happens on the actor that ran the client; in a real federation it is the server's work. Nothing of a
rejected update enters the round, not even its training loss; `rounds.jsonl` names the client and the reason.

Beside the sums over clients that everything else uses, rules can compare clients (robust aggregation, `aggregators/`). A
client's weights and sums then travel as `ClientUpdate.by_client`, which `+` concatenates. So the result of a rule depends
neither on how clients are cut into chunks nor on the number of actors. The price is memory: the driver holds all of a round's
updates at once. Parts that are held by the same clients of a round form one vector (K clients, P parameters). A rule that
chooses clients therefore takes an encoder and its head from the same clients.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from mm_ray.config import ServerConfig
from mm_ray.plugins import resolve
from mm_ray.types import Arrays, ClientUpdate, RoundReport

MEAN = "mean"
RULES = "mm_ray.fed.aggregators"
MOST_NAMED = 3
"""Clients that a line of `refusals` names."""


def screen_update(
    server: ServerConfig,
    params: Arrays,
    client: int,
    update: ClientUpdate,
    compares_clients: bool = False,
    lists_clients: bool = False,
) -> ClientUpdate:
    """The update as it goes into the chunk's sum.

    Args:
        server: Bound, clipping and rule.
        params: What the client started from, by part: the shapes that must come back.
        client: The client's id.
        update: Its update.
        compares_clients: Whether the phase's server needs each client's update whatever the rule.
        lists_clients: Whether its loss and norm are reported, which differential privacy does not cover.

    """
    if not (update.weights or update.sums):
        return update  # nothing of it reaches the server
    reason = rejection_reason(update, params, server.max_norm)
    if reason:
        return ClientUpdate(refused={client: reason})
    if lists_clients and not server.noise:
        update = replace(update, seen={client: (mean_loss(update), norm_of(update))})
    if server.clip_norm:
        update = clipped(update, server.clip_norm)
    if server.noise:
        update = counted_once(update)
    return tag_by_client(update, client) if compares_clients or server.rule != MEAN else update


def rejection_reason(update: ClientUpdate, params: Arrays, max_norm: float) -> str:
    """Why an update must not enter the model; empty if it may.

    Args:
        update: A client's update.
        params: What it started from, by part.
        max_norm: The longest change that may enter (L2 norm over all its parts); 0: any.

    """
    for part, weight in update.weights.items():
        sums, sent = update.sums.get(part), params.get(part)
        if sums is None or sent is None:
            return f"{part}: no such part"
        if sums.dtype != sent.dtype:
            return f"{part}: dtype {sums.dtype}"
        if sums.shape != sent.shape:
            return f"{part}: shape {sums.shape}"
        if not 0 < weight < math.inf:
            return f"{part}: weight {weight:g}"
    for name, array in [*update.sums.items(), *(item for own in update.kept.values() for item in own.items())]:
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return f"{name}: not finite"
    norm = norm_of(update) if max_norm else 0.0
    return f"norm {norm:.4g}" if norm > max_norm else ""


def mean_loss(update: ClientUpdate) -> float:
    """A client's training loss, the mean over the clips that its networks saw; NaN if it sends none."""
    sums = {kind: sum(v for name, v in update.metrics.items() if name.endswith(kind)) for kind in ("_loss", "_seen")}
    return sums["_loss"] / sums["_seen"] if sums["_seen"] else math.nan


def norm_of(update: ClientUpdate) -> float:
    """L2 norm of a client's change over all its parts, in double precision."""
    squares = (np.square(update.mean(part), dtype=np.float64).sum() for part in update.weights)
    return math.sqrt(sum(squares))


def clipped(update: ClientUpdate, norm: float) -> ClientUpdate:
    """The update, shortened to a norm if it is longer (norm clipping: Sun et al. 2019, arXiv 1911.07963)."""
    factor = np.float32(min(1.0, norm / max(norm_of(update), 1e-12)))
    sums = {name: array * factor if name in update.weights else array for name, array in update.sums.items()}
    return replace(update, sums=sums)


def counted_once(update: ClientUpdate) -> ClientUpdate:
    """The update with weight 1 and without its training loss: differential privacy bounds a client's whole contribution."""
    sums = {name: update.mean(name) if name in update.weights else array for name, array in update.sums.items()}
    return replace(update, weights=dict.fromkeys(update.weights, 1.0), sums=sums, metrics={})


def refusals(reports: Iterable[RoundReport]) -> list[str]:
    """For people: a line for each phase in which clients were left out, with the number of rounds, the clients, and the last
    reason."""
    by_phase: dict[str, list[Mapping[str, str]]] = {}
    for report in reports:
        by_phase.setdefault(report.phase, []).append(report.refused)
    lines = []
    for phase, rounds in by_phase.items():
        affected = [refused for refused in rounds if refused]
        reasons = {client: reason for refused in affected for client, reason in refused.items()}
        times = {client: sum(client in refused for refused in affected) for client in reasons}
        worst = sorted(times, key=lambda client: (-times[client], int(client)))
        named = [f"client {client}, {times[client]} times ({reasons[client]})" for client in worst[:MOST_NAMED]]
        named += [f"{len(worst) - MOST_NAMED} more clients"] if len(worst) > MOST_NAMED else []
        where = f"each of {len(rounds)} rounds" if len(affected) == len(rounds) else f"{len(affected)} of {len(rounds)} rounds"
        if affected:
            lines.append(f"{phase}: updates were left out in {where}: {', '.join(named)}")
    return lines


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
