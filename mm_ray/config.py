"""The experiment's configuration: one tree of frozen dataclasses, whose docstrings are the `--help` texts.

A field is a flag by its dotted name (`--phase2.temperature 2`). Checks that need only the config live here, so that a wrong
value is refused before anything starts; checks against the data or the cluster live beside the data and the cluster.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mm_ray.errors import bad_value

MODALITIES = ("audio", "video")
PRECOMPUTED = "precomputed"
"""The features of clips whose manifest names arrays."""
FEATURE_RANGES = {
    "sample_rate": (1_000, 192_000),
    "num_mels": (4, 1_024),
    "frame_ms": (2, 10_000),
    "hop_ms": (1, 10_000),
    "max_frames": (1, 10_000_000),
    "fps": (0.0001, 1_000),
    "max_video_frames": (1, 100_000),
    "video_size": (1, 1_024),
}
"""Least and most of the sizes of `FeatureConfig`; a window of the least has two samples, Kaldi's filterbank four bins."""


def _check(ok: bool, name: str, value: object, remedy: str) -> None:
    if not ok:
        raise bad_value(name, value, remedy)


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """Log-mel filterbanks and small video frames (FedMultimodal's recipe, see docs/data.md).

    Args:
        sample_rate: Audio is resampled to this rate, Hz.
        num_mels: Mel bins per audio frame (F).
        frame_ms: Length of an audio frame (Hamming window), ms.
        hop_ms: Shift between audio frames, ms.
        max_frames: At most so many audio frames per clip (T); the rest is cut off.
        fps: Video files are looked at so often, frames per second.
        max_video_frames: At most so many video frames per clip (S), then evenly spaced.
        video: What frames become: `pixels`, `mobilenet_v2` (D = 1280; needs mm-ray[video] and weights), or `module:function` of
            your own. Arrays that the data set names are `precomputed`, which need not be said.
        audio: `log_mel`, or `precomputed` where the data set names arrays, which need not be said.
        normalize: `group` brings video and precomputed features to mean 0 and variance 1 over the clips of each group; `none`
            leaves them as their recipe made them.
        video_size: With `pixels`, frames are scaled to a square of so many pixels a side.
        video_color: With `pixels`, frames keep their brightness (`grey`, D = video_size squared) or colours (`rgb`, three times
            as many).
    """

    sample_rate: int = 16_000
    num_mels: int = 80
    frame_ms: int = 40
    hop_ms: int = 20
    max_frames: int = 500
    fps: float = 1.0
    max_video_frames: int = 10
    video: str = "pixels"
    audio: Literal["log_mel", "precomputed"] = "log_mel"
    normalize: Literal["none", "group"] = "none"
    video_size: int = 16
    video_color: Literal["grey", "rgb"] = "grey"

    def __post_init__(self) -> None:
        """Refuse sizes that no recording has, or that no memory holds."""
        for name, (least, most) in FEATURE_RANGES.items():
            value = getattr(self, name)
            _check(least <= value <= most, f"data.features.{name}", value, f"must lie between {least:,} and {most:,}")
        _check(self.audio in ("log_mel", PRECOMPUTED), "data.features.audio", self.audio, "log_mel or precomputed")
        _check(self.normalize in ("none", "group"), "data.features.normalize", self.normalize, "none or group")
        whole = self.sample_rate % 25 == 0  # the filters that resample to an odd rate fill gigabytes
        _check(whole, "data.features.sample_rate", self.sample_rate, "must be a multiple of 25, as all usual rates are")

    @property
    def audio_s(self) -> float:
        """Seconds of sound that `max_frames` audio frames cover."""
        return (self.frame_ms + self.hop_ms * (self.max_frames - 1)) / 1000


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """Dials of the `synthetic` data set: seeded sound-and-sight events (docs/data.md says how hard they are).

    Args:
        num_classes: Number of event classes (C).
        num_groups: Number of recording groups ("sites"); a natural partition makes each a client.
        clips_per_class: Clips per class over all splits.
        audio_snr_db: Signal-to-noise ratio of the sound, dB. Lower is harder for audio.
        video_noise: Standard deviation of the pixel noise, in units of full scale.
        label_noise: Fraction of the training clips whose label is replaced by a wrong one (dev and test stay clean).
        labelled: Fraction of the training clips that have a label, as in the field, where most have none; 1 labels all.
        data_seed: Seed of the recordings themselves; independent of the experiment's seed.
    """

    num_classes: int = 10
    num_groups: int = 56
    clips_per_class: int = 168
    audio_snr_db: float = 5.0
    video_noise: float = 0.3
    label_noise: float = 0.2
    labelled: float = 0.25
    data_seed: int = 0

    def __post_init__(self) -> None:
        """Refuse dials out of range."""
        _check(self.num_classes >= 2, "data.synthetic.num_classes", self.num_classes, "needs at least 2")
        _check(self.num_groups >= 1, "data.synthetic.num_groups", self.num_groups, "needs at least 1")
        _check(self.clips_per_class >= 10, "data.synthetic.clips_per_class", self.clips_per_class, "needs at least 10")
        _check(0 <= self.label_noise < 1, "data.synthetic.label_noise", self.label_noise, "must lie in [0, 1)")
        _check(0 < self.labelled <= 1, "data.synthetic.labelled", self.labelled, "must lie in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which data, and which features of it.

    Args:
        name: A data set of mm_ray/data/manifests (`synthetic`, `avdigits`, `folder`, ...), a dotted name of your own manifest
            module, or a feature store that `mm_ray.prepare` wrote: a path or URI, short for `store` with that `root`.
        root: Folder of the recordings, where the data set has one, or of the feature store.
        annotations: The data set's own lists (a file or folder), where they do not lie in `root` under their usual name.
        classes: Only these classes: names with commas between them, or a file with one a line. Empty: all.
        video_weights: File of the weights of `features.video`, a path or URI. Empty: torchvision's cache.
        folds: Kind of train/dev/test splits, where a data set has several (docs/data.md), such as `known` of avdigits. Empty:
            its first kind.
        fold: Which of these splits to use.
        dev_from_train: Where the data has no dev clips: this fraction of the training groups becomes the dev split. 0 is off.
        group_pattern: Of `folder` and `csv`: a regular expression that finds the group (the speaker) in a file's path below
            `root`, such as `/(spk[0-9]+)_`. Empty: the subfolder, or the column `group`.
        features: How clips become features.
        synthetic: Dials of the `synthetic` data set.
    """

    name: str = "synthetic"
    root: str = ""
    annotations: str = ""
    classes: str = ""
    video_weights: str = ""
    folds: str = ""
    fold: int = 0
    dev_from_train: float = 0.0
    group_pattern: str = ""
    features: FeatureConfig = field(default_factory=FeatureConfig)
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)

    def __post_init__(self) -> None:
        """Take a path as the root of a feature store, so that names of runs hold no path."""
        ok = 0 <= self.dev_from_train < 1
        _check(ok, "data.dev_from_train", self.dev_from_train, "is a fraction in [0, 1); 0.2 takes a fifth of the groups")
        if "/" in self.name:
            _check(not self.root, "data.root", self.root, f"the store {self.name} has no recordings; leave it out")
            object.__setattr__(self, "root", self.name)
            object.__setattr__(self, "name", "store")


@dataclass(frozen=True, kw_only=True)
class PartitionConfig:
    """Which client holds which clips, and which clients lack video.

    Args:
        kind: `dirichlet` draws each class's share per client from Dirichlet(alpha); `natural` makes each group a client;
            `fedmultimodal` is that benchmark's own draw for UCF101 (docs/data.md).
        num_clients: Number of clients of the Dirichlet partition.
        alpha: Dirichlet concentration; small is heterogeneous (0.1), large is even (5).
        min_clips: Every client of the Dirichlet partition gets at least so many clips.
        video_missing: Fraction q of the clients that hold audio only; the sets are nested over q.
        labelled: Fraction of the labelled training clips that keep their label; the sets are nested over it. Distillation uses
            the others too, all else needs labels.
        label_noise: Fraction of the training clips whose label is replaced by another one (dev and test keep theirs).
        label_confusion: CSV file of a matrix (C, C) that says which: row = the class, numbers = chances of each label given to
            a clip whose label is replaced. Empty: all other classes alike.
    """

    kind: Literal["dirichlet", "natural", "fedmultimodal"] = "dirichlet"
    num_clients: int = 20
    alpha: float = 5.0
    min_clips: int = 5
    video_missing: float = 0.5
    labelled: float = 1.0
    label_noise: float = 0.0
    label_confusion: str = ""

    def __post_init__(self) -> None:
        """Refuse values without a meaning."""
        _check(self.num_clients >= 1, "partition.num_clients", self.num_clients, "needs at least 1 client")
        _check(self.alpha > 0, "partition.alpha", self.alpha, "must be above 0; 0.1 is heterogeneous, 5 is even")
        _check(self.min_clips >= 1, "partition.min_clips", self.min_clips, "needs at least 1")
        _check(0 <= self.video_missing <= 1, "partition.video_missing", self.video_missing, "is a fraction in [0, 1]")
        _check(0 < self.labelled <= 1, "partition.labelled", self.labelled, "must lie in (0, 1]; 1 keeps all labels")
        _check(0 <= self.label_noise < 1, "partition.label_noise", self.label_noise, "must lie in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes of the encoders, the fusion and the heads (defaults: FedMultimodal's).

    Args:
        conv_channels: Channels of the audio encoder's three convolutions.
        hidden: Width of the GRUs (H).
        audio_pooling: How the audio network pools over time: `mean` or `attention`.
        attention_size: Hidden size of the attention scores.
        attention_heads: Number of attention heads; each gives one weighted sum.
        classifier_hidden: Hidden size of the classifier.
        dropout: Dropout probability in encoders and classifier.
    """

    conv_channels: tuple[int, int, int] = (32, 64, 128)
    hidden: int = 128
    audio_pooling: Literal["mean", "attention"] = "mean"
    attention_size: int = 512
    attention_heads: int = 6
    classifier_hidden: int = 64
    dropout: float = 0.1

    def __post_init__(self) -> None:
        """Refuse sizes without a meaning, and a dropout that drops everything."""
        _check(min(self.conv_channels) >= 1, "model.conv_channels", self.conv_channels, "need at least 1 each")
        for name in ("hidden", "attention_size", "attention_heads", "classifier_hidden"):
            _check(getattr(self, name) >= 1, f"model.{name}", getattr(self, name), "needs at least 1")
        _check(self.audio_pooling in ("mean", "attention"), "model.audio_pooling", self.audio_pooling, "mean or attention")
        _check(0 <= self.dropout < 1, "model.dropout", self.dropout, "must lie in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class LocalConfig:
    """A client's local training; its optimiser starts afresh in every round.

    Args:
        optimizer: `sgd` (with momentum) or `adam`.
        lr: Learning rate; try 0.001 with adam.
        warmup_rounds: The learning rate rises in equal steps over the first rounds; 0 is off.
        momentum: Momentum of sgd, decay of the first moment of adam.
        weight_decay: L2 weight decay.
        clip_norm: Gradients are scaled down to this norm; 0 switches it off.
        epochs: Local epochs per round. An epoch has as many steps as all clips of the client fill, also where only some have a
            label: these are used again, so that methods are compared at equal steps.
        steps: SGD steps per round, in the place of `epochs`; 0 takes `epochs`.
        batch_size: Clips per batch (B).
        prox_mu: FedProx: weight of half the squared distance to the parameters received, added to the loss; 0 is off.
        scaffold: SCAFFOLD: correct each gradient by control variates; twice the bytes.
    """

    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.05
    warmup_rounds: int = 0
    momentum: float = 0.9
    weight_decay: float = 1e-5
    clip_norm: float = 1.0
    epochs: int = 3
    steps: int = 0
    batch_size: int = 16
    prox_mu: float = 0.0
    scaffold: bool = False

    def __post_init__(self) -> None:
        """Refuse a training that cannot move."""
        _check(self.prox_mu >= 0, "local.prox_mu", self.prox_mu, "must be 0 (off) or above; FedProx tries 0.001 to 1")
        _check(self.lr > 0, "local.lr", self.lr, "must be above 0")
        _check(0 <= self.momentum < 1, "local.momentum", self.momentum, "must lie in [0, 1)")
        _check(self.epochs >= 1, "local.epochs", self.epochs, "needs at least 1")
        _check(self.steps >= 0, "local.steps", self.steps, "must be 0 (local.epochs counts) or above")
        _check(self.warmup_rounds >= 0, "local.warmup_rounds", self.warmup_rounds, "must be 0 (off) or above")
        if self.optimizer == "adam":
            _check(self.lr < 0.03, "local.lr", self.lr, "moves each parameter by as much in a step of adam; try 0.001")
            _check(not self.scaffold, "local.scaffold", self.scaffold, "goes with local.optimizer sgd only")
        _check(self.batch_size >= 1, "local.batch_size", self.batch_size, "needs at least 1")


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """The server's step from the mean change of its clients (FedOpt, Reddi et al. 2021; `fedavg` takes the change itself).

    Args:
        optimizer: `fedavg`, `sgd` (with momentum), `adam` or `yogi`.
        lr: The server's learning rate; 0 takes 1 for fedavg and sgd, 0.01 for adam and yogi.
        momentum: Momentum of sgd, decay of the first moment of adam and yogi.
        beta2: Decay of the second moment of adam and yogi.
        tau: Added to the root of the second moment; the smaller, the more adaptive.
        rule: How the clients' changes become one: `mean`, a rule of mm_ray/fed/rules (`median`, `trimmed_mean`, `krum`) against
            bad clients, which counts each client once, or a dotted name of your own.
        bad_frac: Fraction of a round's clients that may be bad, for `trimmed_mean` and `krum`.
        max_norm: A client's change with a longer L2 norm is set aside; 0 sets no bound. Broken ones are set aside always.
        clip_norm: A client's change is shortened to this L2 norm; 0 leaves it.
        average: Decay of the moving average of the server's parameters over rounds, which is evaluated and handed on and never
            sent to clients; in early rounds it is less, (1 + r) / (10 + r) in round r. 0 is off.
        noise: Client-level differential privacy (DP-FedAvg): standard deviation of the noise on the sum of their changes,
            in units of clip_norm; 0 is off. Needs mm-ray[privacy].
    """

    optimizer: Literal["fedavg", "sgd", "adam", "yogi"] = "sgd"
    lr: float = 0.0
    momentum: float = 0.5
    beta2: float = 0.99
    tau: float = 1e-3
    rule: str = "mean"
    bad_frac: float = 0.2
    max_norm: float = 0.0
    clip_norm: float = 0.0
    average: float = 0.8
    noise: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a step that cannot move, and bounds without a meaning."""
        for name in ("max_norm", "clip_norm", "noise"):
            _check(getattr(self, name) >= 0, f"server.{name}", getattr(self, name), "must be 0 (off) or above")
        _check(0 <= self.bad_frac < 0.5, "server.bad_frac", self.bad_frac, "is a fraction in [0, 0.5)")
        _check(not self.noise or self.clip_norm > 0, "server.noise", self.noise, "needs a server.clip_norm; try 1")
        _check(not self.noise or self.rule == "mean", "server.noise", self.noise, "goes with server.rule mean only")
        _check(0 <= self.average < 1, "server.average", self.average, "must lie in [0, 1); 0 is off")
        _check(self.lr >= 0, "server.lr", self.lr, "must be 0 (the optimizer's own) or above")
        _check(0 <= self.momentum < 1, "server.momentum", self.momentum, "must lie in [0, 1)")
        _check(0 <= self.beta2 < 1, "server.beta2", self.beta2, "must lie in [0, 1)")
        _check(self.tau > 0, "server.tau", self.tau, "must be above 0; 0.001 is the default")

    @property
    def step(self) -> float:
        """The learning rate that is used."""
        return self.lr or (0.01 if self.optimizer in ("adam", "yogi") else 1.0)


@dataclass(frozen=True, kw_only=True)
class Phase1Config:
    """Phase 1: modality-wise FL, and the audiovisual teacher from it.

    Args:
        kind: `modality_wise` averages one network per modality, then a fusion step makes the teacher; `joint` trains the whole
            fusion model on the audiovisual clients and the audio part on the others.
        rounds: Rounds of the phase, the fusion step included.
        fusion_frac: Fraction of these rounds that the fusion step of `modality_wise` gets.
        local: Local training of the clients.
        server: The server's step.
    """

    kind: Literal["modality_wise", "joint"] = "modality_wise"
    rounds: int = 64
    fusion_frac: float = 0.125
    local: LocalConfig = field(default_factory=LocalConfig)
    server: ServerConfig = field(default_factory=ServerConfig)

    def __post_init__(self) -> None:
        """Refuse a phase without rounds."""
        _check(self.rounds >= 2, "phase1.rounds", self.rounds, "needs at least 2: one unimodal, one fusion round")
        _check(0 < self.fusion_frac < 1, "phase1.fusion_frac", self.fusion_frac, "must lie in (0, 1); 0.125 is the default")

    @property
    def fusion_rounds(self) -> int:
        """Rounds of the fusion step: at least one, and at least one is left for the encoders."""
        return min(max(round(self.rounds * self.fusion_frac), 1), self.rounds - 1)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Settings of single distillation losses; one that the chosen loss does not read has no effect.

    The defaults are those that their papers publish, tuned on CIFAR: tune them anew.

    Args:
        dkd_alpha: Weight of DKD's target-class part.
        dkd_beta: Weight of DKD's non-target part.
        c2kd_min_tau: C2KD keeps a clip if Kendall's tau between teacher and student over the classes is above this.
        rkd_distance: Weight of RKD's distances.
        rkd_angle: Weight of RKD's angles.
        crd_weight: Weight of CRD.
        crd_tau: Temperature of CRD's cosines.
        projection_seed: Seed of the fixed random projection of the teacher's features, which FitNets and CRD read (our choice).
    """

    dkd_alpha: float = 1.0
    dkd_beta: float = 8.0
    c2kd_min_tau: float = 0.0
    rkd_distance: float = 25.0
    rkd_angle: float = 50.0
    crd_weight: float = 0.8
    crd_tau: float = 0.07
    projection_seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values without a meaning."""
        for name in ("dkd_alpha", "dkd_beta", "rkd_distance", "rkd_angle", "crd_weight"):
            _check(getattr(self, name) >= 0, f"phase2.losses.{name}", getattr(self, name), "is a weight of at least 0")
        _check(-1 <= self.c2kd_min_tau < 1, "phase2.losses.c2kd_min_tau", self.c2kd_min_tau, "must lie in [-1, 1)")
        _check(self.crd_tau > 0, "phase2.losses.crd_tau", self.crd_tau, "must be above 0; 0.07 is the paper's")


@dataclass(frozen=True, kw_only=True)
class Phase2Config:
    """Phase 2: federated distillation of the teacher into the audio-only student.

    Args:
        rounds: Rounds of the phase.
        loss: A loss of mm_ray/distill/losses, a dotted name of your own, or a weighted sum of several: `kd:0.7+rkd:0.3`.
        losses: Settings of single losses.
        loss_weight: Weight a of the distillation loss; the objective is (1-a) * cross-entropy + a * loss. 0 is the control.
        temperature: Softens teacher and student; the loss carries its own factor temperature squared.
        class_temperature: Strength of class-wise temperatures: a class in which the teacher leads the student by more than its
            average gets a lower one (FedCMI's rule, whose code has 2); 0 is one temperature for all.
        student_init: Start from phase 1's audio network (`phase1`) or anew (`random`).
        audio_clients: `train`: audio-only clients go on with cross-entropy; `idle`: they only receive the student (the paper's
            text).
        local: Local training of the clients.
        server: The server's step.
    """

    rounds: int = 24
    loss: str = "kd"
    losses: LossConfig = field(default_factory=LossConfig)
    loss_weight: float = 0.9
    temperature: float = 2.0
    class_temperature: float = 0.0
    student_init: Literal["phase1", "random"] = "phase1"
    audio_clients: Literal["idle", "train"] = "train"
    local: LocalConfig = field(default_factory=LocalConfig)
    server: ServerConfig = field(default_factory=ServerConfig)

    def __post_init__(self) -> None:
        """Refuse values without a meaning."""
        _check(self.rounds >= 1, "phase2.rounds", self.rounds, "needs at least 1")
        _check(0 <= self.loss_weight <= 1, "phase2.loss_weight", self.loss_weight, "is a weight in [0, 1]")
        _check(self.temperature > 0, "phase2.temperature", self.temperature, "must be above 0; try 1 to 20")
        _check(
            self.class_temperature >= 0, "phase2.class_temperature", self.class_temperature, "must be 0 (off) or above; try 2"
        )


@dataclass(frozen=True, kw_only=True)
class ClientsConfig:
    """The cohort of a round, and the Ray actors that play the clients.

    Args:
        sample_frac: Fraction of each client type (audio-only, audiovisual) per round, at least one of each.
        dropout_frac: Each sampled client fails to answer with this probability: it gets the parameters and sends nothing.
        deadline_s: A training round goes on after so many seconds with what has arrived, at least one chunk, and names the
            clients that were late; 0 waits for all. Who is late hangs on the machine: such a run is not repeatable bit for bit.
        chunk_size: Clients per chunk, the unit of work that an actor pulls and that is retried if it dies.
        vectorize: Train the clients of a chunk together, as one stacked network (`on`) or one by one (`off`); the results
            differ in their last bits. `auto` is what was measured to be faster (docs/speed.md).
        num_actors: Client actors of a run or of each trial; 0 takes all free CPUs for a single run and 1 for a trial.
        num_cpus: CPUs per actor, may be a fraction.
        num_gpus: GPUs per actor, may be a fraction; 0 trains on the CPU.
    """

    sample_frac: float = 0.3
    dropout_frac: float = 0.0
    deadline_s: float = 0.0
    chunk_size: int = 2
    vectorize: Literal["auto", "on", "off"] = "auto"
    num_actors: int = 0
    num_cpus: float = 1.0
    num_gpus: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values without a meaning."""
        _check(0 < self.sample_frac <= 1, "clients.sample_frac", self.sample_frac, "is a fraction in (0, 1]")
        _check(0 <= self.dropout_frac < 1, "clients.dropout_frac", self.dropout_frac, "is a fraction in [0, 1)")
        _check(0 <= self.deadline_s < math.inf, "clients.deadline_s", self.deadline_s, "needs 0 (wait for all) or more seconds")
        _check(self.chunk_size >= 1, "clients.chunk_size", self.chunk_size, "needs at least 1 client")
        _check(self.num_actors >= 0, "clients.num_actors", self.num_actors, "needs 0 (as many as fit) or more")
        _check(self.num_cpus >= 0.01, "clients.num_cpus", self.num_cpus, "needs at least 0.01; a fraction such as 0.25 is fine")
        whole = self.num_gpus == round(self.num_gpus) >= 0
        _check(
            whole or 0.01 <= self.num_gpus < 1, "clients.num_gpus", self.num_gpus, "must be whole or a fraction such as 0.25"
        )


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """One experiment: everything that its result depends on.

    Args:
        data: Which data, and which features of it.
        partition: Which client holds which clips, and which clients lack video.
        model: Sizes of the networks.
        method: A method of mm_ray/methods (`modality_mirror`, `control`) or a dotted name of your own.
        phase1: Modality-wise FL and the teacher.
        phase2: Federated distillation.
        clients: Cohort and actors.
        seed: Seed of every random stream of the experiment.
    """

    data: DataConfig = field(default_factory=DataConfig)
    partition: PartitionConfig = field(default_factory=PartitionConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    method: str = "modality_mirror"
    phase1: Phase1Config = field(default_factory=Phase1Config)
    phase2: Phase2Config = field(default_factory=Phase2Config)
    clients: ClientsConfig = field(default_factory=ClientsConfig)
    seed: int = 0


def with_overrides(config: Any, overrides: Mapping[str, Any]) -> Any:
    """A copy of a config tree with dotted fields replaced, checked anew.

    Args:
        config: Any dataclass of this file.
        overrides: `{"phase2.temperature": 2.0}`.

    Raises:
        UserError: A name that is no field (the error lists the fields), or a value out of range.

    """
    for name, value in overrides.items():
        config = _replace(config, name, name.split("."), value)
    return config


def _replace(node: Any, full_name: str, path: list[str], value: Any) -> Any:
    names = [f.name for f in dataclasses.fields(node)] if dataclasses.is_dataclass(node) else []
    _check(path[0] in names, full_name, value, f"no such field; here are: {', '.join(names) or 'none'}")
    old = getattr(node, path[0])
    new = _replace(old, full_name, path[1:], value) if len(path) > 1 else value
    return dataclasses.replace(node, **{path[0]: new})


def read_features(content: Mapping[str, Any]) -> FeatureConfig:
    """The feature settings in a file that another has written.

    Raises:
        TypeError: A setting that there is none of, or of another type.
        UserError: A size out of range.

    """
    for name, default in vars(FeatureConfig()).items():
        kinds = (int, float) if isinstance(default, float) else (type(default),)
        if type(content.get(name, default)) not in kinds:
            raise TypeError(f"features.{name} is {content[name]!r}")
    return FeatureConfig(**content)


def read_names(content: Any) -> tuple[str, ...]:
    """The class names in a file that another has written.

    Raises:
        TypeError: It is no list of texts, or empty.

    """
    if not isinstance(content, list) or not content or not all(isinstance(name, str) for name in content):
        raise TypeError(f"class_names is {content!r}")
    return tuple(content)


def to_dict(config: Any) -> dict[str, Any]:
    """The config as nested dictionaries of plain values (what `config.yaml` holds)."""
    return dataclasses.asdict(config)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one level of dotted names."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
