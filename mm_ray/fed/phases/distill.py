"""Phase 2: federated distillation of the frozen teacher into the audio-only student."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from mm_ray.config import Phase2Config
from mm_ray.distill.objective import objective
from mm_ray.distill.target import Target
from mm_ray.distill.terms import loss_settings, parse_loss
from mm_ray.fed.federation import Federation
from mm_ray.fed.phase import Role
from mm_ray.fed.phases.teacher_logits import TeacherLogits
from mm_ray.fed.training import TrainingPhase
from mm_ray.models.layers import Output
from mm_ray.types import Arrays, Batch, ClientData, RoundContext

LOGITS = Role(TeacherLogits.name)


@dataclass(frozen=True)
class Distill(TrainingPhase):
    """The audiovisual clients train the student on the weighted objective; with weight 0 it is the cross-entropy control."""

    phase2: Phase2Config
    start: tuple[Role, ...]
    """The audio network to start from, if any."""

    name: ClassVar[str] = "phase2/distill"
    stream: ClassVar[str] = "phase2"
    networks: ClassVar[tuple[str, ...]] = ("audio",)

    @property
    def sources(self) -> tuple[Role, ...]:
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

    def material(self, sources: Mapping[Role, Arrays]) -> Arrays:
        """The teacher's logits (N, C) and, where a loss reads them, features (N, P)."""
        return sources.get(LOGITS, {})

    def loss(self, output: Output, batch: Batch, context: RoundContext, client: ClientData) -> torch.Tensor:
        """The weighted objective; cross-entropy on clients without video."""
        has_target = "logits" in context.material and "video" in client.modalities
        target = _target(context.material, batch, output.logits_BC.device) if has_target else None
        return objective(output, target, batch.labels_B, self.phase2)


def _target(material: Arrays, batch: Batch, device: torch.device) -> Target:
    rows = {name: torch.from_numpy(array[batch.indices_B]).to(device) for name, array in material.items()}
    return Target(rows["logits"], rows.get("features"))
