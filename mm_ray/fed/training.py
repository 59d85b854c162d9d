"""What all training phases share: sampling, local training of some networks, FedAvg per part over its holders."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional

from mm_ray.config import LocalConfig, ModelConfig
from mm_ray.errors import bad_value
from mm_ray.fed.cohort import sample_cohort
from mm_ray.fed.federation import Federation
from mm_ray.fed.local import train_local
from mm_ray.fed.phase import Role
from mm_ray.models.flat import flat_network
from mm_ray.models.layers import Output
from mm_ray.models.network import PARTS, init_part, part_size
from mm_ray.seeding import torch_stream
from mm_ray.types import Arrays, Batch, ClientData, ClientUpdate, RoundContext, ServerState

FLOAT_BYTES = 4


@dataclass(frozen=True)
class TrainingPhase:
    """FedAvg of one or more networks; a subclass says who trains what, from where, and with which loss."""

    rounds: int
    model: ModelConfig
    local: LocalConfig
    sample_frac: float
    chunk_size: int
    """Sums are taken chunk by chunk, so their last bits depend on it."""

    name: ClassVar[str]
    stream: ClassVar[str]
    """Name of the phase's random streams; phases that are compared share it."""
    networks: ClassVar[tuple[str, ...]]

    @property
    def sources(self) -> tuple[Role, ...]:
        """The networks of earlier phases to start from; none unless a subclass says otherwise."""
        return ()

    def settings(self) -> dict[str, Any]:
        """The model, the local training and the sampling."""
        return {
            "phase": self.name,
            "model": asdict(self.model),
            "local": asdict(self.local),
            "sample_frac": self.sample_frac,
            "chunk_size": self.chunk_size,
        }

    def check(self, federation: Federation) -> None:
        """Every network of the phase needs a client that trains it.

        Raises:
            UserError: It has none.

        """
        trained = {network for client in federation.clients for network in self.trains(client)}
        for network in self.networks:
            if network not in trained:
                missing = federation.identity["partition"]["video_missing"]
                raise bad_value(
                    "partition.video_missing",
                    missing,
                    f"no client trains the {network} network of {self.name}; "
                    "lower it for audiovisual clients, raise it for audio-only ones",
                )

    def trains(self, client: ClientData) -> tuple[str, ...]:
        """The networks that a client trains; none means it takes no part."""
        raise NotImplementedError

    def loss(self, output: Output, batch: Batch, context: RoundContext, client: ClientData) -> torch.Tensor:
        """The loss of a batch: cross-entropy unless a subclass says otherwise."""
        return functional.cross_entropy(output.logits_BC, batch.labels_B)

    def init(self, federation: Federation, sources: Mapping[Role, Arrays]) -> ServerState:
        """Every part of the phase's networks, from its source or drawn anew."""
        given = {part: array for role in self.sources if role.network for part, array in sources[role].items()}
        parts = dict.fromkeys(part for network in self.networks for part in PARTS[network])
        return ServerState({p: given[p] if p in given else self._fresh(p, federation) for p in parts})

    def _fresh(self, part: str, federation: Federation) -> np.ndarray:
        return init_part(part, self.model, federation.shapes, torch_stream(federation.seed, "init", self.stream, part))

    def material(self, sources: Mapping[Role, Arrays]) -> Arrays:
        """Nothing."""
        return {}

    def plan(self, federation: Federation, round_number: int) -> tuple[ClientData, ...]:
        """A fraction of each type among the clients that train something."""
        able = [client for client in federation.clients if self.trains(client)]
        return sample_cohort(able, self.sample_frac, federation.seed, self.stream, round_number)

    def client_update(self, context: RoundContext, client: ClientData) -> ClientUpdate:
        """Train each of the client's networks, one after the other."""
        total = ClientUpdate()
        for name in self.trains(client):
            net = flat_network(name, self.model, context.shapes, context.device)
            total += train_local(net, context, client, self.local, lambda o, b: self.loss(o, b, context, client), self.stream)
        return total

    def server_update(self, state: ServerState, total: ClientUpdate) -> ServerState:
        """FedAvg: each part moves by the weighted mean of its holders' changes; a part that nobody held stays."""
        moved = {part: array + total.mean(part) if part in total.sums else array for part, array in state.tensors.items()}
        return ServerState(moved, state.meta)

    def traffic(self, federation: Federation, client: ClientData) -> tuple[int, int]:
        """The parts that the client trains, once down and once up."""
        parts = {part for network in self.trains(client) for part in PARTS[network]}
        size = FLOAT_BYTES * sum(part_size(part, self.model, federation.shapes) for part in parts)
        return size, size
