"""ModalityMirror (arXiv 2408.15803): modality-wise FL, then federated distillation of the audiovisual teacher into the student.

1. `Unimodal`: every client trains one network per modality that it holds; each is averaged over its holders.
2. `Fusion`: the audiovisual clients train encoders and fusion head; the average is the teacher. With `phase1.kind joint` 1
   and 2 are MultiFL's joint training.
3. `TeacherLogits`: each audiovisual client computes the frozen teacher's logits on its own clips, once.
4. `Distill`: the clients distil these logits into the audio-only student, which is averaged and which every client gets.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from mm_ray.config import ExperimentConfig, Phase2Config
from mm_ray.distill.objective import has_class_temperatures, loss_settings, objective, parse_loss, reads_features
from mm_ray.distill.teacher_output import TeacherOutput, class_temperatures
from mm_ray.fed.cost import forward_flops
from mm_ray.fed.diagnosis import COUNTS, counts, mean_entropy
from mm_ray.fed.evaluation import outputs_on, rows_of
from mm_ray.fed.fedavg import FLOAT_BYTES, TrainingPhase
from mm_ray.fed.federation import Federation
from mm_ray.fed.method import Method, Trial, learning_rates, loss_weight, training
from mm_ray.fed.phase import KEY, OUTSIDE_KEY, NetworkRef, Phase, shared_inputs
from mm_ray.methods.multifl import Joint
from mm_ray.models.flat_params import flat_network
from mm_ray.models.layers import Output
from mm_ray.models.network import PARTS, part_size, pooled_size
from mm_ray.types import UNLABELLED, Arrays, Batch, ClientData, ClientUpdate, Cost, RoundContext, ServerState


@dataclass(frozen=True)
class Unimodal(TrainingPhase):
    """Phase 1, modality-wise: one network (encoder and head) per modality that a client holds."""

    name: ClassVar[str] = "phase1/unimodal"
    stream: ClassVar[str] = "phase1"
    networks: ClassVar[tuple[str, ...]] = ("audio", "video")

    def trains(self, client: ClientData) -> tuple[str, ...]:
        """One network per modality."""
        return client.modalities


@dataclass(frozen=True)
class Fusion(TrainingPhase):
    """Phase 1, fusion step: the audiovisual clients train the fusion head and continue to train the encoders, all of it
    averaged.

    The paper only names the step; this form is our choice (docs/method.md).
    """

    name: ClassVar[str] = "phase1/fusion"
    stream: ClassVar[str] = "phase1-fusion"
    networks: ClassVar[tuple[str, ...]] = ("av",)

    @property
    def sources(self) -> tuple[NetworkRef, ...]:
        """The unimodal encoders."""
        return NetworkRef(Unimodal.name, "audio"), NetworkRef(Unimodal.name, "video")

    def trains(self, client: ClientData) -> tuple[str, ...]:
        """The audiovisual network, on audiovisual clients only."""
        return ("av",) if "video" in client.modalities else ()


@dataclass(frozen=True)
class TeacherLogits(Phase):
    """Between the phases: one round in which the frozen teacher's logits are computed on the audiovisual clients' clips.

    Temperature and loss weights do not change them, so every trial that shares the teacher shares them, and no round of phase 2
    runs the video encoder. The state has `server["logits"]` (N, C), NaN for clips without a teacher, and with `features` also
    `server["features"]` (N, P), what the teacher's classifier sees. The simulation holds the rows of all clients in one array,
    of which a client of the next phase reads its own. In a real federation these rows stay on the client; only the teacher
    travels.

    What the teacher adds to the labels is counted beside them (`mm_ray.fed.diagnosis`): only these counts leave a client.
    """

    rounds: int = field(default=1, metadata=OUTSIDE_KEY)
    teacher: NetworkRef = field(
        kw_only=True, metadata={KEY: lambda phase: {"network": phase.network} if phase.network != "av" else {}}
    )
    """The audiovisual network, or for self-distillation the audio network."""
    features: bool = field(
        default=False, kw_only=True, metadata={KEY: lambda phase: {"features": True} if phase.features else {}}
    )

    name: ClassVar[str] = "phase1/teacher_logits"
    networks: ClassVar[tuple[str, ...]] = ()
    full_participation: ClassVar[bool] = True

    @property
    def network(self) -> str:
        """The teacher's."""
        return str(self.teacher.network)

    @property
    def sources(self) -> tuple[NetworkRef, ...]:
        """The teacher, frozen."""
        return (self.teacher._replace(frozen=True),)

    def init(self, federation: Federation, sources: Mapping[NetworkRef, Arrays]) -> ServerState:
        """No clip has logits yet."""
        table, sizes = federation.table, {"logits": federation.shapes.num_classes}
        if self.features:
            sizes["features"] = pooled_size(self.network, self.model, federation.shapes)
        arrays = {name: np.full((len(table.labels_N), size), np.nan, np.float32) for name, size in sizes.items()}
        net, dev_rows = flat_network(self.network, self.model, federation.shapes), rows_of("dev", self.network, table)
        net.load(shared_inputs(sources))
        dev_entropy = mean_entropy(outputs_on(net, table, dev_rows)[0]) if len(dev_rows) else 0.0
        return ServerState(server=arrays, meta={"dev_entropy": dev_entropy})

    def cohort(self, federation: Federation, round_number: int) -> tuple[ClientData, ...]:
        """All audiovisual clients."""
        return federation.of_type("audio", "video")

    def client_update(self, context: RoundContext, client: ClientData) -> ClientUpdate:
        """The teacher's logits on the client's clips, which the client keeps."""
        net = flat_network(self.network, self.model, context.shapes, context.device)
        net.load(context.shared_inputs)
        logits_NC, features_NP = outputs_on(net, context.table, client.indices)
        kept = {"rows": client.indices, "logits": logits_NC} | ({"features": features_NP} if self.features else {})
        return ClientUpdate(metrics=counts(logits_NC, client), kept={client.id: kept})

    def server_update(self, state: ServerState, total: ClientUpdate) -> ServerState:
        """Put what each client keeps into its rows."""
        arrays = {name: array.copy() for name, array in state.server.items()}
        for kept in total.kept.values():
            for name, array in arrays.items():
                array[kept["rows"]] = kept[name]
        counted = {name: total.metrics[name] for name in COUNTS if name in total.metrics}
        return ServerState(server=arrays, meta={"metrics": {"teacher/dev_entropy": state.meta["dev_entropy"], **counted}})

    def cost(self, federation: Federation, client: ClientData) -> Cost:
        """The teacher goes down and runs on each clip; nothing goes up."""
        size = FLOAT_BYTES * sum(part_size(part, self.model, federation.shapes) for part in PARTS[self.network])
        return Cost(size, 0, forward_flops(self.network, self.model, federation) * client.num_clips)


LOGITS = NetworkRef(TeacherLogits.name, frozen=True)


@dataclass(frozen=True)
class Distill(TrainingPhase):
    """Phase 2: the audiovisual clients train the student on the weighted objective; with weight 0 it is the control."""

    phase2: Phase2Config = field(kw_only=True, metadata={KEY: lambda phase: _loss_settings(phase.phase2)})
    start: tuple[NetworkRef, ...] = field(kw_only=True, metadata=OUTSIDE_KEY)
    """The audio network to start from, if any."""

    name: ClassVar[str] = "phase2/distill"
    stream: ClassVar[str] = "phase2"
    networks: ClassVar[tuple[str, ...]] = ("audio",)

    def __post_init__(self) -> None:
        """Besides what every training phase refuses, a loss that does not exist (UserError)."""
        super().__post_init__()
        parse_loss(self.phase2.loss)

    @property
    def sources(self) -> tuple[NetworkRef, ...]:
        """The audio network to start from, and the teacher's logits unless this is the control."""
        return (*self.start, LOGITS) if self.phase2.loss_weight else self.start

    def trains(self, client: ClientData) -> tuple[str, ...]:
        """The student: on audiovisual clients, and on audio-only ones if they are asked to."""
        takes_part = "video" in client.modalities or self.phase2.audio_clients == "train"
        return ("audio",) if takes_part else ()

    def usable(self, client: ClientData) -> ClientData:
        """All clips, labelled or not, where the teacher is used; else those with a label."""
        return client if self.phase2.loss_weight and "video" in client.modalities else super().usable(client)

    def client_update(self, context: RoundContext, client: ClientData) -> ClientUpdate:
        """Train the student; class-wise temperatures, where asked for, come from the student as the client received it."""
        if "logits" in context.shared_inputs and "video" in client.modalities and has_class_temperatures(self.phase2):
            net = flat_network("audio", self.model, context.shapes, context.device)
            net.load(context.params)
            student_NC, _ = outputs_on(net, context.table, client.indices)
            teacher_NC = context.shared_inputs["logits"][client.indices]
            classes_N = _classes(client.labels, teacher_NC)
            temperatures_C = class_temperatures(teacher_NC, student_NC, classes_N, self.phase2).numpy()
            context = replace(context, shared_inputs={**context.shared_inputs, "temperatures": temperatures_C})
        return super().client_update(context, client)

    def loss(self, output: Output, batch: Batch, context: RoundContext, client: ClientData) -> torch.Tensor:
        """The weighted objective; cross-entropy on clients without video."""
        given, teacher = context.shared_inputs, None
        if "logits" in given and "video" in client.modalities:
            rows = {name: given[name][batch.indices_B] for name in ("logits", "features") if name in given}
            if "temperatures" in given:
                classes_B = _classes(batch.labels_B.cpu().numpy(), rows["logits"])
                rows["temperatures"] = given["temperatures"][classes_B][:, None]
            tensors = {name: torch.from_numpy(array).to(output.logits_BC.device) for name, array in rows.items()}
            teacher = TeacherOutput(tensors["logits"], tensors.get("features"), tensors.get("temperatures"))
        return objective(output, teacher, batch.labels_B, self.phase2)

    def cost(self, federation: Federation, client: ClientData) -> Cost:
        """Besides the training, the received student's output on each clip where temperatures are class-wise."""
        cost = super().cost(federation, client)
        if not (self.phase2.loss_weight and "video" in client.modalities and has_class_temperatures(self.phase2)):
            return cost
        return cost._replace(flops=cost.flops + forward_flops("audio", self.model, federation) * client.num_clips)

    @property
    def can_batch_clients(self) -> bool:
        """Unless temperatures are class-wise, which each client computes from its own clips."""
        return not has_class_temperatures(self.phase2)

    @property
    def loss_is_separable(self) -> bool:
        """Unless a loss relates the clips of a batch."""
        return not self.phase2.loss_weight or all(term.rowwise for term in parse_loss(self.phase2.loss))


def _loss_settings(phase2: Phase2Config) -> dict[str, Any]:
    """The loss and who trains, for the key; a control's key ignores the loss, which it does not use."""
    used = {"loss_weight": phase2.loss_weight, "audio_clients": phase2.audio_clients}
    return used | (loss_settings(phase2) if phase2.loss_weight else {})


def _classes(labels_N: np.ndarray, teacher_NC: np.ndarray) -> np.ndarray:
    """The labels, and the teacher's class for a clip without one."""
    return np.where(labels_N == UNLABELLED, teacher_NC.argmax(1), labels_N)


def build(config: ExperimentConfig, teacher: Literal["av", "audio"] = "av") -> Method:
    """Phase 1 (unimodal networks and fusion, or joint), the teacher's logits, distillation (with weight 0 a control).

    Args:
        config: The experiment.
        teacher: Which of phase 1's networks teaches: the audiovisual one, or the audio network itself.

    """
    one, two, common = config.phase1, config.phase2, training(config, config.phase1)
    phases: tuple[Phase, ...]
    if one.kind == "joint":
        phases = (Joint(one.rounds, **common),)
    else:
        phases = (Unimodal(one.rounds - one.fusion_rounds, **common), Fusion(one.fusion_rounds, **common))
    av, audio = NetworkRef(phases[-1].name, "av"), NetworkRef(phases[0].name, "audio")
    source, deadline_s = av if teacher == "av" else audio, config.clients.deadline_s
    logits = TeacherLogits(model=config.model, teacher=source, features=reads_features(two), deadline_s=deadline_s)
    start = (audio,) if two.student_init == "phase1" else ()
    distill = Distill(two.rounds, **training(config, two), phase2=two, start=start)
    return Method((*phases, logits, distill), NetworkRef(distill.name, "audio"), teacher=av, phase1_audio=audio)


def space(trial: Trial) -> dict[str, Any]:
    """What `compare --tune` searches: learning rates, loss weight, temperature, whether audio-only clients train."""
    return {
        **learning_rates(trial),
        **loss_weight(trial),
        "phase2.temperature": trial.suggest_float("phase2.temperature", 1.0, 20.0, log=True),
        "phase2.audio_clients": trial.suggest_categorical("phase2.audio_clients", ("idle", "train")),
    }
