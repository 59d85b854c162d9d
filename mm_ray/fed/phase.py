"""A phase: one stage of a method, as the round loop sees it.

A phase has eight members, which are its algorithm, and settings, which are its dataclass fields. What all phases share (who
reports back, the deadline, the screening of updates, the key) is a function of these settings, not a member.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from mm_ray.config import ModelConfig, ServerConfig
from mm_ray.fed.federation import Federation
from mm_ray.fed.server_optimizers import server_settings
from mm_ray.models.encoder import model_settings
from mm_ray.types import Arrays, ClientData, ClientUpdate, Cost, RoundContext, ServerState

KEY = "key"
"""In a field's metadata: a function of the phase that returns what the field adds to the phase's key. Without it, a field
enters the key under its own name."""
OUTSIDE_KEY: dict[str, Any] = {KEY: lambda phase: {}}
PLAIN_MEAN = ServerConfig(optimizer="fedavg", average=0.0)


def if_set(name: str) -> dict[str, Any]:
    """Metadata of a setting of participation: it enters the key unless it is off, or every client takes part anyway."""

    def enters(phase: "Phase") -> dict[str, Any]:
        value = getattr(phase, name)
        return {name: value} if value and not phase.full_participation else {}

    return {KEY: enters}


class NetworkRef(NamedTuple):
    """A network from a phase, at the network's best dev round; without a network, the phase's last server arrays."""

    phase: str
    network: str | None = None
    frozen: bool = False
    """Clients get this source once and do not train it; otherwise training starts from its parts."""


@dataclass(frozen=True)
class PhaseSettings:
    """The settings that the round loop reads of every phase."""

    rounds: int = field(metadata=OUTSIDE_KEY)
    """May be raised later; the phase then continues from its stored rounds, so nothing in it may depend on this number."""
    _: KW_ONLY
    model: ModelConfig = field(metadata={KEY: lambda phase: {"model": model_settings(phase.model)}})
    """Encoders and sizes of its networks."""
    server: ServerConfig = field(default=PLAIN_MEAN, metadata={KEY: lambda phase: server_settings(phase.server)})
    """How an update is screened, and the server's step."""
    sample_frac: float = field(default=1.0, metadata=if_set("sample_frac"))
    """Fraction of the clients in a cohort."""
    dropout_frac: float = field(default=0.0, metadata=if_set("dropout_frac"))
    """Probability that a client of the cohort does not report back."""
    deadline_s: float = field(default=0.0, metadata=if_set("deadline_s"))
    """After this many seconds a round continues with the chunks that have arrived, at least one; 0 waits for all."""

    sim_deadline_s: float = field(default=0.0, metadata=if_set("sim_deadline_s"))
    """After this many simulated seconds a round continues without the clients that are late, but it always takes the first
    update; 0 waits for all."""

    full_participation: ClassVar[bool] = False
    """Whether every client must take part: none drops out, and after the deadline other actors also run the late clients."""
    compares_clients: ClassVar[bool] = False
    """Whether the server needs each client's update, so that a sum over clients is not enough."""
    stream: ClassVar[str] = ""
    """Name of the random streams; phases that are compared share it."""


class Phase(PhaseSettings, ABC):
    """A pure round function, in eight members.

    Nothing in a phase may depend on its number of rounds: the store continues a phase of r rounds to R.
    """

    name: ClassVar[str]
    """Also the prefix of its metrics in TensorBoard, e.g. `phase1/unimodal`."""
    networks: ClassVar[tuple[str, ...]]
    """The networks that its state holds and that are evaluated on the dev set after each round."""

    @property
    def sources(self) -> tuple[NetworkRef, ...]:
        """What of earlier phases its result depends on; nothing by default."""
        return ()

    @abstractmethod
    def init(self, federation: Federation, sources: Mapping[NetworkRef, Arrays]) -> ServerState:
        """The state before round 1."""

    @abstractmethod
    def cohort(self, federation: Federation, round_number: int) -> tuple[ClientData, ...]:
        """The clients of a round (from 1), in their fixed order.

        Raises:
            UserError: The phase cannot work in this federation.

        """

    @abstractmethod
    def client_update(self, context: RoundContext, client: ClientData) -> ClientUpdate:
        """A client's work in a round."""

    @abstractmethod
    def server_update(self, state: ServerState, total: ClientUpdate) -> ServerState:
        """The next state from the sum over the clients that reported back, which may be none."""

    @abstractmethod
    def cost(self, federation: Federation, client: ClientData) -> Cost:
        """Bytes that the client receives and sends in a round, and FLOPs that it computes (`mm_ray.fed.cost`)."""


def shared_inputs(sources: Mapping[NetworkRef, Arrays]) -> dict[Any, np.ndarray]:
    """What clients get once, at the start of a phase: the arrays of its frozen sources."""
    return {name: array for source, arrays in sources.items() if source.frozen for name, array in arrays.items()}


def key_settings(phase: Phase) -> dict[str, Any]:
    """All that a phase's result depends on besides sources, data, partition and seed: its name and its fields. JSON-able."""
    content: dict[str, Any] = {"phase": phase.name}
    for each in fields(phase):
        value = getattr(phase, each.name)
        as_json = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        content |= each.metadata[KEY](phase) if KEY in each.metadata else {each.name: as_json}
    return content
