"""Which clients take part in a round, and how they are cut into chunks."""

from collections.abc import Sequence

import numpy as np

from mm_ray.data.clients import ClientSelection, groups_of
from mm_ray.fed.federation import Federation
from mm_ray.fed.phase import PhaseSettings
from mm_ray.seeding import numpy_stream
from mm_ray.types import ClientData


def sample_cohort(
    clients: ClientSelection | Sequence[ClientData], sample_frac: float, seed: int, stream: str, round_number: int
) -> tuple[ClientData, ...]:
    """A fraction of each client type, at least one of each, ordered by id.

    The draw depends on seed, stream and round only, so methods that name the same stream see the same cohorts.
    """
    cohort: list[ClientData] = []
    selection = _selection(clients)
    for modalities, members in sorted(selection.by_modalities.items()):
        count = max(round(sample_frac * len(members)), 1)
        rng = numpy_stream(seed, "cohort", stream, round_number, "+".join(modalities))
        cohort += [selection.clients[i] for i in members[rng.choice(len(members), count, replace=False)].tolist()]
    return tuple(sorted(cohort, key=lambda client: client.id))


def poisson_cohort(
    clients: ClientSelection | Sequence[ClientData], sample_frac: float, seed: int, stream: str, round_number: int
) -> tuple[ClientData, ...]:
    """Each client independently with the same probability, ordered by id, as the differential privacy accountant assumes."""
    rng = numpy_stream(seed, "poisson_cohort", stream, round_number)
    selection = _selection(clients)
    positions = selection.positions_by_id()
    return tuple(selection.clients[i] for i in positions[rng.random(len(positions)) < sample_frac].tolist())


def _selection(clients: ClientSelection | Sequence[ClientData]) -> ClientSelection:
    return clients if isinstance(clients, ClientSelection) else ClientSelection.of_groups(clients, groups_of(clients))


def reports_back(phase: PhaseSettings, federation: Federation, round_number: int, client: ClientData) -> bool:
    """Whether a client of the cohort sends its update; one that does not has still received the parameters."""
    if phase.full_participation or not phase.dropout_frac:
        return True
    rng = numpy_stream(federation.seed, "dropout_frac", phase.stream, round_number, client.id)
    return bool(rng.random() >= phase.dropout_frac)


def chunks_of(cohort: Sequence[ClientData], chunk_size: int) -> list[tuple[ClientData, ...]]:
    """The cohort in its order, cut into chunks of `chunk_size` clients; the last may be smaller."""
    return [tuple(cohort[i : i + chunk_size]) for i in range(0, len(cohort), chunk_size)]


def epoch_batches(num_clips: int, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """One epoch's batches as positions 0..num_clips-1, shuffled; the last may be smaller."""
    order = rng.permutation(num_clips)
    return [order[i : i + batch_size] for i in range(0, num_clips, batch_size)]
