"""How accuracy, training loss and data differ over the clients of a run."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mm_ray.evaluate.statistics import spread_of_clients
from mm_ray.fed.federation import Federation
from mm_ray.types import RoundReport

MOST_CLIENTS = 10_000
"""In a larger federation the clients are not gone through: a run's time depends on its cohorts."""
ROLES = ("student", "control", "control_all")
"""Networks that every client uses."""


def client_spreads(
    federation: Federation, recalls: Mapping[str, Sequence[float]], reports: Iterable[RoundReport]
) -> dict[str, dict[str, Any]]:
    """Mean, worst tenth and standard deviation over clients; empty in a federation of more than `MOST_CLIENTS`.

    Args:
        federation: The clients.
        recalls: By role: recall on the test set by class (C,).
        reports: The rounds of the student's phase.

    Returns:
        By measure, a `ClientSpread` as a dictionary: each of `ROLES`, its accuracy on the client's own mix of classes; `loss`,
        the client's mean training loss over its rounds, where that is recorded; `clips`.

    """
    if len(federation.clients) > MOST_CLIENTS:
        return {}
    found = {role: federation.client_accuracies(np.array(recalls[role])) for role in ROLES if role in recalls}
    known = {role: [value for value in values if value is not None] for role, values in found.items()}
    losses = [loss for loss, _ in update_means(reports).values() if np.isfinite(loss)]
    clips = [float(client.num_clips) for client in federation.clients]
    spreads = {measure: spread_of_clients(values)._asdict() for measure, values in (known | {"clips": clips}).items() if values}
    return spreads | ({"loss": spread_of_clients(losses, lowest=False)._asdict()} if losses else {})


def update_means(reports: Iterable[RoundReport]) -> dict[str, tuple[float, float]]:
    """Training loss and norm of the update by client: means over the client's rounds, where they are recorded."""
    seen: dict[str, list[Sequence[float]]] = {}
    for report in reports:
        for client, values in report.clients.items():
            seen.setdefault(client, []).append(values)
    means = {client: np.mean(values, axis=0).tolist() for client, values in seen.items()}
    return {client: (loss, norm) for client, (loss, norm) in means.items()}
