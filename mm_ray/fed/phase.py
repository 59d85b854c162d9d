"""A phase: a pure round function, and what the loop must know of it."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from mm_ray.config import ModelConfig
from mm_ray.fed.federation import Federation
from mm_ray.types import Arrays, ClientData, ClientUpdate, RoundContext, ServerState


class NetworkRef(NamedTuple):
    """A network out of a phase, at the best dev round of that network; without a network, the phase's last state."""

    phase: str
    network: str | None = None


class Phase(Protocol):
    """A pure round function.

    Nothing in a phase may depend on its number of rounds: the store continues a phase of r rounds to R.
    """

    @property
    def name(self) -> str:
        """Also the prefix of its metrics in TensorBoard, e.g. `phase1/unimodal`."""
        ...

    @property
    def rounds(self) -> int:
        """How many rounds; may be raised later, and the phase goes on from what is stored."""
        ...

    @property
    def model(self) -> ModelConfig:
        """Sizes of its networks."""
        ...

    @property
    def sources(self) -> tuple[NetworkRef, ...]:
        """What of earlier phases its result depends on."""
        ...

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks that its state holds and that are evaluated on the dev set after each round."""
        ...

    @property
    def deadline_s(self) -> float:
        """After so many seconds a round goes on with the chunks that have arrived, at least one; 0 waits for all."""
        ...

    @property
    def needs_all(self) -> bool:
        """Whether nobody can be left out: then after the deadline other actors play the clients that are late."""
        ...

    def check(self, federation: Federation) -> None:
        """Refuse a federation in which the phase cannot work (UserError)."""
        ...

    def settings(self) -> dict[str, Any]:
        """All that the result depends on besides sources, data, partition and seed; never the number of rounds. JSON-able."""
        ...

    def init(self, federation: Federation, sources: Mapping[NetworkRef, Arrays]) -> ServerState:
        """The state before round 1."""
        ...

    def material(self, sources: Mapping[NetworkRef, Arrays]) -> Arrays:
        """What clients get once, at the start of the phase."""
        ...

    def plan(self, federation: Federation, round_number: int) -> tuple[ClientData, ...]:
        """The cohort of a round (from 1), in its fixed order."""
        ...

    def answers(self, federation: Federation, round_number: int, client: ClientData) -> bool:
        """Whether a client of the cohort sends its update; one that does not has received all the same."""
        ...

    def client_update(self, context: RoundContext, client: ClientData) -> ClientUpdate:
        """A client's work in a round."""
        ...

    def receive(self, context: RoundContext, client: ClientData, update: ClientUpdate) -> ClientUpdate:
        """What of a client's update goes into the sum over clients (`mm_ray.fed.update_screening`)."""
        ...

    def server_update(self, state: ServerState, total: ClientUpdate) -> ServerState:
        """The next state from the sum over the clients that answered, who may be none."""
        ...

    def traffic(self, federation: Federation, client: ClientData) -> tuple[int, int]:
        """Bytes that the client receives and sends in a round."""
        ...
