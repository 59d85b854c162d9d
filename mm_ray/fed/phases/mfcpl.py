"""MFCPL's training: joint training with complete prototypes (Le et al. 2024, arXiv 2401.13898).

After training, a client sends for each of its modalities the sums of its encoder's features (mean over time) by class; the
server makes them prototypes and sends those of *both* modalities to every client, so that one without video learns of it. The
objective is cross-entropy plus a weight times the sum of the abstract's three terms:
cross-modal contrast on the modality-specific level (features of each modality against the prototypes of each modality),
cross-modal regularisation on the modality-shared level (the mean of the clip's features to the class's complete prototype), and
cross-modal alignment (squared distance between the two modalities' features of a clip, on audiovisual clients).

The full text was not at hand: form, temperature and equal weights of the terms are our choices, and the mean of the encoders'
features stands for the shared representation. Prototypes are means over clips of the round's clients; a class keeps its old one
where nobody has it. In round 1 there are none, and only the alignment is active.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mm_ray.config import MODALITIES
from mm_ray.fed.fedavg import FLOAT_BYTES
from mm_ray.fed.federation import Federation
from mm_ray.fed.outputs import encoded_on, mean_encoded
from mm_ray.fed.phase import NetworkRef
from mm_ray.fed.phases.joint import Joint
from mm_ray.fed.prototypes import class_sums, contrast, renewed, shared_distance
from mm_ray.models.flat_params import flat_network
from mm_ray.models.layers import Output
from mm_ray.types import Arrays, Batch, ClientData, ClientUpdate, Key, RoundContext, ServerState


def prototypes_of(modality: str) -> Key:
    """The name of a modality's prototypes (C, H+1): in what is sent the tables, in updates a client's sums."""
    return Key("prototypes", modality)


@dataclass(frozen=True)
class CrossPrototypes(Joint):
    """Joint training with prototypes of each class in each modality."""

    weight: float = field(kw_only=True)
    """Of the three terms."""

    name: ClassVar[str] = "mfcpl/joint"
    sends_parts_only: ClassVar[bool] = False

    def settings(self) -> dict[str, Any]:
        """Those of every training phase, and the weight."""
        return super().settings() | {"weight": self.weight}

    def init(self, federation: Federation, sources: Mapping[NetworkRef, Arrays]) -> ServerState:
        """No class has a prototype yet."""
        state, shape = super().init(federation, sources), (federation.shapes.num_classes, self.model.hidden + 1)
        tables = {prototypes_of(modality): np.zeros(shape, np.float32) for modality in MODALITIES}
        return replace(state, params={**state.params, **tables})

    def loss(self, output: Output, batch: Batch, context: RoundContext, client: ClientData) -> Tensor:
        """Cross-entropy and the three terms; with weight 0 it is MultiFL's."""
        cross_entropy = super().loss(output, batch, context, client)
        return cross_entropy + self.weight * self._terms(output, batch, context) if self.weight else cross_entropy

    def _terms(self, output: Output, batch: Batch, context: RoundContext) -> Tensor:
        labels_B, features = batch.labels_B, mean_encoded(output)
        tables = {m: torch.from_numpy(context.params[prototypes_of(m)].copy()).to(labels_B.device) for m in MODALITIES}
        contrasts = [contrast(own, labels_B, table) for own in features.values() for table in tables.values()]
        terms = torch.stack(contrasts).mean() + shared_distance(list(features.values()), labels_B, tables)
        if len(features) > 1:
            terms = terms + functional.mse_loss(features["audio"], features["video"])
        return terms

    def client_update(self, context: RoundContext, client: ClientData) -> ClientUpdate:
        """Train, then take the sums of the trained encoders' features by class."""
        update = super().client_update(context, client)
        (name,) = self.trains(client)
        net = flat_network(name, self.model, context.shapes, context.device)  # the resident one: it still holds what it learned
        labels_N, num_classes = client.labels, context.shapes.num_classes
        features = encoded_on(net, context, client)
        sums = {prototypes_of(m): class_sums(values, labels_N, num_classes) for m, values in features.items()}
        return update + ClientUpdate({}, sums, {})

    def server_update(self, state: ServerState, total: ClientUpdate) -> ServerState:
        """Parts as in every training; the prototypes anew."""
        moved = super().server_update(state, total)
        names = [name for name in map(prototypes_of, MODALITIES) if name in total.sums]
        tables = {name: renewed(state.params[name], total.sums[name]) for name in names}
        return replace(moved, params={**moved.params, **tables})

    def traffic(self, federation: Federation, client: ClientData) -> tuple[int, int]:
        """Besides the parts, the prototypes of both modalities down and the client's own up."""
        down, up = super().traffic(federation, client)
        table = FLOAT_BYTES * federation.shapes.num_classes * (self.model.hidden + 1)
        return down + table * len(MODALITIES), up + table * len(client.modalities)
