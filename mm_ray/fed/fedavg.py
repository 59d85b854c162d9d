"""What all training phases share: sampling, local training of some networks, the server's step per part over its holders."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional

from mm_ray.config import LocalConfig, ModelConfig, ServerConfig
from mm_ray.errors import bad_value
from mm_ray.fed.batched_training import stacked_updates
from mm_ray.fed.cohort import poisson_cohort, sample_cohort
from mm_ray.fed.federation import Federation
from mm_ray.fed.local_training import local_settings, train_local
from mm_ray.fed.phase import NetworkRef
from mm_ray.fed.privacy import DpEvent, add_gaussian_noise, epsilon_of
from mm_ray.fed.robust_aggregation import MEAN, RULES, robust_aggregate
from mm_ray.fed.scaffold import control_variates, moved_controls
from mm_ray.fed.server_optimizers import averaged, server_memory, server_settings, server_step
from mm_ray.fed.update_screening import screen_update
from mm_ray.models.flat_params import flat_network
from mm_ray.models.layers import Output
from mm_ray.models.network import PARTS, init_part, part_size
from mm_ray.plugins import resolve
from mm_ray.seeding import numpy_stream, torch_stream
from mm_ray.types import Arrays, Batch, ClientData, ClientUpdate, RoundContext, ServerState, merged

FLOAT_BYTES = 4


@dataclass(frozen=True)
class TrainingPhase:
    """Federated averaging of one or more networks; a subclass says who trains what, from where, and with which loss."""

    rounds: int
    model: ModelConfig
    local: LocalConfig
    sample_frac: float
    chunk_size: int
    """Sums are taken chunk by chunk, so their last bits depend on it."""
    server: ServerConfig = field(default=ServerConfig(), kw_only=True)
    dropout_frac: float = field(default=0.0, kw_only=True)
    """Probability that a sampled client does not answer."""
    deadline_s: float = field(default=0.0, kw_only=True)
    """See `mm_ray.fed.phase.Phase.deadline_s`."""
    section: str = field(default="phase1", kw_only=True)
    """The section of the config that its settings come from, for errors."""
    vectorize: bool = field(default=False, kw_only=True)
    """Whether the clients of a chunk are trained together."""

    needs_all: ClassVar[bool] = False
    name: ClassVar[str]
    stream: ClassVar[str]
    """Name of the phase's random streams; phases that are compared share it."""
    networks: ClassVar[tuple[str, ...]]
    sends_parts_only: ClassVar[bool] = True
    """Whether a client's update is a change of parameters that all holders share, and nothing else."""

    @property
    def sources(self) -> tuple[NetworkRef, ...]:
        """The networks of earlier phases to start from; none unless a subclass says otherwise."""
        return ()

    def settings(self) -> dict[str, Any]:
        """The model, the local training, the server's step and the sampling; options that are off do not enter."""
        content: dict[str, Any] = {
            "phase": self.name,
            "model": asdict(self.model),
            "local": local_settings(self.local),
            "sample_frac": self.sample_frac,
            "chunk_size": self.chunk_size,
        }
        options = {
            "dropout_frac": self.dropout_frac,
            "deadline_s": self.deadline_s,
            "vectorize": self.vectorize and self.stacks,
        }
        return content | server_settings(self.server) | {name: value for name, value in options.items() if value}

    def check(self, federation: Federation) -> None:
        """Every network of the phase needs a client that trains it.

        Raises:
            UserError: It has none, or the server is asked for what does not go with the phase.

        """
        self._check_server()
        trained = self._trained_parts(federation)
        for network in self.networks:
            if not trained.issuperset(PARTS[network]):
                partition = federation.identity["partition"]
                if "labelled" in partition:
                    why = f"no client with a labelled clip trains the {network} network of {self.name}; raise it"
                    raise bad_value("partition.labelled", partition["labelled"], why)
                raise bad_value(
                    "partition.video_missing",
                    partition["video_missing"],
                    f"no client trains the {network} network of {self.name}; "
                    "lower it for audiovisual clients, raise it for audio-only ones",
                )

    def _check_server(self) -> None:
        if self.server.noise and self.deadline_s:
            why = f"with --{self.section}.server.noise who is late could depend on another client's clips, which epsilon"
            why = f"{why} does not cover; use 0"
            raise bad_value("clients.deadline_s", self.deadline_s, why)
        plain = self.sends_parts_only and not self.local.scaffold
        for name, asked in (("rule", self.server.rule != MEAN), ("noise", self.server.noise > 0)):
            if asked and not plain:
                why = f"with --{self.section}.local.scaffold" if self.local.scaffold else f"in {self.name}"
                why = f"{why} clients do not send a change of shared parameters only; leave it out"
                raise bad_value(f"{self.section}.server.{name}", getattr(self.server, name), why)
        if self.server.rule != MEAN:
            resolve(f"{self.section}.server.rule", self.server.rule, RULES, "combine")
        if self.server.noise:
            epsilon_of([DpEvent(self.sample_frac, self.server.noise, 1)], 1e-5)  # the accountant is there

    def trains(self, client: ClientData) -> tuple[str, ...]:
        """The networks that a client trains; none means it takes no part."""
        raise NotImplementedError

    def usable(self, client: ClientData) -> ClientData:
        """The client with the clips that the phase learns from: those with a label, unless a subclass says otherwise."""
        return client.labelled()

    @property
    def stacks(self) -> bool:
        """Whether clients can be trained together: a subclass with a `client_update` of its own says so itself."""
        return type(self).client_update is TrainingPhase.client_update

    @property
    def joins(self) -> bool:
        """Whether the loss of two batches of equal size is the mean of their losses; a subclass with another loss says so."""
        return type(self).loss is TrainingPhase.loss

    def loss(self, output: Output, batch: Batch, context: RoundContext, client: ClientData) -> torch.Tensor:
        """The loss of a batch: cross-entropy unless a subclass says otherwise."""
        return functional.cross_entropy(output.logits_BC, batch.labels_B)

    def init(self, federation: Federation, sources: Mapping[NetworkRef, Arrays]) -> ServerState:
        """Every part of the phase's networks and of those that clients train, from its source or drawn anew, and memories."""
        given = {part: array for role in self.sources if role.network for part, array in sources[role].items()}
        named = [part for network in self.networks for part in PARTS[network]]
        parts = dict.fromkeys([*named, *sorted(self._trained_parts(federation))])
        params = {p: given[p] if p in given else self._fresh(p, federation) for p in parts}
        controls = control_variates(params) if self.local.scaffold else {}
        memory, meta = server_memory(self.server, params), self._meta(federation, list(parts))
        return ServerState({**params, **controls}, memory, meta=meta)

    def _meta(self, federation: Federation, parts: list[str]) -> dict[str, Any]:
        """The rounds so far, how many clients hold each part, and where the noise comes from, as far as they are needed."""
        rounds = {"rounds": 0} if self.server.average else {}
        if not (self.local.scaffold or self.server.noise):
            return rounds
        held = [part for client in self._able(federation) for part in self._parts(client)]
        noise = {"noise_seed": federation.seed, "stream": self.name, "noised_rounds": 0} if self.server.noise else {}
        return rounds | {"holders": {part: held.count(part) for part in parts}} | noise

    def _parts(self, client: ClientData) -> set[str]:
        return {part for network in self.trains(client) for part in PARTS[network]}

    def _trained_parts(self, federation: Federation) -> set[str]:
        return {part for client in self._able(federation) for part in self._parts(client)}

    def _able(self, federation: Federation) -> list[ClientData]:
        """The clients that train something and have clips for it."""
        return [client for client in federation.clients if self.trains(client) and self.usable(client).num_clips]

    def _fresh(self, part: str, federation: Federation) -> np.ndarray:
        return init_part(part, self.model, federation.shapes, torch_stream(federation.seed, "init", self.stream, part))

    def material(self, sources: Mapping[NetworkRef, Arrays]) -> Arrays:
        """Nothing."""
        return {}

    def plan(self, federation: Federation, round_number: int) -> tuple[ClientData, ...]:
        """A fraction of each type among the clients that train something; for privacy, each by itself."""
        sample = poisson_cohort if self.server.noise else sample_cohort
        return sample(self._able(federation), self.sample_frac, federation.seed, self.stream, round_number)

    def answers(self, federation: Federation, round_number: int, client: ClientData) -> bool:
        """Whether the client is still there at the end of the round."""
        rng = numpy_stream(federation.seed, "dropout_frac", self.stream, round_number, client.id)
        return bool(rng.random() >= self.dropout_frac)

    def client_update(self, context: RoundContext, client: ClientData) -> ClientUpdate:
        """Train each of the client's networks, one after the other."""
        total = ClientUpdate()
        for name in self.trains(client):
            net = flat_network(name, self.model, context.shapes, context.device)
            total += train_local(net, context, client, self.local, lambda o, b: self.loss(o, b, context, client), self.stream)
        return total

    def client_updates(self, context: RoundContext, clients: Sequence[ClientData]) -> list[ClientUpdate]:
        """The updates of several clients, each from its usable clips, together or one after the other."""
        clients = [self.usable(client) for client in clients]
        if self.vectorize and self.stacks:
            return stacked_updates(self, context, clients)
        return [self.client_update(context, client) for client in clients]

    def receive(self, context: RoundContext, client: ClientData, update: ClientUpdate) -> ClientUpdate:
        """Nothing of a broken update; the rest as the server's settings say."""
        return screen_update(self.server, context.params, client.id, update)

    def server_update(self, state: ServerState, total: ClientUpdate) -> ServerState:
        """Each part moves by its holders' changes, made one by the server's rule, as the server's optimiser says."""
        meta = dict(state.meta)
        if self.server.rule != MEAN:
            total = robust_aggregate(total, self.server.rule, self.server.bad_frac)
        if self.server.noise:
            sizes = {part: len(state.params[part]) for part in meta["holders"]}
            total = add_gaussian_noise(self.server, total, self.sample_frac, meta, sizes)
            meta["noised_rounds"] += 1
        held = [part for part in state.params if part in total.weights]
        moved, memory = server_step(self.server, state.params, state.server, total, held)
        if self.server.average:
            meta["rounds"] += 1
            memory |= averaged(self.server, state, moved, meta["rounds"])
        controls = moved_controls(state.params, total, meta["holders"]) if self.local.scaffold else {}
        params, clients = {**state.params, **moved, **controls}, merged(state.clients, total.kept)
        return ServerState(params, {**state.server, **memory}, clients, meta)

    def traffic(self, federation: Federation, client: ClientData) -> tuple[int, int]:
        """The parts that the client trains, once down and once up; with SCAFFOLD their control variates too."""
        size = FLOAT_BYTES * sum(part_size(part, self.model, federation.shapes) for part in self._parts(client))
        size *= 2 if self.local.scaffold else 1
        return size, size
