"""FedCMI (Fan et al. 2023, arXiv 2401.00894): joint training in which the dominant modality infiltrates the weak one.

The paper's full text was not at hand; its abstract and published code were. As there, an audiovisual client minimises the
cross-entropy of the fusion model, twice that of each modality's own classifier, and a distillation term: a second projector of
the weak modality learns the dominant modality's output, as computed by the *received* model, with class-wise temperatures
(strength 2, T 1).
The dominant modality is the one with the higher mean probability of the right class. Audio-only clients take the cross-entropy.

Our choices: dominance is judged once per round with the received model (the code: in every batch, with the model in training).
Projector and classifier form a head like that of every network here. The imitating head (`audio.imitation`) has its own
classifier and serves training only, so knowledge enters through the encoder: the student is the plain audio network (the code
fuses both projectors where a modality is missing). The distillation loss is T^2 KL as elsewhere here (the code has no T^2).
Everything is averaged, and infiltration begins in round 1 (the code has options for both).
`phase2.loss_weight` is the weight of the infiltration; local training and server are phase 1's.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mm_ray.config import ExperimentConfig, Phase2Config
from mm_ray.distill.teacher_output import TeacherOutput, class_temperatures
from mm_ray.fed.cost import forward_flops
from mm_ray.fed.evaluation import outputs_on
from mm_ray.fed.fedavg import TrainingPhase
from mm_ray.fed.federation import Federation
from mm_ray.fed.method import Method, Trial, loss_weight, phase1_rate, total_rounds, training
from mm_ray.fed.phase import NetworkRef
from mm_ray.losses import kd
from mm_ray.models.flat_params import flat_network
from mm_ray.models.layers import Output
from mm_ray.types import Batch, ClientData, ClientUpdate, Cost, RoundContext

OWN_WEIGHT = 2.0
"""Weight of the cross-entropy of each modality's own head; the code's value."""
DISTILLATION = Phase2Config(temperature=1.0, class_temperature=2.0)
"""The code's values."""


class InfiltrationTarget(NamedTuple):
    """What the weak modality of a client learns from in a round; N clips of the client, in the order of its rows."""

    weak: str
    logits_NC: np.ndarray
    temperatures_N: np.ndarray


@dataclass(frozen=True)
class CrossModalInfiltration(TrainingPhase):
    """Audiovisual clients train all heads at once, audio-only clients the audio network."""

    weight: float = field(kw_only=True)
    """Weight of the infiltration."""

    name: ClassVar[str] = "fedcmi/joint"
    stream: ClassVar[str] = "phase1"
    networks: ClassVar[tuple[str, ...]] = ("audio", "av")

    def trains(self, client: ClientData) -> tuple[str, ...]:
        """All heads with video, the audio network without."""
        return ("cmi",) if "video" in client.modalities else ("audio",)

    def client_update(self, context: RoundContext, client: ClientData) -> ClientUpdate:
        """Compute with the received model which modality is dominant, and its output; then train."""
        if "video" not in client.modalities:
            return super().client_update(context, client)
        target = self.infiltration_target(context, client)
        position = {row: i for i, row in enumerate(client.indices.tolist())}
        net = flat_network("cmi", self.model, context.shapes, context.device)

        def loss(output: Output, batch: Batch) -> Tensor:
            return self.infiltration_loss(output, batch, target, [position[row] for row in batch.indices_B.tolist()])

        return self.train(net, context, client, loss)

    def cost(self, federation: Federation, client: ClientData) -> Cost:
        """Besides the training, a forward pass of the received model on each clip of an audiovisual client."""
        cost, asked = super().cost(federation, client), client.modalities if "video" in client.modalities else ()
        flops = sum(forward_flops(modality, self.model, federation) for modality in asked)
        return cost._replace(flops=cost.flops + flops * self.usable(client).num_clips)

    def infiltration_target(self, context: RoundContext, client: ClientData) -> InfiltrationTarget:
        """The dominant modality's output on the client's clips, by the received model."""
        logits, labels_N, right = {}, torch.from_numpy(client.labels), {}
        for modality in client.modalities:
            net = flat_network(modality, self.model, context.shapes, context.device)
            net.load(context.params)
            logits[modality], _ = outputs_on(net, context.table, client.indices)
            probabilities_NC = torch.from_numpy(logits[modality]).softmax(1)
            right[modality] = float(probabilities_NC[torch.arange(len(labels_N)), labels_N].mean())
        strong, weak = sorted(logits, key=lambda modality: -right[modality])
        temperatures_C = class_temperatures(logits[strong], logits[weak], client.labels, DISTILLATION).numpy()
        return InfiltrationTarget(weak, logits[strong], temperatures_C[client.labels])

    def infiltration_loss(self, output: Output, batch: Batch, target: InfiltrationTarget, rows: list[int]) -> Tensor:
        """The objective of an audiovisual client's batch, whose clips have these positions among the client's."""
        heads = output.heads
        assert heads is not None
        own = sum(functional.cross_entropy(heads[f"{m}.head"], batch.labels_B) for m in ("audio", "video"))
        teacher, temperature = (torch.from_numpy(a[rows]).to(batch.labels_B.device) for a in target[1:])
        imitation = output._replace(logits_BC=heads[f"{target.weak}.imitation"])
        infiltration = kd.loss(imitation, TeacherOutput(teacher, None, temperature[:, None]), batch.labels_B, DISTILLATION)
        return functional.cross_entropy(output.logits_BC, batch.labels_B) + OWN_WEIGHT * own + self.weight * infiltration


def build(config: ExperimentConfig) -> Method:
    """Joint training with infiltration from the first round to the last."""
    common = training(config, config.phase1)
    joint = CrossModalInfiltration(total_rounds(config), **common, weight=config.phase2.loss_weight)
    return Method((joint,), student=NetworkRef(joint.name, "audio"), teacher=NetworkRef(joint.name, "av"))


def space(trial: Trial) -> dict[str, Any]:
    """What `compare --tune` searches: the learning rate and the weight of the infiltration."""
    return phase1_rate(trial) | loss_weight(trial)
