"""The federation: the clients, the data they hold and the seed; what every phase is given."""

from dataclasses import asdict, dataclass
from typing import Any

from mm_ray.config import ExperimentConfig
from mm_ray.data.partition import make_clients
from mm_ray.data.table import FeatureTable
from mm_ray.types import ClientData, Shapes


@dataclass(frozen=True)
class Federation:
    """Clients, feature table and seed."""

    clients: tuple[ClientData, ...]
    table: FeatureTable
    shapes: Shapes
    seed: int
    identity: dict[str, Any]
    """What a result depends on outside its phases: data fingerprint, partition, seed (JSON-able)."""

    def of_type(self, *modalities: str) -> tuple[ClientData, ...]:
        """The clients that hold exactly these modalities."""
        return tuple(client for client in self.clients if client.modalities == modalities)


def build_federation(config: ExperimentConfig, table: FeatureTable) -> Federation:
    """Partition the training clips among clients.

    Raises:
        UserError: More clients than the data can fill, or no client left with video.

    """
    clients = make_clients(table, config.partition, config.seed)
    identity = {"data": table.fingerprint, "partition": asdict(config.partition), "seed": config.seed}
    return Federation(clients, table, table.shapes, config.seed, identity)
