"""Phase 2: federated distillation of the frozen teacher into the audio-only student."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch

from mm_ray.config import Phase2Config
from mm_ray.distill.loss_spec import has_class_temperatures, loss_settings, parse_loss
from mm_ray.distill.objective import objective
from mm_ray.distill.teacher_output import TeacherOutput
from mm_ray.distill.temperature import class_temperatures
from mm_ray.fed.fedavg import TrainingPhase
from mm_ray.fed.federation import Federation
from mm_ray.fed.outputs import outputs_on
from mm_ray.fed.phase import NetworkRef
from mm_ray.fed.phases.teacher_logits import TeacherLogits
from mm_ray.models.flat_params import flat_network
from mm_ray.models.layers import Output
from mm_ray.types import UNLABELLED, Arrays, Batch, ClientData, ClientUpdate, RoundContext

LOGITS = NetworkRef(TeacherLogits.name)


@dataclass(frozen=True)
class Distill(TrainingPhase):
    """The audiovisual clients train the student on the weighted objective; with weight 0 it is the cross-entropy control."""

    phase2: Phase2Config
    start: tuple[NetworkRef, ...]
    """The audio network to start from, if any."""

    name: ClassVar[str] = "phase2/distill"
    stream: ClassVar[str] = "phase2"
    networks: ClassVar[tuple[str, ...]] = ("audio",)

    @property
    def sources(self) -> tuple[NetworkRef, ...]:
        """The audio network to start from, and the teacher's logits unless this is the control."""
        return (*self.start, LOGITS) if self.phase2.loss_weight else self.start

    def settings(self) -> dict[str, Any]:
        """The loss and who trains; a control is the same control whatever loss it does not use."""
        used: dict[str, Any] = {"loss_weight": self.phase2.loss_weight, "audio_clients": self.phase2.audio_clients}
        if self.phase2.loss_weight:
            used |= loss_settings(self.phase2)
        return super().settings() | used

    def check(self, federation: Federation) -> None:
        """Besides what every phase needs, a loss that exists.

        Raises:
            UserError: An unknown loss, or no client that trains the student.

        """
        super().check(federation)
        parse_loss(self.phase2.loss)

    def trains(self, client: ClientData) -> tuple[str, ...]:
        """The student: on audiovisual clients, and on audio-only ones if they are asked to."""
        takes_part = "video" in client.modalities or self.phase2.audio_clients == "train"
        return ("audio",) if takes_part else ()

    def usable(self, client: ClientData) -> ClientData:
        """All clips where the teacher is asked, labelled or not; else those with a label."""
        return client if self.phase2.loss_weight and "video" in client.modalities else super().usable(client)

    def material(self, sources: Mapping[NetworkRef, Arrays]) -> Arrays:
        """The teacher's logits (N, C) and, where a loss reads them, features (N, P)."""
        return sources.get(LOGITS, {})

    def client_update(self, context: RoundContext, client: ClientData) -> ClientUpdate:
        """Train the student; class-wise temperatures, where asked for, are made anew from the student as received."""
        if "logits" in context.material and "video" in client.modalities and has_class_temperatures(self.phase2):
            temperatures_C = self._temperatures(context, client)
            context = replace(context, material={**context.material, "temperatures": temperatures_C})
        return super().client_update(context, client)

    def _temperatures(self, context: RoundContext, client: ClientData) -> np.ndarray:
        net = flat_network("audio", self.model, context.shapes, context.device)
        net.load(context.params)
        student_NC, _ = outputs_on(net, context, client)
        teacher_NC = context.material["logits"][client.indices]
        return class_temperatures(teacher_NC, student_NC, _classes(client.labels, teacher_NC), self.phase2).numpy()

    @property
    def stacks(self) -> bool:
        """Unless temperatures are class-wise, which each client makes by itself."""
        return not has_class_temperatures(self.phase2)

    @property
    def joins(self) -> bool:
        """Unless a loss relates the clips of a batch."""
        return not self.phase2.loss_weight or all(term.rowwise for term in parse_loss(self.phase2.loss))

    def loss(self, output: Output, batch: Batch, context: RoundContext, client: ClientData) -> torch.Tensor:
        """The weighted objective; cross-entropy on clients without video."""
        has_target = "logits" in context.material and "video" in client.modalities
        target = _target(context.material, batch, output.logits_BC.device) if has_target else None
        return objective(output, target, batch.labels_B, self.phase2)


def _target(material: Arrays, batch: Batch, device: torch.device) -> TeacherOutput:
    rows = {name: material[name][batch.indices_B] for name in ("logits", "features") if name in material}
    if "temperatures" in material:
        classes_B = _classes(batch.labels_B.cpu().numpy(), rows["logits"])
        rows["temperatures"] = material["temperatures"][classes_B][:, None]
    tensors = {name: torch.from_numpy(array).to(device) for name, array in rows.items()}
    return TeacherOutput(tensors["logits"], tensors.get("features"), tensors.get("temperatures"))


def _classes(labels_N: np.ndarray, teacher_NC: np.ndarray) -> np.ndarray:
    """The labels, and the teacher's class for a clip without one."""
    return np.where(labels_N == UNLABELLED, teacher_NC.argmax(1), labels_N)
