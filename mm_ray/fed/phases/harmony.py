"""Harmony's phase 2: personal encoders that never leave their client, fusion heads averaged within clusters of clients.

A client's encoders start from phase 1 and stay with it. It sends the change of its fusion head and, for each modality, the
cosine distance of its encoder's weights to phase 1's encoder. The server clusters the clients of the round by these distances
(`fed/clusters.py`), and each client's head becomes the one it began the round with plus the mean change of its cluster. That is
the paper's rule; three of the four variants of the published code add the mean to the *locally trained* head instead, which
counts a client's own step twice. The mean is weighted by clips as everywhere here, the published code's is plain. Clients that
are not in the round keep their heads. All heads start from the same fresh one (our choice).

There is nothing for SCAFFOLD to correct in encoders that are not averaged, so `local.scaffold` is without effect here. Phase
1's encoders are material: what a client has from phase 1 is not counted as traffic.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from mm_ray.config import MODALITIES
from mm_ray.fed.clusters import clusters_of
from mm_ray.fed.fedavg import FLOAT_BYTES, TrainingPhase
from mm_ray.fed.federation import Federation
from mm_ray.fed.local_training import local_settings, train_local
from mm_ray.fed.phase import NetworkRef
from mm_ray.fed.phases.unimodal import Unimodal
from mm_ray.fed.robust_aggregation import tag_by_client
from mm_ray.fed.server_optimizers import server_memory, server_step
from mm_ray.fed.update_screening import screen_update
from mm_ray.models.flat_params import flat_network
from mm_ray.models.network import part_size
from mm_ray.types import Arrays, ClientData, ClientUpdate, Key, RoundContext, ServerState, merged

ENCODERS = tuple(f"{modality}.encoder" for modality in MODALITIES)
HEAD = "fusion"
DISTANCES = Key("distances", "encoders")
"""How far a client's encoders are from phase 1's, (M,), in the order of `ENCODERS`."""


@dataclass(frozen=True)
class HarmonyFusion(TrainingPhase):
    """The audiovisual clients train their own audiovisual networks; no network is the same for all."""

    name: ClassVar[str] = "harmony/fusion"
    sends_parts_only: ClassVar[bool] = False
    stream: ClassVar[str] = "phase2"
    networks: ClassVar[tuple[str, ...]] = ()

    @property
    def sources(self) -> tuple[NetworkRef, ...]:
        """The unimodal encoders."""
        return NetworkRef(Unimodal.name, "audio"), NetworkRef(Unimodal.name, "video")

    def settings(self) -> dict[str, Any]:
        """Those of every training phase; SCAFFOLD does not enter."""
        return super().settings() | {"local": local_settings(replace(self.local, scaffold=False))}

    def trains(self, client: ClientData) -> tuple[str, ...]:
        """The audiovisual network, on audiovisual clients only."""
        return ("av",) if "video" in client.modalities else ()

    def init(self, federation: Federation, sources: Mapping[NetworkRef, Arrays]) -> ServerState:
        """The same fresh fusion head for every audiovisual client."""
        fresh = self._fresh(HEAD, federation)
        heads = {client.id: fresh.copy() for client in federation.clients if self.trains(client)}
        memory = server_memory(self.server, {str(client): head for client, head in heads.items()})
        return ServerState(server=memory, clients={client: {HEAD: head} for client, head in heads.items()})

    def material(self, sources: Mapping[NetworkRef, Arrays]) -> Arrays:
        """Phase 1's encoders."""
        return {part: array for arrays in sources.values() for part, array in arrays.items() if part in ENCODERS}

    def client_update(self, context: RoundContext, client: ClientData) -> ClientUpdate:
        """Train the client's network; its encoders stay with it, its head and its distances go to the server."""
        begun = replace(context, params={**context.material, **context.own(client)})
        net = flat_network("av", self.model, context.shapes, context.device)
        local = replace(self.local, scaffold=False)
        update = train_local(net, begun, client, local, lambda o, b: self.loss(o, b, begun, client), self.stream)
        trained = net.parts(net.params)
        distances = np.array([cosine_distance(trained[part], context.material[part]) for part in ENCODERS], np.float32)
        sent = {HEAD: update.sums[HEAD], DISTANCES: distances}
        kept = {part: trained[part] for part in ENCODERS}
        return ClientUpdate({HEAD: update.weights[HEAD]}, sent, update.metrics, kept={client.id: kept})

    def receive(self, context: RoundContext, client: ClientData, update: ClientUpdate) -> ClientUpdate:
        """Nothing of a broken update; the rest by itself, since the server compares clients."""
        taken = screen_update(self.server, context.own(client), client.id, update)
        return taken if taken.refused else tag_by_client(taken, client.id)

    def server_update(self, state: ServerState, total: ClientUpdate) -> ServerState:
        """Each head of the round moves by the mean change of its cluster, as the server's optimiser says."""
        if not total.by_client:
            return state
        heads = {str(client): state.clients[client][HEAD] for client in total.by_client}
        moved, memory = server_step(self.server, heads, state.server, _by_cluster(total.by_client), sorted(heads))
        kept = merged(total.kept, {int(client): {HEAD: head} for client, head in moved.items()})
        return replace(state, server={**state.server, **memory}, clients=merged(state.clients, kept))

    def traffic(self, federation: Federation, client: ClientData) -> tuple[int, int]:
        """The fusion head down; it and a distance per modality up."""
        head = FLOAT_BYTES * part_size("fusion", self.model, federation.shapes)
        return head, head + FLOAT_BYTES * len(ENCODERS)


def cosine_distance(one: np.ndarray, other: np.ndarray) -> float:
    """1 - the cosine of two flat vectors, in double precision; at least 0."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    return max(1 - float(a @ b) / float(np.linalg.norm(a) * np.linalg.norm(b)), 0.0)


def _by_cluster(updates: Mapping[int, ClientUpdate]) -> ClientUpdate:
    """By client (as text) the sum over its cluster of the heads' changes, taken in the order of the names."""
    clients = sorted(updates, key=str)
    labels = clusters_of(np.stack([updates[client].sums[DISTANCES] for client in clients]))
    sums, weights = {}, {}
    for client, label in zip(clients, labels, strict=True):
        members = [updates[other] for other, its in zip(clients, labels, strict=True) if its == label]
        sums[str(client)] = np.sum([member.sums[HEAD] for member in members], axis=0)
        weights[str(client)] = sum(member.weights[HEAD] for member in members)
    return ClientUpdate(weights, sums)
