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
Width = Annotated[int, Field(ge=1, le=1_000_000)]
CountOrNone = Annotated[int, Field(ge=0)]
AtLeastZero = Annotated[float, Field(ge=0)]
AboveZero = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]


@section(frozen=True, kw_only=True)
class FeatureConfig:
    """Audio and video features. The defaults follow FedMultimodal; docs/data.md describes them."""

    sample_rate: Annotated[int, Field(ge=1_000, le=192_000, multiple_of=25)] = 16_000
    """Sampling rate to which audio is resampled, Hz. Raise it if the classes differ above 8 kHz."""
    num_mels: Annotated[int, Field(ge=4, le=1_024)] = 80
    """Mel bands per audio frame (F)."""
    frame_ms: Annotated[int, Field(ge=2, le=10_000)] = 40
    """Length of an audio frame (a Hamming window), ms."""
    hop_ms: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Distance between the starts of two audio frames, ms."""
    max_frames: Annotated[int, Field(ge=1, le=10_000_000)] = 500
    """Maximum number of audio frames per clip (T); the rest of a longer clip is cut off. Raise it for long clips."""
    window_hop_s: AtLeastZero = 0.0
    """Use all of a recording that is longer than `max_frames`: it becomes several clips of that length, each this number of
    seconds after the last. In evaluation it still counts once, by the mean of its clips' probabilities. 0: off.
    """
    fps: Annotated[float, Field(ge=0.0001, le=1_000)] = 1.0
    """Video frames taken per second of a recording. Raise it for fast motion."""
    max_video_frames: Annotated[int, Field(ge=1, le=100_000)] = 10
    """Maximum number of video frames per clip (S); a longer clip gives this number of evenly spaced frames."""
    video: str = "pixels"
    """Video features: `pixels`, `mobilenet_v2` (D = 1280; needs mm-ray[video] and weights), a frozen image encoder
    `torchvision:NAME` (such as `torchvision:resnet50`; needs mm-ray[video]) or `transformers:NAME_OR_PATH` (needs
    mm-ray[pretrained]), or your own `module:function`. A data set that names arrays uses them by itself (`precomputed`).
    """
    audio: str = "log_mel"
    """Audio features: `log_mel`, or a frozen pretrained encoder's: `torchaudio:PIPELINE` (such as `torchaudio:HUBERT_BASE`) or
    `transformers:NAME_OR_PATH` (wav2vec 2.0, HuBERT, WavLM, Whisper, AST; needs mm-ray[pretrained]), or your own
    `module:function`. A data set that names arrays uses them by itself (`precomputed`).
    """
    normalize: Literal["none", "group"] = "none"
    """`group` scales all features but `log_mel` to mean 0 and variance 1 over the clips of each group (speaker,
    site). Use it if groups differ more than classes, or if features have very different scales.
    """
    video_size: Annotated[int, Field(ge=1, le=1_024)] = 16
    """With `pixels`: width and height to which frames are scaled, pixels."""
    video_color: Literal["grey", "rgb"] = "grey"
    """With `pixels`: keep the brightness only (`grey`, D = video_size squared) or the colours (`rgb`, three times as many)."""

    def __post_init__(self) -> None:
        """Refuse audio features that there are not, and windows that leave gaps."""
        if self.audio not in ("log_mel", PRECOMPUTED) and not self.is_pretrained_audio and not self.is_own_audio:
            known = "log_mel, torchaudio:PIPELINE, transformers:NAME_OR_PATH or your own, mine.py:function"
            raise bad_value("audio", self.audio, f"must be {known}")
        if self.window_hop_s and not self.hop_ms / 1000 <= self.window_hop_s <= self.audio_s:
            problem = f"must be between {self.hop_ms / 1000:g} and the {self.audio_s:g} seconds of --max_frames"
            raise bad_value("window_hop_s", self.window_hop_s, f"{problem}, or 0")

    @property
    def is_pretrained_audio(self) -> bool:
        """Whether the audio features are those of a frozen pretrained encoder."""
        library, _, name = self.audio.partition(":")
        return library in ("torchaudio", "transformers") and bool(name)

    @property
    def is_own_audio(self) -> bool:
        """Whether the audio features are those of a function of the user's."""
        module, _, function = self.audio.partition(":")
        return module not in ("", "torchaudio", "transformers", "torchvision") and bool(function)

    @property
    def audio_s(self) -> float:
        """Seconds of audio that `max_frames` audio frames cover."""
        return (self.frame_ms + self.hop_ms * (self.max_frames - 1)) / 1000


@section(frozen=True, kw_only=True)
class SyntheticConfig:
    """Settings of the `synthetic` data set: seeded events with audio and video (docs/data.md says how hard they are)."""

    num_classes: Annotated[int, Field(ge=2)] = 10
    """Number of event classes (C)."""
    num_groups: Count = 56
    """Number of recording groups ("sites"); `partition.kind natural` makes each a client."""
    clips_per_class: Annotated[int, Field(ge=10)] = 168
    """Clips per class, over all splits."""
    audio_snr_db: float = 5.0
    """Signal-to-noise ratio of the audio, dB. Lower it to make audio harder."""
    video_noise: AtLeastZero = 0.3
    """Standard deviation of the pixel noise, as a fraction of full scale. Raise it to make video harder."""
    label_noise: BelowOne = 0.2
    """Fraction of the training clips that get a wrong label. Dev and test labels are always right."""
    labelled: Share = 0.25
    """Fraction of the training clips that have a label; 1 labels all."""
    data_seed: int = 0
    """Seed of the recordings. It is independent of `seed`, so that the same data can be used with several seeds."""


@section(frozen=True, kw_only=True)
class DataConfig:
    """Data set and features."""

    name: str = "synthetic"
    """Data set: a module of mm_ray/data/datasets (`synthetic`, `avdigits`, `folder`, ...), your own (`mine.py`, `lab.mine`), or
    the path or URI of a feature store that `mm_ray.prepare` wrote.
    """
    root: str = ""
    """Folder of the recordings, for data sets that read files."""
    annotations: str = ""
    """File or folder of the data set's own lists, if they are not in `root` under their usual name."""
    classes: str = ""
    """Use only these classes: names separated by commas, or a file with one name per line. Empty: all."""
    video_weights: str = ""
    """File with the weights of `features.video`, a path or URI. Empty: torchvision's cache."""
    folds: str = ""
    """Kind of train/dev/test splits, for data sets with several kinds (docs/data.md), such as `known` of avdigits. Empty: the
    data set's first kind.
    """
    fold: CountOrNone = 0
    """Number of the split to use, counted from 0."""
    dev_from_train: BelowOne = 0.0
    """For data without dev clips: this fraction of each class's training groups becomes the dev split. 0: off."""
    group_pattern: str = ""
    """For `folder` and `csv`: a regular expression that finds the group (the speaker) in a file's path below `root`, such as
    `/(spk[0-9]+)_`. Empty: the subfolder, or the column `group`.
    """
    label_column: str = "label"
    """Of `csv`, and of `folder` with a metadata file: the column that holds the label."""
    features: FeatureConfig = field(default_factory=FeatureConfig)
    """Audio and video features."""
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    """Settings of the `synthetic` data set."""

    def __post_init__(self) -> None:
        """Take a path as the root of a feature store, so that names of runs hold no path."""
        if "/" in self.name and not self.name.partition(":")[0].endswith(".py"):
            if self.root:
                raise bad_value("root", self.root, f"the store {self.name} has no recordings; leave it out")
            object.__setattr__(self, "root", self.name)
            object.__setattr__(self, "name", "store")


@section(frozen=True, kw_only=True)
class PartitionConfig:
    """Which client holds which clips, and which clients have no video."""

    kind: str = "dirichlet"
    """`dirichlet` distributes each class over the clients by Dirichlet(alpha); `natural` makes each group (speaker, site) a
    client; `fedmultimodal` is that benchmark's own draw for UCF101; or your own: `clients.csv`, `mine.py:thing` (docs/data.md).
    """
    num_clients: Count = 20
    """Number of clients of the Dirichlet partition."""
    alpha: AboveZero = 5.0
    """Dirichlet concentration: 0.1 gives clients very different classes, 5 similar ones."""
    min_clips: Count = 5
    """Minimum number of clips per client of the Dirichlet partition."""
    video_missing: Fraction = 0.5
    """Fraction q of the clients that have audio only. A client without video at one q also lacks it at every larger q."""
    labelled: Share = 1.0
    """Fraction of the labelled training clips that keep their label. Distillation also uses clips without a label; everything
    else needs labels. A label kept at one fraction is also kept at every larger one.
    """
    label_noise: BelowOne = 0.0
    """Fraction of the training clips that get another label. Dev and test labels do not change."""
    label_confusion: str = ""
    """CSV file of a (C, C) matrix for `label_noise`: the row is the true class, its numbers are the chances of the labels that
    replace it. Empty: all other classes with equal chance.
    """


@section(frozen=True, kw_only=True)
class TransformerConfig:
    """Settings of the `transformer` encoder."""

    patch_frames: Annotated[int, Field(ge=1, le=1_000)] = 4
    """Consecutive frames that make one step."""
    layers: Annotated[int, Field(ge=1, le=100)] = 2
    """Number of blocks, each self-attention and a feed-forward network."""
    heads: Width = 4
    """Attention heads per block; they divide `model.hidden`."""
    feedforward: Width = 256
    """Hidden size of the feed-forward networks."""


@section(frozen=True, kw_only=True)
class ResnetConfig:
    """Settings of the `resnet` encoder."""

    channels: Annotated[tuple[Width, Width, Width], Strict(False)] = (16, 32, 64)
    """Channels of the first convolution and of the two residual blocks; each halves time and bins."""


@section(frozen=True, kw_only=True)
class MlpConfig:
    """Settings of the `mlp` encoder."""

    layers: Annotated[int, Field(ge=1, le=100)] = 2
    """Number of layers, each of `model.hidden` units."""


@section(frozen=True, kw_only=True)
class FrameCnnConfig:
    """Settings of the `frame_cnn` encoder."""

    channels: Annotated[tuple[Width, Width], Strict(False)] = (16, 32)
    """Channels of the two convolutions."""


@section(frozen=True, kw_only=True)
class ModelConfig:
    """The encoders, and sizes of encoders, fusion and classifiers. The defaults are FedMultimodal's."""

    audio_encoder: str = "conv_gru"
    """Encoder of the audio features: `conv_gru`, `gru`, `mlp` (for one vector per clip), `resnet`, `transformer`, or your own
    (`mine.py:thing`).
    """
    video_encoder: str = "gru"
    """Encoder of the video features: `conv_gru`, `frame_cnn` (for pixels), `gru`, `mlp`, `transformer`, or your own."""
    conv_channels: Annotated[tuple[Width, Width, Width], Strict(False)] = (32, 64, 128)
    """With `conv_gru`: channels of the three convolutions."""
    hidden: Width = 128
    """Size of an encoder's output per step (H)."""
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    """Settings of the `transformer` encoder."""
    resnet: ResnetConfig = field(default_factory=ResnetConfig)
    """Settings of the `resnet` encoder."""
    mlp: MlpConfig = field(default_factory=MlpConfig)
    """Settings of the `mlp` encoder."""
    frame_cnn: FrameCnnConfig = field(default_factory=FrameCnnConfig)
    """Settings of the `frame_cnn` encoder."""
    audio_pooling: Literal["mean", "attention"] = "mean"
    """How the audio network pools over time."""
    attention_size: Width = 512
    """Hidden size of the attention scores."""
    attention_heads: Width = 6
    """Number of attention heads."""
    classifier_hidden: Width = 64
    """Hidden size of the classifier."""
    dropout: BelowOne = 0.1
    """Dropout probability in encoders and classifier."""

    def encoder(self, modality: str) -> str:
        """The name of a modality's encoder."""
        return str(getattr(self, f"{modality}_encoder"))


@section(frozen=True, kw_only=True)
class LocalConfig:
    """Local training of a client. Its optimiser starts fresh in every round."""

    optimizer: Literal["sgd", "adam"] = "sgd"
    """Local optimiser; `sgd` uses momentum."""
    lr: AboveZero = 0.05
    """Local learning rate. Use about 0.001 with adam."""
    warmup_rounds: CountOrNone = 0
    """Number of first rounds over which the learning rate rises in equal steps. 0: off."""
    momentum: BelowOne = 0.9
    """Momentum of sgd, or decay of adam's first moment."""
    weight_decay: AtLeastZero = 1e-5
    """L2 weight decay."""
    clip_norm: AtLeastZero = 1.0
    """Maximum norm of a gradient; a larger one is scaled down. 0: off."""
    epochs: Count = 3
    """Local epochs per round. An epoch has as many steps as all clips of the client fill, labelled or not; labelled clips are
    repeated, so that methods are compared at equal steps.
    """
    steps: CountOrNone = 0
    """SGD steps per round, instead of `epochs`. 0: use `epochs`."""
    batch_size: Count = 16
    """Clips per batch (B)."""
    prox_mu: AtLeastZero = 0.0
    """FedProx: weight of half the squared distance to the received parameters, added to the loss. Use it if clients' data
    differ much. 0: off.
    """
    scaffold: bool = False
    """SCAFFOLD: correct each gradient by control variates. Use it if clients' data differ much; it doubles the bytes."""

    def __post_init__(self) -> None:
        """Refuse what does not go with adam."""
        if self.optimizer == "adam" and self.lr >= 0.03:
            raise bad_value("lr", self.lr, "adam moves each parameter by about this much per step; try 0.001")
        if self.optimizer == "adam" and self.scaffold:
            raise bad_value("scaffold", self.scaffold, "needs --optimizer sgd")


@section(frozen=True, kw_only=True)
class ServerConfig:
    """The server's step from the clients' mean change (FedOpt, Reddi et al. 2021; `fedavg` applies the change itself)."""

    optimizer: Literal["fedavg", "sgd", "adam", "yogi"] = "sgd"
    """Server optimiser; `sgd` uses momentum."""
    lr: AtLeastZero = 0.0
    """Server learning rate. 0: 1 for fedavg and sgd, 0.01 for adam and yogi."""
    momentum: BelowOne = 0.5
    """Momentum of sgd, or decay of the first moment of adam and yogi."""
    beta2: BelowOne = 0.99
    """Decay of the second moment of adam and yogi."""
    tau: AboveZero = 1e-3
    """Constant that adam and yogi add to the root of the second moment; a smaller one is more adaptive."""
    rule: str = "mean"
    """How the clients' changes are aggregated: `mean` (weighted by clips), a robust aggregator of mm_ray/fed/aggregators
    (`median`, `trimmed_mean`, `krum`), which counts each client once, or your own (`mine.py:thing`).
    """
    bad_frac: Annotated[float, Field(ge=0, lt=0.5)] = 0.2
    """For `trimmed_mean` and `krum`: fraction of a round's clients that may be bad."""
    max_norm: AtLeastZero = 0.0
    """A client's change with a larger L2 norm is rejected. 0: no limit. Broken changes (NaN, wrong shape) are always rejected.

    """
    clip_norm: AtLeastZero = 0.0
    """A client's change with a larger L2 norm is scaled down to it. 0: off."""
    average: BelowOne = 0.8
    """Decay of the moving average of the server's parameters over rounds. The average is evaluated and passed to the next
    phase, never sent to clients. In early rounds the decay is smaller: (1 + r) / (10 + r) in round r. 0: off.
    """
    noise: AtLeastZero = 0.0
    """Client-level differential privacy (DP-FedAvg): standard deviation of the noise on the sum of the clients' changes, in
    units of clip_norm. 0: off. Needs mm-ray[privacy].
    """

    def __post_init__(self) -> None:
        """Refuse noise without what it needs."""
        if self.noise and not self.clip_norm:
            raise bad_value("noise", self.noise, "needs --clip_norm; try 1")
        if self.noise and self.rule != "mean":
            raise bad_value("noise", self.noise, "needs --rule mean")

    @property
    def step(self) -> float:
        """The learning rate that is used."""
        return self.lr or (0.01 if self.optimizer in ("adam", "yogi") else 1.0)


@section(frozen=True, kw_only=True)
class Phase1Config:
    """Phase 1: modality-wise federated learning, which makes the audiovisual teacher."""

    kind: Literal["modality_wise", "joint"] = "modality_wise"
    """`modality_wise` averages one network per modality, then a fusion step makes the teacher; `joint` trains the whole fusion
    model on audiovisual clients and its audio part on the others.
    """
    rounds: Annotated[int, Field(ge=2)] = 64
    """Rounds of phase 1, including the fusion step."""
    fusion_frac: Annotated[float, Field(gt=0, lt=1)] = 0.125
    """Fraction of phase 1's rounds that `modality_wise` uses for the fusion step."""
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
    """Settings of single distillation losses. A setting that the chosen loss does not read has no effect.

    The defaults are those of the papers, tuned on CIFAR: tune them for your data.
    """

    dkd_alpha: AtLeastZero = 1.0
    """Weight of DKD's target-class part."""
    dkd_beta: AtLeastZero = 8.0
    """Weight of DKD's non-target part."""
    c2kd_min_tau: Annotated[float, Field(ge=-1, lt=1)] = 0.0
    """C2KD uses a clip if Kendall's tau between teacher and student over the classes is above this."""
    rkd_distance: AtLeastZero = 25.0
    """Weight of RKD's distances."""
    rkd_angle: AtLeastZero = 50.0
    """Weight of RKD's angles."""
    crd_weight: AtLeastZero = 0.8
    """Weight of CRD."""
    crd_tau: AboveZero = 0.07
    """Temperature of CRD's cosines."""
    projection_seed: int = 0
    """Seed of the fixed random projection of the teacher's features in FitNets and CRD."""


@section(frozen=True, kw_only=True)
class Phase2Config:
    """Phase 2: federated distillation of the teacher into the audio-only student."""

    rounds: Count = 24
    """Rounds of phase 2."""
    loss: str = "kd"
    """Distillation loss: a module of mm_ray/losses, your own (`mine`, `mine.py:thing`, `lab.mine`), or a weighted sum:
    `kd:0.7+mine:0.3`.
    """
    losses: LossConfig = field(default_factory=LossConfig)
    """Settings of single losses."""
    loss_weight: Fraction = 0.9
    """Weight a of the distillation loss; the objective is (1-a) * cross-entropy + a * loss. 0 is cross-entropy only."""
    temperature: AboveZero = 2.0
    """Temperature by which the logits of teacher and student are divided. Raise it if the teacher is very certain. The loss is
    multiplied by its square, so `loss_weight` keeps its meaning.
    """
    class_temperature: AtLeastZero = 0.0
    """Strength of class-wise temperatures: a class in which the teacher leads the student by more than its average gets a lower
    temperature (FedCMI's rule, with strength 2 in its code). 0: one temperature for all classes.
    """
    student_init: Literal["phase1", "random"] = "phase1"
    """Start the student from phase 1's audio network or from random parameters."""
    audio_clients: Literal["idle", "train"] = "train"
    """What audio-only clients do in phase 2: `train` with cross-entropy, or `idle` (receive the student only, as in the paper's
    text).
    """
    local: LocalConfig = field(default_factory=LocalConfig)
    """Local training of the clients."""
    server: ServerConfig = field(default_factory=ServerConfig)
    """The server's step."""


@section(frozen=True, kw_only=True)
class ClientsConfig:
    """Clients per round, and the Ray actors that play them."""

    sample_frac: Share = 0.3
    """Fraction of the clients of each type (audio-only, audiovisual) that take part in a round, at least one of each."""
    dropout_frac: BelowOne = 0.0
    """Probability that a sampled client receives the parameters but sends no update."""
    deadline_s: AtLeastZero = 0.0
    """Seconds after which a training round continues with the chunks that have arrived, at least one; late clients are listed.
    0: wait for all. Which clients are late depends on timing, so such a run is not reproducible.
    """
    profile: str = ""
    """Devices of the clients, for simulated time (metric `sim_seconds`): kinds and their shares, such as
    `phone:0.7,laptop:0.2,server:0.1` (or `phone,laptop,server`), or a CSV file `client,gflops,down_mbps,up_mbps`. Empty: off.
    """
    sim_deadline_s: Annotated[float, Field(ge=0, le=1e12)] = 0.0
    """Simulated seconds after which a round continues without the clients that are late on their devices (`clients.profile`).
    The same clients are late in every run. 0: wait for all.
    """
    chunk_size: Count = 2
    """Clients per chunk, the unit of work that an actor takes and that is retried if the actor dies. On a GPU use the number of
    clients per round.
    """
    vectorize: Literal["auto", "on", "off"] = "auto"
    """Train the clients of a chunk together as one stacked network (`on`) or one by one (`off`); results differ in their last
    bits. `auto` is the faster one by our measurements (docs/speed.md). Networks with a `transformer`, a `resnet` or an encoder
    of your own are trained one by one in any case.
    """
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the products in the clients' training. `bfloat16` is faster on processors with AMX and on GPUs, and less
    exact; parameters, updates and evaluation stay float32. `auto` is float32.
    """
    num_actors: CountOrNone = 0
    """Client actors of a run or of each trial. 0: all free CPUs for a single run, 1 for a trial."""
    num_cpus: Annotated[float, Field(ge=0.01)] = 1.0
    """CPUs per actor; may be a fraction."""
    num_gpus: AtLeastZero | Literal["auto"] = 0.0
    """GPUs per actor; may be a fraction, such as 0.25 for four actors per GPU. 0: train on the CPU. `auto` measures a chunk and
    lets as many actors share a GPU as fit into its memory; it changes no result.
    """

    def __post_init__(self) -> None:
        """Refuse parts of several GPUs, which Ray does not have, and a simulated deadline without devices."""
        if self.num_gpus != "auto" and self.num_gpus != round(self.num_gpus) and not 0.01 <= self.num_gpus < 1:
            raise bad_value("num_gpus", self.num_gpus, "must be whole or a fraction such as 0.25")
        if self.sim_deadline_s and not self.profile:
            raise bad_value("sim_deadline_s", self.sim_deadline_s, "needs --profile, such as phone,laptop,server")


@section(frozen=True, kw_only=True)
class ExperimentConfig:
    """One experiment: everything that its result depends on."""

    data: DataConfig = field(default_factory=DataConfig)
    """Data set and features."""
    partition: PartitionConfig = field(default_factory=PartitionConfig)
    """Which client holds which clips, and which clients have no video."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Sizes of the networks."""
    method: str = "modality_mirror"
    """Method: a module of mm_ray/methods (`modality_mirror`, `control`, ...) or your own (`mine.py`, `lab.mine`)."""
    phase1: Phase1Config = field(default_factory=Phase1Config)
    """Modality-wise federated learning, which makes the teacher."""
    phase2: Phase2Config = field(default_factory=Phase2Config)
    """Federated distillation into the student."""
    clients: ClientsConfig = field(default_factory=ClientsConfig)
    """Clients per round, and actors."""
    seed: int = 0
    """Seed of every random draw of the experiment."""


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
