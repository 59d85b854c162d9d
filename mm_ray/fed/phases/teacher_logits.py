"""Between the phases: the frozen teacher's logits on all clips of the audiovisual clients, computed once and stored.

What the teacher adds to the labels is counted beside them (`mm_ray.fed.diagnosis`): only these counts leave a client.

Temperature and loss weights do not change them, so every trial that shares the teacher shares them, and no round of phase 2
runs the video encoder. Where a loss reads them, the teacher's pooled features are stored beside the logits. In a real
federation neither leaves the client: only the teacher travels.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from mm_ray.config import ModelConfig
from mm_ray.fed.diagnosis import COUNTS, counts, mean_entropy
from mm_ray.fed.fedavg import FLOAT_BYTES
from mm_ray.fed.federation import Federation
from mm_ray.fed.outputs import logits_on, outputs_on
from mm_ray.fed.phase import NetworkRef
from mm_ray.fed.scoring import rows_of
from mm_ray.models.flat_params import flat_network
from mm_ray.models.network import PARTS, part_size, pooled_size
from mm_ray.types import Arrays, ClientData, ClientUpdate, RoundContext, ServerState


@dataclass(frozen=True)
class TeacherLogits:
    """One round over all audiovisual clients; its state has `server["logits"]` (N, C), NaN for clips without a teacher.

    With `features` it also has `server["features"]` (N, P), what the teacher's classifier sees. The simulation holds the rows
    of all clients in one array, of which a client of the next phase reads its own.
    """

    model: ModelConfig
    sources: tuple[NetworkRef, ...]
    """The teacher."""
    network: str = "av"
    """The teacher's network: `av`, or `audio` for self-distillation."""
    features: bool = False
    rounds: int = 1
    deadline_s: float = 0.0
    """It decides who computes the logits and not what they are, so it does not enter the key."""

    name: ClassVar[str] = "phase1/teacher_logits"
    networks: ClassVar[tuple[str, ...]] = ()
    needs_all: ClassVar[bool] = True

    def check(self, federation: Federation) -> None:
        """Nothing to refuse: who made the teacher has audiovisual clients."""

    def settings(self) -> dict[str, Any]:
        """The model, which network teaches, and whether features are stored."""
        options = {"features": self.features, "network": self.network if self.network != "av" else ""}
        return {"phase": self.name, "model": asdict(self.model)} | {name: value for name, value in options.items() if value}

    def init(self, federation: Federation, sources: Mapping[NetworkRef, Arrays]) -> ServerState:
        """No clip has logits yet."""
        sizes = {"logits": federation.shapes.num_classes}
        if self.features:
            sizes["features"] = pooled_size(self.network, self.model)
        num_clips = len(federation.table.labels_N)
        tensors = {name: np.full((num_clips, size), np.nan, np.float32) for name, size in sizes.items()}
        net = flat_network(self.network, self.model, federation.shapes)
        net.load(self.material(sources))
        dev_NC = logits_on(net, federation.table, rows_of("dev", self.network, federation.table))
        return ServerState(server=tensors, meta={"dev_entropy": mean_entropy(dev_NC)})

    def material(self, sources: Mapping[NetworkRef, Arrays]) -> Arrays:
        """The teacher's parameters."""
        return sources[self.sources[0]]

    def plan(self, federation: Federation, round_number: int) -> tuple[ClientData, ...]:
        """All audiovisual clients."""
        return federation.of_type("audio", "video")

    def answers(self, federation: Federation, round_number: int, client: ClientData) -> bool:
        """Every client does: it asks its own teacher, nothing is sent."""
        return True

    def client_update(self, context: RoundContext, client: ClientData) -> ClientUpdate:
        """The teacher's logits on the client's clips, which the client keeps."""
        net = flat_network(self.network, self.model, context.shapes, context.device)
        net.load(context.material)
        logits_NC, features_NP = outputs_on(net, context, client)
        told = {"rows": client.indices, "logits": logits_NC} | ({"features": features_NP} if self.features else {})
        return ClientUpdate(metrics=counts(logits_NC, client), kept={client.id: told})

    def receive(self, context: RoundContext, client: ClientData, update: ClientUpdate) -> ClientUpdate:
        """All of it: the logits stay with their client, and nobody else reads them."""
        return update

    def server_update(self, state: ServerState, total: ClientUpdate) -> ServerState:
        """Put what each client has into its rows."""
        whole = {name: array.copy() for name, array in state.server.items()}
        for own in total.kept.values():
            for name, array in whole.items():
                array[own["rows"]] = own[name]
        seen = {name: total.metrics[name] for name in COUNTS if name in total.metrics}
        return ServerState(server=whole, meta={"metrics": {"teacher/dev_entropy": state.meta["dev_entropy"], **seen}})

    def traffic(self, federation: Federation, client: ClientData) -> tuple[int, int]:
        """The teacher goes down; nothing comes up."""
        return FLOAT_BYTES * sum(part_size(part, self.model, federation.shapes) for part in PARTS[self.network]), 0
