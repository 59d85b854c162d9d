"""The federation: the clients, the data they hold and the seed, as every phase gets them."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mm_ray.config import ExperimentConfig, PartitionConfig
from mm_ray.data.clients import ClientGroup, ClientSelection, groups_of
from mm_ray.data.feature_table import FeatureTable
from mm_ray.data.labels import read_confusion, with_client_labels
from mm_ray.data.own_partition import KINDS, shares_digest
from mm_ray.data.partition import make_clients
from mm_ray.fed.virtual_time import DeviceProfile, device_profile
from mm_ray.types import UNLABELLED, ClientData, Shapes


@dataclass(frozen=True)
class Federation:
    """Clients, feature table and seed."""

    clients: Sequence[ClientData]
    table: FeatureTable
    shapes: Shapes
    seed: int
    identity: dict[str, Any]
    """What a result depends on besides its phases: data fingerprint, partition, seed (JSON-able)."""
    profile: DeviceProfile | None = None
    """The clients' devices, if time is simulated."""

    @cached_property
    def groups(self) -> tuple[ClientGroup, ...]:
        """Groups of clients: `select` decides by one example for the whole group."""
        return groups_of(self.clients)

    @cached_property
    def _selections(self) -> dict[tuple[int, ...], ClientSelection]:
        return {}

    def select(self, wanted: Callable[[ClientData], bool]) -> ClientSelection:
        """The clients of the groups for whose example `wanted` is true."""
        chosen = tuple(i for i, group in enumerate(self.groups) if wanted(group.example))
        if chosen not in self._selections:
            self._selections[chosen] = ClientSelection.of_groups(self.clients, (self.groups[i] for i in chosen))
        return self._selections[chosen]

    @cached_property
    def mean_frames(self) -> tuple[int, int]:
        """Mean length of the training clips, in audio frames and (of those with video) video frames; at least 1."""
        rows, with_video = self.table.rows("train"), self.table.video_rows("train")
        lengths = self.table.audio_lengths(rows), self.table.video_lengths(with_video)
        audio, video = (max(round(float(frames.mean())), 1) if len(frames) else 1 for frames in lengths)
        return audio, video

    def class_counts(self, client: ClientData) -> np.ndarray:
        """A client's clips by their true class (C,); those whose class is not known are not counted."""
        labels = self.table.labels_N[client.indices]
        return np.bincount(labels[labels != UNLABELLED], minlength=self.shapes.num_classes)

    def client_accuracies(self, recall_C: np.ndarray) -> list[float | None]:
        """What each client can expect on clips like its own: recall by class, weighted by the client's mix of classes; None for
        a client without known classes.
        """
        counts = map(self.class_counts, self.clients)
        return [float(counts_C @ recall_C / counts_C.sum()) if counts_C.any() else None for counts_C in counts]

    def of_type(self, *modalities: str) -> tuple[ClientData, ...]:
        """The clients that hold exactly these modalities."""
        return tuple(client for client in self.clients if client.modalities == modalities)


def build_federation(config: ExperimentConfig, table: FeatureTable) -> Federation:
    """Partition the training clips among clients.

    Raises:
        UserError: A split is empty, more clients than the data can fill, or no client left with video.

    """
    table.check_splits(config.data.root if config.data.name == "store" and config.data.root else config.data.name)
    partition = config.partition
    clients = make_clients(table, partition, config.seed)
    clients = with_client_labels(clients, partition, table.shapes.num_classes, config.seed, table.files_N)
    identity: dict[str, Any] = {
        "data": table.fingerprint,
        "partition": _partition_identity(partition, table),
        "seed": config.seed,
    }
    if partition.kind not in KINDS:
        identity["shares"] = shares_digest([client.indices for client in clients])
    if not table.has_video(table.rows("train")).all():
        identity["audio_only_clips"] = "apart"  # distributed differently before, under the same settings
    profile = device_profile(config.clients.profile, len(clients), config.seed)
    return Federation(clients, table, table.shapes, config.seed, identity, profile)


def _partition_identity(partition: PartitionConfig, table: FeatureTable) -> dict[str, Any]:
    """The partition's settings, without label settings that are off, and with the matrix instead of its file's name."""
    off = {"labelled": 1.0, "label_noise": 0.0, "label_confusion": ""}
    content = {name: value for name, value in asdict(partition).items() if name not in off or value != off[name]}
    if partition.label_confusion:
        chances_CC = read_confusion(partition.label_confusion, table.shapes.num_classes)  # a broken file is refused in any case
        content["label_confusion"] = chances_CC.tolist()
    if not partition.label_noise:  # no label is replaced, so the matrix changes nothing
        content.pop("label_confusion", None)
    return content
