"""Between the phases: the frozen teacher's logits on the audiovisual clients' clips, computed once and stored.

Temperature and loss weights do not change them, so every trial that shares the teacher shares them, and no round of phase 2
runs the video encoder. In a real federation they never leave the client: only the teacher travels.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from mm_ray.config import ModelConfig
from mm_ray.data.batch import gather
from mm_ray.evaluate.predictions import logits_of
from mm_ray.fed.federation import Federation
from mm_ray.fed.phase import Role
from mm_ray.fed.training import FLOAT_BYTES
from mm_ray.models.flat import flat_network
from mm_ray.models.network import PARTS, READS, part_size
from mm_ray.types import Arrays, ClientData, ClientUpdate, RoundContext, ServerState


@dataclass(frozen=True)
class TeacherLogits:
    """One round over all audiovisual clients; its state is `logits` (N, C), NaN in the rows of clips without a teacher."""

    model: ModelConfig
    sources: tuple[Role, ...]
    """The teacher."""
    rounds: int = 1

    name: ClassVar[str] = "phase1/teacher_logits"
    networks: ClassVar[tuple[str, ...]] = ()

    def check(self, federation: Federation) -> None:
        """Nothing to refuse: who made the teacher has audiovisual clients."""

    def settings(self) -> dict[str, Any]:
        """The model."""
        return {"phase": self.name, "model": asdict(self.model)}

    def init(self, federation: Federation, sources: Mapping[Role, Arrays]) -> ServerState:
        """No clip has logits yet."""
        shape = (len(federation.table.labels_N), federation.shapes.num_classes)
        return ServerState({"logits": np.full(shape, np.nan, np.float32)})

    def material(self, sources: Mapping[Role, Arrays]) -> Arrays:
        """The teacher's parameters."""
        return sources[self.sources[0]]

    def plan(self, federation: Federation, round_number: int) -> tuple[ClientData, ...]:
        """All audiovisual clients."""
        return federation.of_type("audio", "video")

    def client_update(self, context: RoundContext, client: ClientData) -> ClientUpdate:
        """The teacher's logits on the client's clips, under the client's own key."""
        net = flat_network("av", self.model, context.shapes, context.device)
        net.load(context.material)
        rows = client.indices
        logits_NC = logits_of(
            net.network, lambda some: gather(context.table, rows[some], READS["av"]), context.table.audio_lengths(rows)
        )
        correct = float((logits_NC.argmax(1) == context.table.labels_N[rows]).sum())
        return ClientUpdate({}, {f"rows/{client.id}": rows, f"logits/{client.id}": logits_NC}, {"correct": correct})

    def server_update(self, state: ServerState, total: ClientUpdate) -> ServerState:
        """Put each client's logits into its rows."""
        logits_NC = state.tensors["logits"].copy()
        for key, rows in total.sums.items():
            if key.startswith("rows/"):
                logits_NC[rows] = total.sums[key.replace("rows/", "logits/")]
        return ServerState({"logits": logits_NC})

    def traffic(self, federation: Federation, client: ClientData) -> tuple[int, int]:
        """The teacher goes down; nothing comes up."""
        return FLOAT_BYTES * sum(part_size(part, self.model, federation.shapes) for part in PARTS["av"]), 0
