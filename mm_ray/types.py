"""The vocabulary: the frozen values that pass between the parts.

Shape suffixes: B batch, T audio frames, F audio bins, S video frames, D video features, C classes, N clips.
A missing modality is `None`, never zeros. A *part* is a named piece of a model (`audio.encoder`) whose parameters travel
as one flat float32 vector; a *network* is a tuple of parts that is trained together (`mm_ray.models.network`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch


@dataclass(frozen=True)
class Key:
    """The name of an array that is not a part's parameters: what it is, and of what (`Key("control", "audio.encoder")`)."""

    kind: str
    of: str

    def __str__(self) -> str:
        """For messages."""
        return f"{self.kind} of {self.of}"


Arrays = Mapping[Any, np.ndarray]
"""Arrays by name: a part (`audio.encoder`) or a `Key`."""


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

    def of(self, modality: str) -> tuple[torch.Tensor, torch.Tensor]:
        """A modality's values (B, steps, features) and lengths (B,)."""
        values, lengths_B = {
            "audio": (self.audio_BTF, self.audio_lengths_B),
            "video": (self.video_BSD, self.video_lengths_B),
        }[modality]
        assert values is not None
        assert lengths_B is not None
        return values, lengths_B

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

    def of(self, modality: str) -> tuple[torch.Tensor, np.ndarray]:
        """A modality's values as a view (K, steps, B, features), and lengths (K, B)."""
        audio_KTBF = None if self.audio_BTKF is None else self.audio_BTKF.permute(2, 1, 0, 3)
        values, lengths_KB = {
            "audio": (audio_KTBF, self.audio_lengths_KB),
            "video": (self.video_KSBD, self.video_lengths_KB),
        }[modality]
        assert values is not None
        assert lengths_KB is not None
        return values, lengths_KB


@dataclass(frozen=True)
class Shapes:
    """What a model must know of the data: audio bins F, video features D (0: the data has no video), classes C."""

    audio_bins: int
    video_features: int
    num_classes: int

    def features(self, modality: str) -> int:
        """Numbers per step of a modality."""
        return {"audio": self.audio_bins, "video": self.video_features}[modality]


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


class Cost(NamedTuple):
    """What a round costs a client (`mm_ray.fed.cost`)."""

    bytes_down: int
    bytes_up: int
    flops: float = 0.0
    """Floating point operations of all that it computes."""


@dataclass(frozen=True)
class RoundContext:
    """All that a client may know in a round."""

    seed: int
    round: int
    params: Arrays
    """What the server sent this round, by part."""
    shared_inputs: Arrays
    """What the server sent once, at the start of the phase."""
    table: Any
    """The feature table (`mm_ray.data.feature_table.FeatureTable`) from which the client reads its own rows only."""
    shapes: Shapes
    device: str = "cpu"
    clients: Mapping[int, Arrays] = field(default_factory=dict)
    """What the clients of the chunk keep to themselves from their earlier rounds, by id; nobody else's is here."""
    lists_clients: bool = False
    """Whether the loss and the norm of single clients are reported."""

    def own(self, client: ClientData) -> Arrays:
        """What a client kept to itself; nothing before its first round."""
        return self.clients.get(client.id, {})


@dataclass(frozen=True)
class ClientUpdate:
    """Weighted sums over clients, so that chunks and rounds are summed with `+`.

    `sums[part]` is the sum of weight * value over the clients that hold the part, `weights[part]` the sum of their
    weights; a `Key` has a plain sum without a weight. `metrics` are plain sums. `refused` names the clients whose update was
    set aside, and why.
    """

    weights: Mapping[Any, float] = field(default_factory=dict)
    sums: Arrays = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    refused: Mapping[int, str] = field(default_factory=dict)
    kept: Mapping[int, Arrays] = field(default_factory=dict)
    """What each client keeps to itself until its next round; no server sees it."""
    seen: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    """Mean training loss and norm of the update of single clients, where the server may see them and they are asked for."""
    by_client: Mapping[int, "ClientUpdate"] = field(default_factory=dict)
    """Weights and sums of single clients, where the server compares clients and a sum over them is not enough."""

    def __add__(self, other: "ClientUpdate") -> "ClientUpdate":
        """Sum key by key; a key that one side lacks counts as zero."""
        return ClientUpdate(
            _add(self.weights, other.weights),
            _add(self.sums, other.sums),
            _add(self.metrics, other.metrics),
            {**self.refused, **other.refused},
            merged(self.kept, other.kept),
            {**self.seen, **other.seen},
            {**self.by_client, **other.by_client},
        )

    def mean(self, part: str) -> np.ndarray:
        """The weighted mean of a part over its holders."""
        return self.sums[part] / np.float32(self.weights[part])

    @property
    def num_bytes(self) -> int:
        """Bytes of all its arrays."""
        kept = sum(array.nbytes for arrays in self.kept.values() for array in arrays.values())
        separate = sum(update.num_bytes for update in self.by_client.values())
        return sum(array.nbytes for array in self.sums.values()) + kept + separate


def merged(before: Mapping[int, Arrays], after: Mapping[int, Arrays]) -> dict[int, Arrays]:
    """Arrays by client and name, the later ones in the place of the earlier ones of the same name."""
    return {**before, **{client: {**before.get(client, {}), **arrays} for client, arrays in after.items()}}


def _add(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    total = dict(a)
    for key, value in b.items():
        total[key] = total[key] + value if key in total else value
    return total


@dataclass(frozen=True)
class ServerState:
    """All that crosses a round. It is the checkpoint."""

    params: Arrays = field(default_factory=dict)
    """What is sent to every client of a round."""
    server: Arrays = field(default_factory=dict)
    """What never leaves the server."""
    clients: Mapping[int, Arrays] = field(default_factory=dict)
    """By client what goes to that client alone. In a federation it would lie there; here, because a client of the simulation
    remembers nothing."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able."""

    def flat(self) -> dict[tuple[str | int, ...], np.ndarray]:
        """Every array by its path, such as `("params", "audio.encoder")` or `("clients", 3, "control", "audio.encoder")`."""
        fields: dict[tuple[str | int, ...], Arrays] = {("params",): self.params, ("server",): self.server}
        fields |= {("clients", client): arrays for client, arrays in self.clients.items()}
        return {(*path, *_path(name)): array for path, arrays in fields.items() for name, array in arrays.items()}


def _path(name: Any) -> tuple[str, ...]:
    return (name.kind, name.of) if isinstance(name, Key) else (str(name),)


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
    flops: float = 0.0
    """What the clients computed, by formula (`mm_ray.fed.cost`)."""
    peak_memory_bytes: int = 0
    """Most memory that a client actor has had so far; 0 in a serial run."""
    clients: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """In cohorts of at most `mm_ray.fed.executor.MOST_LISTED` clients: mean training loss and L2 norm of the update of each
    client whose update the server sees by itself, by id (text, as in JSON)."""

    def to_json(self) -> dict[str, Any]:
        """A JSON-able dictionary with the same keys."""
        return asdict(self)
