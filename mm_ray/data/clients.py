"""The clients of a federation as a few flat arrays, so that a million of them are no million objects.

Shape suffixes: K clients, K1 = K + 1, R clips of all clients, one client after the other.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, overload

import numpy as np

from mm_ray.types import UNLABELLED, ClientData

MOST_KEPT = 100_000
"""Clients that were asked for and are kept as objects; beyond that they are made again when they are asked for again."""


class Shares(Sequence[np.ndarray]):
    """The rows of each of K clients, ascending, cut out of one array."""

    def __init__(self, rows_R: np.ndarray, offsets_K1: np.ndarray) -> None:
        self.rows_R, self.offsets_K1 = rows_R, offsets_K1

    @classmethod
    def of_owners(cls, rows_R: np.ndarray, owners_R: np.ndarray, num_clients: int) -> "Shares":
        """The rows, given to the client (0 to K - 1) that owns each."""
        order_R = np.lexsort((rows_R, owners_R))
        sizes_K = np.bincount(owners_R, minlength=num_clients)
        return cls(rows_R[order_R], np.concatenate([[0], np.cumsum(sizes_K)]))

    @classmethod
    def of_arrays(cls, arrays: Sequence[np.ndarray]) -> "Shares":
        """The arrays, one after the other."""
        return cls(np.concatenate(arrays), np.concatenate([[0], np.cumsum([len(rows) for rows in arrays])]))

    def __len__(self) -> int:
        return len(self.offsets_K1) - 1

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> list[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | list[np.ndarray]:
        """The rows of a client, or of some."""
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        k = range(len(self))[index]
        share: np.ndarray = self.rows_R[self.offsets_K1[k] : self.offsets_K1[k + 1]]
        return share


class ClientList(Sequence[ClientData]):
    """Clients 0 to K - 1, each made when it is asked for.

    Args:
        shares: The rows of each.
        labels_R: The label of each clip, in the order of the shares.
        kinds: The sets of modalities that clients hold.
        kinds_K: Which of these each client holds.

    """

    def __init__(self, shares: Shares, labels_R: np.ndarray, kinds: Sequence[tuple[str, ...]], kinds_K: np.ndarray) -> None:
        # Half the memory, in the driver and on each node; a client gets int64, as everything that indexes by it expects.
        self._shares = Shares(shares.rows_R.astype(np.int32), shares.offsets_K1)
        self._labels_R, self.kinds, self.kinds_K = labels_R.astype(np.int32), tuple(kinds), kinds_K
        self._made: dict[int, ClientData] = {}

    @property
    def rows_R(self) -> np.ndarray:
        """The rows of all clips, int64, one client after the other."""
        return self._shares.rows_R.astype(np.int64)

    @property
    def labels_R(self) -> np.ndarray:
        """Their labels, int64."""
        return self._labels_R.astype(np.int64)

    def with_labels(self, labels_R: np.ndarray) -> "ClientList":
        """The clients with other labels, given in the order of `rows_R`."""
        return ClientList(self._shares, labels_R, self.kinds, self.kinds_K)

    def has_label_K(self) -> np.ndarray:
        """Whether a client knows the class of a clip of its own, bool."""
        known_R1 = np.concatenate([[0], np.cumsum(self._labels_R != UNLABELLED)])
        offsets_K1 = self._shares.offsets_K1
        has: np.ndarray = known_R1[offsets_K1[1:]] > known_R1[offsets_K1[:-1]]
        return has

    def __len__(self) -> int:
        return len(self.kinds_K)

    @overload
    def __getitem__(self, index: int) -> ClientData: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ClientData, ...]: ...
    def __getitem__(self, index: int | slice) -> ClientData | tuple[ClientData, ...]:
        """A client, or some."""
        if isinstance(index, slice):
            return tuple(self[k] for k in range(*index.indices(len(self))))
        if index in self._made:
            return self._made[index]
        k = range(len(self))[index]
        start, stop = self._shares.offsets_K1[k : k + 2]
        rows, labels = (flat[start:stop].astype(np.int64) for flat in (self._shares.rows_R, self._labels_R))
        client = ClientData(k, self.kinds[self.kinds_K[k]], rows, labels)
        if len(self._made) == MOST_KEPT:
            self._made.clear()
        self._made[k] = client
        return client

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_made": {}}


class ClientGroup(NamedTuple):
    """Clients that a phase treats alike: they hold the same modalities, and each has a labelled clip, or none has."""

    example: ClientData
    positions: np.ndarray
    """Where they are in the federation's clients, ascending."""


def groups_of(clients: Sequence[ClientData]) -> tuple[ClientGroup, ...]:
    """All groups, in the order of their first clients."""
    if isinstance(clients, ClientList):
        codes_K = 2 * clients.kinds_K.astype(np.int64) + clients.has_label_K()
        members = [np.flatnonzero(codes_K == code) for code in np.unique(codes_K)]
    else:
        found: dict[tuple[tuple[str, ...], bool], list[int]] = {}
        for position, client in enumerate(clients):
            found.setdefault((client.modalities, bool((client.labels != UNLABELLED).any())), []).append(position)
        members = [np.array(positions) for positions in found.values()]
    return tuple(ClientGroup(clients[int(own[0])], own) for own in sorted(members, key=lambda own: int(own[0])))


class ClientSelection(NamedTuple):
    """Some of the clients of a federation."""

    clients: Sequence[ClientData]
    by_modalities: Mapping[tuple[str, ...], np.ndarray]
    """Positions among `clients`, ascending."""

    @classmethod
    def of_groups(cls, clients: Sequence[ClientData], groups: Iterable[ClientGroup]) -> "ClientSelection":
        """All clients of some groups."""
        members: dict[tuple[str, ...], list[np.ndarray]] = {}
        for group in groups:
            members.setdefault(group.example.modalities, []).append(group.positions)
        return cls(clients, {kind: np.sort(np.concatenate(own)) for kind, own in members.items()})

    def examples(self) -> list[ClientData]:
        """A client of each set of modalities."""
        return [self.clients[int(positions[0])] for positions in self.by_modalities.values()]

    def positions_by_id(self) -> np.ndarray:
        """All positions, in the order of the clients' ids."""
        every: np.ndarray = np.sort(np.concatenate(list(self.by_modalities.values())))
        if isinstance(self.clients, ClientList):
            return every
        return every[np.argsort([self.clients[int(position)].id for position in every], kind="stable")]
