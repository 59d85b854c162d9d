"""The workloads of the comparison, and their inputs on disk: written once by the harness, read by every system."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mm_ray.config import FeatureConfig, LocalConfig, ModelConfig
from mm_ray.data.feature_table import FeatureTable
from mm_ray.fed.cohort import sample_cohort
from mm_ray.fed.federation import Federation
from mm_ray.fed.phase import PLAIN_MEAN
from mm_ray.methods.unifl import UniFLAudio
from mm_ray.models.network import PARTS, init_part
from mm_ray.seeding import torch_stream
from mm_ray.types import ClientData, Shapes

ROUNDS = 2000
DEV_CLIPS = 500
SEED = 0
NET = ModelConfig()
SMALL_NET = ModelConfig(conv_channels=(16, 16, 32), hidden=32, classifier_hidden=32)


@dataclass(frozen=True)
class Workload:
    """Clients of equal size, trained on synthetic frames of fixed length."""

    name: str
    clients: int
    clips: int
    cohort: int
    frames: int
    bins: int
    model: ModelConfig
    chunk_size: int
    """Of mm_ray; the others have no such thing."""
    classes: int = 10
    lr: float = 0.05

    def with_dropout(self, probability: float) -> "Workload":
        """The same with another dropout."""
        return replace(self, model=replace(self.model, dropout=probability))

    @property
    def local(self) -> LocalConfig:
        """FedMultimodal's local training with one epoch."""
        return LocalConfig(lr=self.lr, momentum=0.9, weight_decay=1e-5, clip_norm=10.0, epochs=1, batch_size=16)

    @property
    def shapes(self) -> Shapes:
        """Of the data."""
        return Shapes(self.bins, 0, self.classes)


WORKLOADS = {
    "w1": Workload("w1", 100, 40, 10, 200, 80, NET, 5),
    "w2": Workload("w2", 10_000, 10, 1_000, 16, 80, SMALL_NET, 50),
    "w2-1000": Workload("w2-1000", 1_000, 10, 100, 16, 80, SMALL_NET, 50),
    "tiny": Workload("tiny", 100, 4, 10, 64, 96, NET, 5),
}
"""W1 and W2 of the issue; `w2-1000` is W2 with a tenth of the clients; `tiny` has the shape of an earlier comparison's CNN."""


def clients_of(num_clients: int, clips: int, labels_N: np.ndarray) -> tuple[ClientData, ...]:
    """Client i holds the clips from i * clips on."""
    rows = np.arange(num_clients * clips).reshape(num_clients, clips)
    return tuple(ClientData(i, ("audio",), own, labels_N[own]) for i, own in enumerate(rows))


def phase_of(work: Workload, vectorize: bool = True) -> UniFLAudio:
    """FedAvg of the audio network."""
    frac = work.cohort / work.clients
    return UniFLAudio(
        10**9,
        model=work.model,
        local=work.local,
        server=PLAIN_MEAN,  # as the other systems' server
        sample_frac=frac,
        chunk_size=work.chunk_size,
        vectorize=vectorize,
    )


def dropout_of(folder: Path) -> float:
    """The dropout of a folder's inputs."""
    return float(json.loads((folder / "inputs.json").read_text())["dropout"])


def write_inputs(work: Workload, folder: Path, processes: int) -> None:
    """Clips in float32 for the peers and float16 for mm_ray, labels, first parameters, cohorts, settings."""
    rng = np.random.default_rng(SEED)
    total = work.clients * work.clips + DEV_CLIPS
    labels_N = rng.integers(0, work.classes, total)
    signs_CF = rng.standard_normal((work.classes, work.bins), np.float32)
    clips_NTF = rng.standard_normal((total, work.frames, work.bins), np.float32)
    clips_NTF += 0.25 * signs_CF[labels_N][:, None]
    half_NTF = clips_NTF.astype(np.float16)
    np.save(folder / "clips_f16.npy", half_NTF)
    np.save(folder / "clips_f32.npy", half_NTF.astype(np.float32))
    np.save(folder / "labels.npy", labels_N)
    parts = [init_part(part, work.model, work.shapes, torch_stream(SEED, "init", "phase1", part)) for part in PARTS["audio"]]
    np.save(folder / "start.npy", np.concatenate(parts))
    clients = clients_of(work.clients, work.clips, labels_N)
    rounds = range(1, min(ROUNDS, 1_000_000 // work.cohort) + 1)
    cohorts = [[c.id for c in sample_cohort(clients, work.cohort / work.clients, SEED, "phase1", r)] for r in rounds]
    np.save(folder / "cohorts.npy", np.array(cohorts))
    write_settings(work, folder, processes)


def write_settings(work: Workload, folder: Path, processes: int) -> None:
    """The model and the local training, for the peers."""
    (folder / "inputs.json").write_text(json.dumps(settings_of(work, processes)))


def settings_of(work: Workload, processes: int) -> dict[str, Any]:
    """What `benchmarks.peers.plain.Settings` holds."""
    local, model = asdict(work.local), work.model
    return {name: local[name] for name in ("lr", "momentum", "weight_decay", "clip_norm", "batch_size")} | {
        "audio_bins": work.bins,
        "channels": model.conv_channels,
        "hidden": model.hidden,
        "classifier_hidden": model.classifier_hidden,
        "num_classes": work.classes,
        "dropout": model.dropout,
        "clips": work.clips,
        "clients": work.clients,
        "processes": processes,
    }


def table_from(
    audio_XF: np.ndarray, frames: int, labels_N: np.ndarray, splits_N: np.ndarray, classes: int, fingerprint: str
) -> FeatureTable:
    """A feature table of clips of `frames` audio frames each, without video."""
    total = len(labels_N)
    return FeatureTable(
        audio_flat_XF=audio_XF,
        audio_offsets_N1=np.arange(total + 1) * frames,
        video_flat_XD=None,
        video_offsets_N1=np.zeros(total + 1, np.int64),
        labels_N=labels_N,
        groups_N=np.zeros(total, np.int64),
        group_names=("all",),
        splits_N=splits_N,
        clip_ids_N=np.arange(total).astype("U9"),
        class_names=tuple(map(str, range(classes))),
        features=FeatureConfig(),
        fingerprint=fingerprint,
    )


def cpu_s(work: Callable[[], object]) -> float:
    """Processor seconds of some work."""
    started = time.process_time()
    work()
    return time.process_time() - started


def read_table(work: Workload, folder: Path, dev_clips: int) -> FeatureTable:
    """The feature table of a folder; the clips are mapped, not read."""
    # A plain array over the mapped file: numpy pickles its subclasses by value, so each actor would have its own copy.
    clips_NTF = np.asarray(np.load(folder / "clips_f16.npy", mmap_mode="r"))
    total = work.clients * work.clips + dev_clips
    splits_N = np.zeros(total, np.int8)
    splits_N[work.clients * work.clips :] = 1
    audio_XF = clips_NTF.reshape(-1, work.bins)[: total * work.frames]
    labels_N = np.load(folder / "labels.npy")[:total]
    return table_from(audio_XF, work.frames, labels_N, splits_N, work.classes, work.name)


def federation_of(work: Workload, table: FeatureTable) -> Federation:
    """The federation."""
    return Federation(clients_of(work.clients, work.clips, table.labels_N), table, table.shapes, SEED, {"data": work.name})
