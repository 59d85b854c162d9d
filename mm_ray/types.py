"""The vocabulary: the frozen values that pass between the parts.

Shape suffixes: B batch, T audio frames, F audio bins, S video frames, D video features, C classes, N clips.
A missing modality is `None`, never zeros. A *part* is a named piece of a model (`audio.encoder`) whose parameters travel
as one flat float32 vector; a *network* is a tuple of parts that is trained together (`mm_ray.models.network`).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch

Arrays = Mapping[str, np.ndarray]


class Batch(NamedTuple):
    """A few clips, padded with zeros to the longest among them."""

    audio_BTF: torch.Tensor | None
    audio_lengths_B: torch.Tensor | None
    video_BSD: torch.Tensor | None
    video_lengths_B: torch.Tensor | None
    labels_B: torch.Tensor
    indices_B: np.ndarray
    """Row of each clip in the feature table."""

    @property
    def size(self) -> int:
        """Number of clips."""
        return len(self.indices_B)

    def to(self, device: torch.device) -> "Batch":
        """The batch with its tensors on a device."""
        if device.type == "cpu":
            return self
        moved = {name: value.to(device) for name, value in self._asdict().items() if isinstance(value, torch.Tensor)}
        return self._replace(**moved)  # type: ignore[arg-type]


class StackedBatch(NamedTuple):
    """A batch of each of K clients, padded with zeros to the longest clip, and to the most clips with clips given twice.

    Shape suffixes besides those above: K clients. Lengths stay on the host, which needs them to plan.
    """

    rows_K: tuple[int, ...]
    """Clips of each client's batch; what lies behind them in B is there for the shape only and has no part in a loss."""
    audio_BTKF: torch.Tensor | None
    audio_lengths_KB: np.ndarray | None
    video_KSBD: torch.Tensor | None
    video_lengths_KB: np.ndarray | None
    labels_KB: torch.Tensor
    indices_KB: np.ndarray
    """Row of each clip in the feature table."""


@dataclass(frozen=True)
class Shapes:
    """What a model must know of the data: audio bins F, video features D (0: the data has no video), classes C."""

    audio_bins: int
    video_features: int
    num_classes: int


UNLABELLED = -1
"""The label of a clip whose class is not known."""


@dataclass(frozen=True)
class ClientData:
    """One client: the modalities it holds, the rows of its clips in the feature table, and their labels as it has them."""

    id: int
    modalities: tuple[str, ...]
    indices: np.ndarray
    labels: np.ndarray
    """int64, the class of each clip, in the order of `indices`; `UNLABELLED` where the client does not know it."""
    epoch_clips: int = 0
    """Clips that make an epoch, where these are more than the clips here (`labelled`)."""

    @property
    def num_clips(self) -> int:
        """Number of clips."""
        return len(self.indices)

    @property
    def is_labelled(self) -> bool:
        """Whether it knows the class of all its clips."""
        return bool((self.labels != UNLABELLED).all())

    def labelled(self) -> "ClientData":
        """The client with its labelled clips only. An epoch stays as long as before: these clips are cycled, so that a phase
        which needs labels makes as many steps as one that uses every clip.
        """
        if self.is_labelled:
            return self
        known = self.labels != UNLABELLED
        return replace(self, indices=self.indices[known], labels=self.labels[known], epoch_clips=self.num_clips)


@dataclass(frozen=True)
class RoundContext:
    """All that a client may know in a round."""

    seed: int
    round: int
    params: Arrays
    """What the server sent this round, by part."""
    material: Arrays
    """What the server sent once, at the start of the phase."""
    table: Any
    """The feature table (`mm_ray.data.table.FeatureTable`) from which the client reads its own rows only."""
    shapes: Shapes
    device: str = "cpu"


@dataclass(frozen=True)
class ClientUpdate:
    """Weighted sums over clients, so that chunks and rounds are summed with `+`.

    `sums[part]` is the sum of weight * value over the clients that hold the part, `weights[part]` the sum of their
    weights; `metrics` are plain sums. `refused` names the clients whose update was set aside, and why.
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    sums: Arrays = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    refused: Mapping[int, str] = field(default_factory=dict)

    def __add__(self, other: "ClientUpdate") -> "ClientUpdate":
        """Sum key by key; a key that one side lacks counts as zero."""
        return ClientUpdate(
            _add(self.weights, other.weights),
            _add(self.sums, other.sums),
            _add(self.metrics, other.metrics),
            {**self.refused, **other.refused},
        )

    def mean(self, part: str) -> np.ndarray:
        """The weighted mean of a part over its holders."""
        return self.sums[part] / np.float32(self.weights[part])


KEPT_BY_SERVER, KEPT_BY_CLIENT = "server/", "client/"


def kept_by_clients(update: ClientUpdate) -> dict[str, np.ndarray]:
    """What of an update no server sees: arrays named `client/ID/...`, which are that client's own until its next round."""
    return {name: array for name, array in update.sums.items() if name.startswith(KEPT_BY_CLIENT)}


def _add(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    total = dict(a)
    for key, value in b.items():
        total[key] = total[key] + value if key in total else value
    return total


@dataclass(frozen=True)
class ServerState:
    """All that crosses a round: named arrays and a JSON-able dictionary. It is the checkpoint.

    Names that begin with `server/` never go to a client. Names that begin with `client/ID/` belong to one client, and in a
    federation would lie with it; they are here because a client of the simulation remembers nothing.
    """

    tensors: Arrays
    meta: Mapping[str, Any] = field(default_factory=dict)


def sent_to_clients(state: ServerState) -> Arrays:
    """A state's arrays without those that never leave the server."""
    return {name: array for name, array in state.tensors.items() if not name.startswith(KEPT_BY_SERVER)}


@dataclass(frozen=True)
class RoundReport:
    """What a host learns of a round; one line of `rounds.jsonl`."""

    phase: str
    round: int
    metrics: Mapping[str, float]
    num_clients: int
    seconds: float
    bytes_up: int
    bytes_down: int
    reused: bool = False
    key: str = ""
    """The phase's key in the phase store."""
    busy_frac: float = 0.0
    """Part of the round in which the client actors worked, the mean over them."""
    moved_bytes: int = 0
    """Bytes of arrays between the processes of the simulation; a serial run moves none."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """The clients whose update was set aside or late, by id (text, as in JSON), and why."""

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary with the same keys."""
        return asdict(self)
