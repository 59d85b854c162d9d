"""FedCMI's training: cross-modal infiltration from the dominant modality (Fan et al. 2023, arXiv 2401.00894).

The paper's full text was not at hand; its abstract and published code were. As there, an audiovisual client minimises the
cross-entropy of the fusion model, twice that of each modality's own classifier, and a distillation term: the dominant modality
as the *received* model sees it is taught to a second projector of the weak one, with class-wise temperatures (strength 2, T 1).
The dominant modality is the one with the higher mean probability of the right class. Audio-only clients take the cross-entropy.

Our choices: dominance is judged once a round with the received model (the code does it anew in every batch, with the model in
training); projector and classifier are a head of the form that every network here has, the imitating one (`audio.imitation`)
has a classifier of its own and serves training only, since the student is the plain audio network (the code fuses both
projectors where a modality is missing), so knowledge enters by the encoder; the distillation is T^2 KL as elsewhere here (the
code has no T^2); everything is averaged and infiltration begins in round 1 (the code has options for both).
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mm_ray.config import Phase2Config
from mm_ray.distill.teacher_output import TeacherOutput
from mm_ray.distill.temperature import class_temperatures
from mm_ray.fed.fedavg import TrainingPhase
from mm_ray.fed.local_training import train_local
from mm_ray.fed.outputs import outputs_on
from mm_ray.losses import kd
from mm_ray.models.flat_params import flat_network
from mm_ray.models.layers import Output
from mm_ray.types import Batch, ClientData, ClientUpdate, RoundContext

OWN_WEIGHT = 2.0
"""Of the cross-entropy of each modality's own head; the code's value."""
SOFTENING = Phase2Config(temperature=1.0, class_temperature=2.0)
"""The code's values."""


class InfiltrationTarget(NamedTuple):
    """What the weak modality of a client is taught in a round; N clips of the client, in the order of its rows."""

    weak: str
    logits_NC: np.ndarray
    temperatures_N: np.ndarray


@dataclass(frozen=True)
class CrossModalInfiltration(TrainingPhase):
    """Audiovisual clients train all heads at once, audio-only clients the audio network."""

    weight: float = field(kw_only=True)
    """Of the infiltration."""

    name: ClassVar[str] = "fedcmi/joint"
    stream: ClassVar[str] = "phase1"
    networks: ClassVar[tuple[str, ...]] = ("audio", "av")

    def settings(self) -> dict[str, Any]:
        """Those of every training phase, and the weight."""
        return super().settings() | {"weight": self.weight}

    def trains(self, client: ClientData) -> tuple[str, ...]:
        """All heads with video, the audio network without."""
        return ("cmi",) if "video" in client.modalities else ("audio",)

    def client_update(self, context: RoundContext, client: ClientData) -> ClientUpdate:
        """Ask the received model which modality is dominant and what it says, then train."""
        if "video" not in client.modalities:
            return super().client_update(context, client)
        lesson = self._lesson(context, client)
        position = {row: i for i, row in enumerate(client.indices.tolist())}
        net = flat_network("cmi", self.model, context.shapes, context.device)

        def loss(output: Output, batch: Batch) -> Tensor:
            return self._loss(output, batch, lesson, [position[row] for row in batch.indices_B.tolist()])

        return train_local(net, context, client, self.local, loss, self.stream)

    def _lesson(self, context: RoundContext, client: ClientData) -> InfiltrationTarget:
        logits, labels_N = {}, client.labels
        for modality in client.modalities:
            net = flat_network(modality, self.model, context.shapes, context.device)
            net.load(context.params)
            logits[modality], _ = outputs_on(net, context, client)
        strong, weak = sorted(logits, key=lambda modality: -_mean_probability(logits[modality], labels_N))
        temperatures_C = class_temperatures(logits[strong], logits[weak], labels_N, SOFTENING).numpy()
        return InfiltrationTarget(weak, logits[strong], temperatures_C[labels_N])

    def _loss(self, output: Output, batch: Batch, lesson: InfiltrationTarget, rows: list[int]) -> Tensor:
        heads = output.heads
        assert heads is not None
        own = sum(functional.cross_entropy(heads[f"{m}.head"], batch.labels_B) for m in ("audio", "video"))
        teacher, temperature = (torch.from_numpy(a[rows]).to(batch.labels_B.device) for a in lesson[1:])
        imitation = output._replace(logits_BC=heads[f"{lesson.weak}.imitation"])
        infiltration = kd.loss(imitation, TeacherOutput(teacher, None, temperature[:, None]), batch.labels_B, SOFTENING)
        return functional.cross_entropy(output.logits_BC, batch.labels_B) + OWN_WEIGHT * own + self.weight * infiltration


def _mean_probability(logits_NC: np.ndarray, labels_N: np.ndarray) -> float:
    probabilities_NC = torch.from_numpy(logits_NC).softmax(1)
    return float(probabilities_NC[torch.arange(len(labels_N)), torch.from_numpy(labels_N)].mean())
