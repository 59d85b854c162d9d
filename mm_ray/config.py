"""The experiment's configuration: one tree of frozen sections, whose attribute docstrings are the `--help` texts.

A field is a flag by its dotted name (`--phase2.temperature 2`). Types, choices and ranges stand in the annotations and
`mm_ray.validation` checks them; checks against the data or the cluster stand beside the data and the cluster.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import Field, Strict

from mm_ray.errors import bad_value
from mm_ray.validation import fields_of, section
from mm_ray.validation import with_overrides as with_overrides

MODALITIES = ("audio", "video")
PRECOMPUTED = "precomputed"
"""The features of clips whose manifest names arrays."""

Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]
AtLeastZero = Annotated[float, Field(ge=0)]
AboveZero = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]


@section(frozen=True, kw_only=True)
class FeatureConfig:
    """Log-mel filterbanks and small video frames (FedMultimodal's recipe, see docs/data.md)."""

    sample_rate: Annotated[int, Field(ge=1_000, le=192_000, multiple_of=25)] = 16_000
    """Audio is resampled to this rate, Hz."""
    num_mels: Annotated[int, Field(ge=4, le=1_024)] = 80
    """Mel bins per audio frame (F)."""
    frame_ms: Annotated[int, Field(ge=2, le=10_000)] = 40
    """Length of an audio frame (Hamming window), ms."""
    hop_ms: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Shift between audio frames, ms."""
    max_frames: Annotated[int, Field(ge=1, le=10_000_000)] = 500
    """At most so many audio frames per clip (T); the rest is cut off."""
    fps: Annotated[float, Field(ge=0.0001, le=1_000)] = 1.0
    """Video files are looked at so often, frames per second."""
    max_video_frames: Annotated[int, Field(ge=1, le=100_000)] = 10
    """At most so many video frames per clip (S), then evenly spaced."""
    video: str = "pixels"
    """Video features: `pixels`, `mobilenet_v2` (D = 1280; needs mm-ray[video] and weights), or `module:function` of your own.
    Arrays that the data set names are `precomputed`, which need not be said.
    """
    audio: Literal["log_mel", "precomputed"] = "log_mel"
    """Audio features: `log_mel`, or `precomputed` where the data set names arrays, which need not be said."""
    normalize: Literal["none", "group"] = "none"
    """`group` brings video and precomputed features to mean 0 and variance 1 over the clips of each group; `none` leaves them
    as their recipe made them.
    """
    video_size: Annotated[int, Field(ge=1, le=1_024)] = 16
    """With `pixels`, frames are scaled to a square of so many pixels a side."""
    video_color: Literal["grey", "rgb"] = "grey"
    """With `pixels`, frames keep their brightness (`grey`, D = video_size squared) or colours (`rgb`, three times as many)."""

    @property
    def audio_s(self) -> float:
        """Seconds of sound that `max_frames` audio frames cover."""
        return (self.frame_ms + self.hop_ms * (self.max_frames - 1)) / 1000


@section(frozen=True, kw_only=True)
class SyntheticConfig:
    """Dials of the `synthetic` data set: seeded sound-and-sight events (docs/data.md says how hard they are)."""

    num_classes: Annotated[int, Field(ge=2)] = 10
    """Number of event classes (C)."""
    num_groups: Count = 56
    """Number of recording groups ("sites"); a natural partition makes each a client."""
    clips_per_class: Annotated[int, Field(ge=10)] = 168
    """Clips per class over all splits."""
    audio_snr_db: float = 5.0
    """Signal-to-noise ratio of the sound, dB. Lower is harder for audio."""
    video_noise: AtLeastZero = 0.3
    """Standard deviation of the pixel noise, in units of full scale."""
    label_noise: BelowOne = 0.2
    """Fraction of the training clips whose label is replaced by a wrong one (dev and test stay clean)."""
    labelled: Share = 0.25
    """Fraction of the training clips that have a label, as in the field, where most have none; 1 labels all."""
    data_seed: int = 0
    """Seed of the recordings themselves; independent of the experiment's seed."""


@section(frozen=True, kw_only=True)
class DataConfig:
    """Which data, and which features of it."""

    name: str = "synthetic"
    """A data set of mm_ray/data/datasets (`synthetic`, `avdigits`, `folder`, ...), your own (`mine.py`, `lab.mine`),
    or a feature store that `mm_ray.prepare` wrote: a path or URI, short for `store` with that `root`.
    """
    root: str = ""
    """Folder of the recordings, where the data set has one, or of the feature store."""
    annotations: str = ""
    """The data set's own lists (a file or folder), where they do not lie in `root` under their usual name."""
    classes: str = ""
    """Only these classes: names with commas between them, or a file with one a line. Empty: all."""
    video_weights: str = ""
    """File of the weights of `features.video`, a path or URI. Empty: torchvision's cache."""
    folds: str = ""
    """Kind of train/dev/test splits, where a data set has several (docs/data.md), such as `known` of avdigits. Empty: its first
    kind.
    """
    fold: CountOrNone = 0
    """Which of these splits to use."""
    dev_from_train: BelowOne = 0.0
    """Where the data has no dev clips: this fraction of the training groups becomes the dev split. 0 is off."""
    group_pattern: str = ""
    """Of `folder` and `csv`: a regular expression that finds the group (the speaker) in a file's path below `root`, such as
    `/(spk[0-9]+)_`. Empty: the subfolder, or the column `group`.
    """
    label_column: str = "label"
    """Of `csv`, and of `folder` with a metadata file: the column that holds the label."""
    features: FeatureConfig = field(default_factory=FeatureConfig)
    """How clips become features."""
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    """Dials of the `synthetic` data set."""

    def __post_init__(self) -> None:
        """Take a path as the root of a feature store, so that names of runs hold no path."""
        if "/" in self.name and not self.name.partition(":")[0].endswith(".py"):
            if self.root:
                raise bad_value("root", self.root, f"the store {self.name} has no recordings; leave it out")
            object.__setattr__(self, "root", self.name)
            object.__setattr__(self, "name", "store")


@section(frozen=True, kw_only=True)
class PartitionConfig:
    """Which client holds which clips, and which clients lack video."""

    kind: Literal["dirichlet", "natural", "fedmultimodal"] = "dirichlet"
    """`dirichlet` draws each class's share per client from Dirichlet(alpha); `natural` makes each group a client;
    `fedmultimodal` is that benchmark's own draw for UCF101 (docs/data.md).
    """
    num_clients: Count = 20
    """Number of clients of the Dirichlet partition."""
    alpha: AboveZero = 5.0
    """Dirichlet concentration; small is heterogeneous (0.1), large is even (5)."""
    min_clips: Count = 5
    """Every client of the Dirichlet partition gets at least so many clips."""
    video_missing: Fraction = 0.5
    """Fraction q of the clients that hold audio only; the sets are nested over q."""
    labelled: Share = 1.0
    """Fraction of the labelled training clips that keep their label; the sets are nested over it. Distillation uses the others
    too, all else needs labels.
    """
    label_noise: BelowOne = 0.0
    """Fraction of the training clips whose label is replaced by another one (dev and test keep theirs)."""
    label_confusion: str = ""
    """CSV file of a matrix (C, C) that says which: row = the class, numbers = chances of each label given to a clip whose label
    is replaced. Empty: all other classes alike.
    """


@section(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes of the encoders, the fusion and the heads (defaults: FedMultimodal's)."""

    conv_channels: Annotated[tuple[Count, Count, Count], Strict(False)] = (32, 64, 128)
    """Channels of the audio encoder's three convolutions."""
    hidden: Count = 128
    """Width of the GRUs (H)."""
    audio_pooling: Literal["mean", "attention"] = "mean"
    """How the audio network pools over time: `mean` or `attention`."""
    attention_size: Count = 512
    """Hidden size of the attention scores."""
    attention_heads: Count = 6
    """Number of attention heads; each gives one weighted sum."""
    classifier_hidden: Count = 64
    """Hidden size of the classifier."""
    dropout: BelowOne = 0.1
    """Dropout probability in encoders and classifier."""


@section(frozen=True, kw_only=True)
class LocalConfig:
    """A client's local training; its optimiser starts afresh in every round."""

    optimizer: Literal["sgd", "adam"] = "sgd"
    """`sgd` (with momentum) or `adam`."""
    lr: AboveZero = 0.05
    """Learning rate; try 0.001 with adam."""
    warmup_rounds: CountOrNone = 0
    """The learning rate rises in equal steps over the first rounds; 0 is off."""
    momentum: BelowOne = 0.9
    """Momentum of sgd, decay of the first moment of adam."""
    weight_decay: AtLeastZero = 1e-5
    """L2 weight decay."""
    clip_norm: AtLeastZero = 1.0
    """Gradients are scaled down to this norm; 0 switches it off."""
    epochs: Count = 3
    """Local epochs per round. An epoch has as many steps as all clips of the client fill, also where only some have a label:
    these are used again, so that methods are compared at equal steps.
    """
    steps: CountOrNone = 0
    """SGD steps per round, in the place of `epochs`; 0 takes `epochs`."""
    batch_size: Count = 16
    """Clips per batch (B)."""
    prox_mu: AtLeastZero = 0.0
    """FedProx: weight of half the squared distance to the parameters received, added to the loss; 0 is off."""
    scaffold: bool = False
    """SCAFFOLD: correct each gradient by control variates; twice the bytes."""

    def __post_init__(self) -> None:
        """Refuse what does not go with adam."""
        if self.optimizer == "adam" and self.lr >= 0.03:
            raise bad_value("lr", self.lr, "moves each parameter by as much in a step of adam; try 0.001")
        if self.optimizer == "adam" and self.scaffold:
            raise bad_value("scaffold", self.scaffold, "goes with --optimizer sgd only")


@section(frozen=True, kw_only=True)
class ServerConfig:
    """The server's step from the mean change of its clients (FedOpt, Reddi et al. 2021; `fedavg` takes the change itself)."""

    optimizer: Literal["fedavg", "sgd", "adam", "yogi"] = "sgd"
    """`fedavg`, `sgd` (with momentum), `adam` or `yogi`."""
    lr: AtLeastZero = 0.0
    """The server's learning rate; 0 takes 1 for fedavg and sgd, 0.01 for adam and yogi."""
    momentum: BelowOne = 0.5
    """Momentum of sgd, decay of the first moment of adam and yogi."""
    beta2: BelowOne = 0.99
    """Decay of the second moment of adam and yogi."""
    tau: AboveZero = 1e-3
    """Added to the root of the second moment; the smaller, the more adaptive."""
    rule: str = "mean"
    """How the clients' changes become one: `mean`, an aggregator of mm_ray/fed/aggregators (`median`, `trimmed_mean`, `krum`)
    against bad clients, which counts each client once, or your own (`mine.py:thing`).
    """
    bad_frac: Annotated[float, Field(ge=0, lt=0.5)] = 0.2
    """Fraction of a round's clients that may be bad, for `trimmed_mean` and `krum`."""
    max_norm: AtLeastZero = 0.0
    """A client's change with a longer L2 norm is set aside; 0 sets no bound. Broken ones are set aside always."""
    clip_norm: AtLeastZero = 0.0
    """A client's change is shortened to this L2 norm; 0 leaves it."""
    average: BelowOne = 0.8
    """Decay of the moving average of the server's parameters over rounds, which is evaluated and handed on and never sent to
    clients; in early rounds it is less, (1 + r) / (10 + r) in round r. 0 is off.
    """
    noise: AtLeastZero = 0.0
    """Client-level differential privacy (DP-FedAvg): standard deviation of the noise on the sum of their changes, in units of
    clip_norm; 0 is off. Needs mm-ray[privacy].
    """

    def __post_init__(self) -> None:
        """Refuse noise without what it needs."""
        if self.noise and not self.clip_norm:
            raise bad_value("noise", self.noise, "needs --clip_norm; try 1")
        if self.noise and self.rule != "mean":
            raise bad_value("noise", self.noise, "goes with --rule mean only")

    @property
    def step(self) -> float:
        """The learning rate that is used."""
        return self.lr or (0.01 if self.optimizer in ("adam", "yogi") else 1.0)


@section(frozen=True, kw_only=True)
class Phase1Config:
    """Phase 1: modality-wise FL, and the audiovisual teacher from it."""

    kind: Literal["modality_wise", "joint"] = "modality_wise"
    """`modality_wise` averages one network per modality, then a fusion step makes the teacher; `joint` trains the whole fusion
    model on the audiovisual clients and the audio part on the others.
    """
    rounds: Annotated[int, Field(ge=2)] = 64
    """Rounds of the phase, the fusion step included."""
    fusion_frac: Annotated[float, Field(gt=0, lt=1)] = 0.125
    """Fraction of these rounds that the fusion step of `modality_wise` gets."""
    local: LocalConfig = field(default_factory=LocalConfig)
    """Local training of the clients."""
    server: ServerConfig = field(default_factory=ServerConfig)
    """The server's step."""

    @property
    def fusion_rounds(self) -> int:
        """Rounds of the fusion step: at least one, and at least one is left for the encoders."""
        return min(max(round(self.rounds * self.fusion_frac), 1), self.rounds - 1)


@section(frozen=True, kw_only=True)
class LossConfig:
    """Settings of single distillation losses; one that the chosen loss does not read has no effect.

    The defaults are those that their papers publish, tuned on CIFAR: tune them anew.
    """

    dkd_alpha: AtLeastZero = 1.0
    """Weight of DKD's target-class part."""
    dkd_beta: AtLeastZero = 8.0
    """Weight of DKD's non-target part."""
    c2kd_min_tau: Annotated[float, Field(ge=-1, lt=1)] = 0.0
    """C2KD keeps a clip if Kendall's tau between teacher and student over the classes is above this."""
    rkd_distance: AtLeastZero = 25.0
    """Weight of RKD's distances."""
    rkd_angle: AtLeastZero = 50.0
    """Weight of RKD's angles."""
    crd_weight: AtLeastZero = 0.8
    """Weight of CRD."""
    crd_tau: AboveZero = 0.07
    """Temperature of CRD's cosines."""
    projection_seed: int = 0
    """Seed of the fixed random projection of the teacher's features, which FitNets and CRD read (our choice)."""


@section(frozen=True, kw_only=True)
class Phase2Config:
    """Phase 2: federated distillation of the teacher into the audio-only student."""

    rounds: Count = 24
    """Rounds of the phase."""
    loss: str = "kd"
    """A loss of mm_ray/losses, your own (`mine`, `mine.py:thing`, `lab.mine`), or a weighted sum: `kd:0.7+mine:0.3`."""
    losses: LossConfig = field(default_factory=LossConfig)
    """Settings of single losses."""
    loss_weight: Fraction = 0.9
    """Weight a of the distillation loss; the objective is (1-a) * cross-entropy + a * loss. 0 is the control."""
    temperature: AboveZero = 2.0
    """Softens teacher and student; the loss carries its own factor temperature squared."""
    class_temperature: AtLeastZero = 0.0
    """Strength of class-wise temperatures: a class in which the teacher leads the student by more than its average gets a lower
    one (FedCMI's rule, whose code has 2); 0 is one temperature for all.
    """
    student_init: Literal["phase1", "random"] = "phase1"
    """Start from phase 1's audio network (`phase1`) or anew (`random`)."""
    audio_clients: Literal["idle", "train"] = "train"
    """`train`: audio-only clients go on with cross-entropy; `idle`: they only receive the student (the paper's text)."""
    local: LocalConfig = field(default_factory=LocalConfig)
    """Local training of the clients."""
    server: ServerConfig = field(default_factory=ServerConfig)
    """The server's step."""


@section(frozen=True, kw_only=True)
class ClientsConfig:
    """The cohort of a round, and the Ray actors that play the clients."""

    sample_frac: Share = 0.3
    """Fraction of each client type (audio-only, audiovisual) per round, at least one of each."""
    dropout_frac: BelowOne = 0.0
    """Each sampled client fails to answer with this probability: it gets the parameters and sends nothing."""
    deadline_s: AtLeastZero = 0.0
    """A training round goes on after so many seconds with what has arrived, at least one chunk, and names the clients that were
    late; 0 waits for all. Who is late hangs on the machine: such a run is not repeatable bit for bit.
    """
    chunk_size: Count = 2
    """Clients per chunk, the unit of work that an actor pulls and that is retried if it dies."""
    vectorize: Literal["auto", "on", "off"] = "auto"
    """Train the clients of a chunk together, as one stacked network (`on`) or one by one (`off`); the results differ in their
    last bits. `auto` is what was measured to be faster (docs/speed.md).
    """
    num_actors: CountOrNone = 0
    """Client actors of a run or of each trial; 0 takes all free CPUs for a single run and 1 for a trial."""
    num_cpus: Annotated[float, Field(ge=0.01)] = 1.0
    """CPUs per actor, may be a fraction."""
    num_gpus: AtLeastZero = 0.0
    """GPUs per actor, may be a fraction; 0 trains on the CPU."""

    def __post_init__(self) -> None:
        """Refuse parts of several GPUs, which Ray does not have."""
        if self.num_gpus != round(self.num_gpus) and not 0.01 <= self.num_gpus < 1:
            raise bad_value("num_gpus", self.num_gpus, "must be whole or a fraction such as 0.25")


@section(frozen=True, kw_only=True)
class ExperimentConfig:
    """One experiment: everything that its result depends on."""

    data: DataConfig = field(default_factory=DataConfig)
    """Which data, and which features of it."""
    partition: PartitionConfig = field(default_factory=PartitionConfig)
    """Which client holds which clips, and which clients lack video."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Sizes of the networks."""
    method: str = "modality_mirror"
    """A method of mm_ray/methods (`modality_mirror`, `control`) or your own (`mine.py`, `lab.mine`)."""
    phase1: Phase1Config = field(default_factory=Phase1Config)
    """Modality-wise FL and the teacher."""
    phase2: Phase2Config = field(default_factory=Phase2Config)
    """Federated distillation."""
    clients: ClientsConfig = field(default_factory=ClientsConfig)
    """Cohort and actors."""
    seed: int = 0
    """Seed of every random stream of the experiment."""


FIELDS = fields_of(ExperimentConfig)
"""All fields by their dotted names: what a flag, a config file and a search space may name."""


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
