"""Federated averaging: the base of every phase that trains. Each part of a network is averaged over its holders."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional

from mm_ray.config import MODALITIES, LocalConfig
from mm_ray.data.clients import ClientSelection
from mm_ray.errors import UserError, bad_value
from mm_ray.fed.aggregation import MEAN, RULES, robust_aggregate
from mm_ray.fed.batched_training import train_batched
from mm_ray.fed.client_optimizers import control_variates, moved_controls
from mm_ray.fed.cohort import poisson_cohort, sample_cohort
from mm_ray.fed.cost import clips_seen, training_flops
from mm_ray.fed.federation import Federation
from mm_ray.fed.local_training import BatchLoss, local_settings, train_local
from mm_ray.fed.phase import KEY, OUTSIDE_KEY, NetworkRef, Phase, if_set
from mm_ray.fed.privacy import DpEvent, add_gaussian_noise, epsilon_of
from mm_ray.fed.server_optimizers import averaged, server_memory, server_step
from mm_ray.models.encoder import batched_encoder, find_encoder
from mm_ray.models.flat_params import FlatNetwork, flat_network
from mm_ray.models.layers import Output
from mm_ray.models.network import PARTS, READS, init_part, networks_size
from mm_ray.models.precision import Precision
from mm_ray.plugins import resolve
from mm_ray.seeding import torch_stream
from mm_ray.types import Arrays, Batch, ClientData, ClientUpdate, Cost, RoundContext, ServerState, merged

FLOAT_BYTES = 4


@dataclass(frozen=True)
class TrainingPhase(Phase):
    """FedAvg of one or more networks; a subclass defines who trains which network, from which start, with which loss."""

    local: LocalConfig = field(kw_only=True, metadata={KEY: lambda phase: {"local": local_settings(phase.local)}})
    chunk_size: int = field(kw_only=True, metadata=if_set("chunk_size"))
    """Sums are taken chunk by chunk, so their last bits depend on the chunk size."""
    vectorize: bool = field(
        default=False,
        kw_only=True,
        metadata={KEY: lambda phase: {"vectorize": True} if phase.trains_together else {}},
    )
    """Whether the clients of a chunk are trained together, if phase and encoders allow it."""
    precision: Precision = field(
        default="float32",
        kw_only=True,
        metadata={KEY: lambda phase: {"precision": phase.precision} if phase.precision != "float32" else {}},
    )
    """Of the matrix products in the clients' training."""
    section: str = field(default="phase1", kw_only=True, metadata=OUTSIDE_KEY)
    """The config section of these settings, for errors."""

    sends_parts_only: ClassVar[bool] = True
    """Whether a client's update is a change of parameters that all holders share, and nothing else."""

    def __post_init__(self) -> None:
        """Refuse what the server cannot do in this phase, and encoders that are not there (UserError)."""
        for modality in MODALITIES:
            find_encoder(modality, self.model)
        for name, deadline_s in (("deadline_s", self.deadline_s), ("sim_deadline_s", self.sim_deadline_s)):
            if self.server.noise and deadline_s:
                why = f"with --{self.section}.server.noise, lateness could depend on another client's clips, which epsilon"
                raise bad_value(f"clients.{name}", deadline_s, f"{why} does not cover; use 0")
        plain = self.sends_parts_only and not self.local.scaffold
        for name, asked in (("rule", self.server.rule != MEAN), ("noise", self.server.noise > 0)):
            if asked and not plain:
                why = f"with --{self.section}.local.scaffold" if self.local.scaffold else f"in {self.name}"
                why = f"{why} clients do not send a change of shared parameters only; leave it out"
                raise bad_value(f"{self.section}.server.{name}", getattr(self.server, name), why)
        if self.server.rule != MEAN:
            resolve(f"{self.section}.server.rule", self.server.rule, RULES, "combine")
        if self.server.noise:
            epsilon_of([DpEvent(self.sample_frac, self.server.noise, 1)], 1e-5)  # the accountant is installed

    # What a subclass defines.

    def trains(self, client: ClientData) -> tuple[str, ...]:
        """The networks that a client trains; none means it takes no part. It depends on the client's modalities alone."""
        raise NotImplementedError

    def usable(self, client: ClientData) -> ClientData:
        """The client with the clips that the phase learns from: by default those with a label.

        Whether any are left depends on the client's modalities, and on whether it has a labelled clip.
        """
        return client.labelled()

    def loss(self, output: Output, batch: Batch, context: RoundContext, client: ClientData) -> torch.Tensor:
        """The loss of a batch: cross-entropy by default."""
        return functional.cross_entropy(output.logits_BC, batch.labels_B)

    @property
    def loss_is_separable(self) -> bool:
        """Whether the loss of two batches of equal size is the mean of their losses; other losses override it."""
        return type(self).loss is TrainingPhase.loss

    @property
    def can_batch_clients(self) -> bool:
        """Whether clients can be trained together: a subclass with its own `client_update` overrides it."""
        return type(self).client_update is TrainingPhase.client_update

    @property
    def trains_together(self) -> bool:
        """Whether the clients of a chunk are trained together."""
        wanted = self.vectorize and self.can_batch_clients
        return wanted and all(batched_encoder(self.model.encoder(m)) for network in self.networks for m in READS[network])

    # The round, in its order.

    def init(self, federation: Federation, sources: Mapping[NetworkRef, Arrays]) -> ServerState:
        """Every part that is evaluated or trained, from its source or newly initialised, and the server's state."""
        given = {part: array for source, arrays in sources.items() if not source.frozen for part, array in arrays.items()}
        able, held = self._able(federation), Counter[str]()
        for example, positions in zip(able.examples(), able.by_modalities.values(), strict=True):
            held += Counter(dict.fromkeys(self.parts_of(example), len(positions)))
        named = [part for network in self.networks for part in PARTS[network]]
        parts = dict.fromkeys([*named, *sorted(held)])
        params = {part: given[part] if part in given else self.fresh(part, federation) for part in parts}
        controls = control_variates(params) if self.local.scaffold else {}
        meta: dict[str, Any] = {"rounds": 0} if self.server.average else {}
        if self.local.scaffold or self.server.noise:
            meta["holders"] = {part: held[part] for part in parts}
        if self.server.noise:
            meta |= {"noise_seed": federation.seed, "stream": self.name, "noised_rounds": 0}
        return ServerState({**params, **controls}, server_memory(self.server, params), meta=meta)

    def cohort(self, federation: Federation, round_number: int) -> tuple[ClientData, ...]:
        """A fraction of each type among the clients that train something; with differential privacy, each independently.

        Raises:
            UserError: No client trains one of the phase's networks.

        """
        able = self._able(federation)
        untrained = {part for network in self.networks for part in PARTS[network]}
        for example in able.examples():
            untrained -= self.parts_of(example)
        for network in self.networks:
            if untrained.intersection(PARTS[network]):
                raise _nobody_trains(network, self.name, federation.identity["partition"])
        sample = poisson_cohort if self.server.noise else sample_cohort
        return sample(able, self.sample_frac, federation.seed, self.stream, round_number)

    def client_update(self, context: RoundContext, client: ClientData) -> ClientUpdate:
        """Train each of the client's networks, one after the other."""
        total = ClientUpdate()
        for name in self.trains(client):
            net = flat_network(name, self.model, context.shapes, context.device)
            total += self.train(net, context, client, lambda o, b: self.loss(o, b, context, client))
        return total

    def train(self, net: FlatNetwork, context: RoundContext, client: ClientData, loss: BatchLoss) -> ClientUpdate:
        """Train one network on one client's clips (`mm_ray.fed.local_training`)."""
        return train_local(net, context, client, self.local, loss, self.stream, self.precision)

    def client_updates(self, context: RoundContext, clients: Sequence[ClientData]) -> list[ClientUpdate]:
        """The updates of several clients, each from its usable clips, trained together or one after the other."""
        clients = [self.usable(client) for client in clients]
        if not self.trains_together:
            return [self.client_update(context, client) for client in clients]
        updates = [ClientUpdate() for _ in clients]
        for network in self.networks:
            members = [i for i, client in enumerate(clients) if network in self.trains(client)]
            trained = train_batched(
                network,
                self.model,
                context,
                [clients[i] for i in members],
                self.local,
                lambda output, batch, client: self.loss(output, batch, context, client),
                self.loss_is_separable,
                self.stream,
                self.precision,
            )
            for i, update in zip(members, trained, strict=True):
                updates[i] += update
        return updates

    def server_update(self, state: ServerState, total: ClientUpdate) -> ServerState:
        """Aggregate the changes of each part's holders by the server's rule, and take a step of the server's optimiser."""
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
        return replace(state, params=params, server={**state.server, **memory}, clients=clients, meta=meta)

    def cost(self, federation: Federation, client: ClientData) -> Cost:
        """The parts that the client trains, down and up (with SCAFFOLD also their control variates), and its training."""
        networks, usable = self.trains(client), self.usable(client)
        size = FLOAT_BYTES * networks_size(networks, self.model, federation.shapes) * (2 if self.local.scaffold else 1)
        per_clip = sum(training_flops(name, self.model, federation) for name in networks)
        return Cost(size, size, per_clip * clips_seen(self.local, usable))

    # Shared helpers.

    def parts_of(self, client: ClientData) -> set[str]:
        """The parts of the networks that a client trains."""
        return {part for network in self.trains(client) for part in PARTS[network]}

    def fresh(self, part: str, federation: Federation) -> np.ndarray:
        """A part's first parameters, the same in every phase that draws from this stream."""
        return init_part(part, self.model, federation.shapes, torch_stream(federation.seed, "init", self.stream, part))

    def _able(self, federation: Federation) -> ClientSelection:
        """The clients that train something and have clips for it."""
        return federation.select(lambda client: bool(self.trains(client) and self.usable(client).num_clips))


def _nobody_trains(network: str, phase: str, partition: Mapping[str, Any]) -> UserError:
    if "labelled" in partition:
        why = f"no client with a labelled clip trains the {network} network of {phase}; raise it"
        return bad_value("partition.labelled", partition["labelled"], why)
    why = f"no client trains the {network} network of {phase}"
    remedy = "lower it for audiovisual clients, raise it for audio-only ones"
    return bad_value("partition.video_missing", partition["video_missing"], f"{why}; {remedy}")
