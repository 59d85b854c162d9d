"""MFCPL (Le et al. 2024, arXiv 2401.13898): MultiFL's joint training, with complete prototypes of both modalities.

A prototype is the mean of an encoder's features over the clips of a class. After training, a client sends for each of its
modalities the sums of its encoder's features (mean over time) by class; the server makes them prototypes and sends those of
*both* modalities to every client, so that clients without video learn from it. The objective is cross-entropy plus a weight
times the sum of the abstract's three terms:
cross-modal contrast on the modality-specific level (features of each modality against the prototypes of each modality),
cross-modal regularisation on the modality-shared level (the mean of the clip's features to the class's complete prototype), and
cross-modal alignment (squared distance between the two modalities' features of a clip, on audiovisual clients).

The full text was not at hand: form, softness and equal weights of the terms are our choices, and the mean of the encoders'
features stands for the shared representation. Prototypes are means over clips of the round's clients; a class that none of them
has keeps its old prototype. In round 1 there are no prototypes, and only the alignment is active. The source fills a missing
video with zeros; here audio-only clients train the audio network (our choice, as in `multifl`); if there are none, a line of
output says so.
`phase2.loss_weight` is the weight of the terms (our choice); local training and server are phase 1's.

Shape suffixes: B batch, N clips of a client, C classes, H features, P = H+1, M modalities. A table of prototypes is (C, P): the
prototypes, and in the last column 1 where the class has one. A client's share of it has sums of features and in the last column
the number of clips, so that clients are summed with `+`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mm_ray.config import MODALITIES, ExperimentConfig
from mm_ray.data.batching import gather
from mm_ray.fed.cost import forward_flops
from mm_ray.fed.evaluation import over_batches
from mm_ray.fed.fedavg import FLOAT_BYTES
from mm_ray.fed.federation import Federation
from mm_ray.fed.method import Method, Trial, loss_weight, phase1_rate, total_rounds, training
from mm_ray.fed.phase import NetworkRef
from mm_ray.methods.multifl import Joint
from mm_ray.models.encoder import output_size
from mm_ray.models.flat_params import FlatNetwork, flat_network
from mm_ray.models.layers import MeanPool, Output
from mm_ray.models.network import READS
from mm_ray.types import Arrays, Batch, ClientData, ClientUpdate, Cost, Key, RoundContext, ServerState

CONTRAST_TEMPERATURE = 0.5
"""Of the cosines in `contrast` (our choice)."""


def prototypes_of(modality: str) -> Key:
    """The name of a modality's prototypes (C, P): in what is sent the tables, in updates a client's sums."""
    return Key("prototypes", modality)


@dataclass(frozen=True)
class CrossPrototypes(Joint):
    """Joint training with prototypes of each class in each modality."""

    weight: float = field(kw_only=True)
    """Weight of the three terms."""

    name: ClassVar[str] = "mfcpl/joint"
    sends_parts_only: ClassVar[bool] = False

    def init(self, federation: Federation, sources: Mapping[NetworkRef, Arrays]) -> ServerState:
        """No class has a prototype yet."""
        state = super().init(federation, sources)
        tables = {prototypes_of(modality): np.zeros(self.table_shape(federation), np.float32) for modality in MODALITIES}
        return replace(state, params={**state.params, **tables})

    def table_shape(self, federation: Federation) -> tuple[int, int]:
        """A row for each class: the prototype and whether there is one."""
        return federation.shapes.num_classes, output_size("audio", self.model, federation.shapes) + 1

    def loss(self, output: Output, batch: Batch, context: RoundContext, client: ClientData) -> Tensor:
        """Cross-entropy and the three terms; with weight 0 it is MultiFL's."""
        cross_entropy = super().loss(output, batch, context, client)
        if not self.weight:
            return cross_entropy
        labels_B, features = batch.labels_B, mean_encoded(output)
        tables = {m: torch.from_numpy(context.params[prototypes_of(m)].copy()).to(labels_B.device) for m in MODALITIES}
        contrasts = [contrast(own, labels_B, table) for own in features.values() for table in tables.values()]
        terms = torch.stack(contrasts).mean() + shared_distance(list(features.values()), labels_B, tables)
        if len(features) > 1:
            terms = terms + functional.mse_loss(features["audio"], features["video"])
        return cross_entropy + self.weight * terms

    def client_update(self, context: RoundContext, client: ClientData) -> ClientUpdate:
        """Train, then take the sums of the trained encoders' features by class."""
        update = super().client_update(context, client)
        (name,) = self.trains(client)
        net = flat_network(name, self.model, context.shapes, context.device)  # the resident one: it still holds what it learned
        features = encoded_on(net, context, client)
        num_classes = context.shapes.num_classes
        sums = {prototypes_of(m): class_sums(values_NH, client.labels, num_classes) for m, values_NH in features.items()}
        return update + ClientUpdate(sums=sums)

    def server_update(self, state: ServerState, total: ClientUpdate) -> ServerState:
        """Average the parts as usual, and make prototypes of what the round's clients sent."""
        moved = super().server_update(state, total)
        names = [name for name in map(prototypes_of, MODALITIES) if name in total.sums]
        tables = {name: updated_table(state.params[name], total.sums[name]) for name in names}
        return replace(moved, params={**moved.params, **tables})

    def cost(self, federation: Federation, client: ClientData) -> Cost:
        """Besides the parts, the prototypes of both modalities down and the client's own up."""
        down, up, flops = super().cost(federation, client)
        table = FLOAT_BYTES * math.prod(self.table_shape(federation))
        (name,) = self.trains(client)
        flops += forward_flops(name, self.model, federation) * self.usable(client).num_clips  # for its prototypes
        return Cost(down + table * len(MODALITIES), up + table * len(client.modalities), flops)


def encoded_on(net: FlatNetwork, context: RoundContext, client: ClientData) -> dict[str, np.ndarray]:
    """By modality: the encoder's output for the client's N clips, mean over time (N, H), in evaluation mode, as loaded."""
    table, rows, modalities = context.table, client.indices, READS[net.network.name]

    def run(batch: Batch) -> list[Tensor]:
        return list(mean_encoded(net.network(batch.to(net.params.device))).values())

    features = over_batches(run, lambda some: gather(table, rows[some], modalities), table.audio_lengths(rows))
    return dict(zip(modalities, features, strict=True))


def mean_encoded(output: Output) -> dict[str, Tensor]:
    """By modality: the encoder's mean over a clip's real steps (B, H)."""
    assert output.sequences is not None
    return {modality: MeanPool()(sequence) for modality, sequence in output.sequences.items()}


def class_sums(features_NH: np.ndarray, labels_N: np.ndarray, num_classes: int) -> np.ndarray:
    """A client's share (C, P), float32."""
    sums_CP = np.zeros((num_classes, features_NH.shape[1] + 1), np.float32)
    np.add.at(sums_CP, labels_N, np.concatenate([features_NH, np.ones((len(labels_N), 1), np.float32)], axis=1))
    return sums_CP


def updated_table(table_CP: np.ndarray, sums_CP: np.ndarray) -> np.ndarray:
    """The table after a round: the mean over all clips of the round; a class that no client had keeps its row."""
    counts_C1 = sums_CP[:, -1:]
    return np.where(counts_C1 > 0, sums_CP / np.maximum(counts_C1, 1), table_CP)


def contrast(features_BH: Tensor, labels_B: Tensor, table_CP: Tensor) -> Tensor:
    """InfoNCE of cosines to the prototypes: the clip's own class against the others (scalar, mean over clips whose class has
    one)."""
    known_C, prototypes_CH = table_CP[:, -1] > 0, table_CP[:, :-1]
    cosines_BC = functional.normalize(features_BH, dim=1) @ functional.normalize(prototypes_CH, dim=1).T
    logits_BC = (cosines_BC / CONTRAST_TEMPERATURE).masked_fill(~known_C, -torch.inf)
    has_B = known_C[labels_B]
    return functional.cross_entropy(logits_BC[has_B], labels_B[has_B], reduction="sum") / max(int(has_B.sum()), 1)


def shared_distance(features: Sequence[Tensor], labels_B: Tensor, tables: Mapping[str, Tensor]) -> Tensor:
    """Mean squared distance of a clip's mean over modalities to its class's complete prototype, the mean over modalities.

    A modality without a prototype of the class is left out, and so is a clip whose modalities all lack one.
    """
    stacked_MBP = torch.stack([table_CP[labels_B] for table_CP in tables.values()])
    known_MB1 = stacked_MBP[:, :, -1:]
    complete_BH = (stacked_MBP[:, :, :-1] * known_MB1).sum(0) / known_MB1.sum(0).clamp_min(1)
    has_B = known_MB1.sum(0)[:, 0] > 0
    squares_BH = (torch.stack(list(features)).mean(0) - complete_BH).square()
    return squares_BH[has_B].mean(1).sum() / max(int(has_B.sum()), 1)


def build(config: ExperimentConfig) -> Method:
    """Joint training with prototypes from the first round to the last."""
    joint = CrossPrototypes(total_rounds(config), **training(config, config.phase1), weight=config.phase2.loss_weight)
    return Method((joint,), student=NetworkRef(joint.name, "audio"), teacher=NetworkRef(joint.name, "av"))


def space(trial: Trial) -> dict[str, Any]:
    """What `compare --tune` searches: the learning rate and the weight of the prototypes' terms."""
    return phase1_rate(trial) | loss_weight(trial)
