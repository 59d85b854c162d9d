"""Harmony (Ouyang et al., MobiSys 2023): modality-wise FL, then a fusion step that groups clients by encoder discrepancy.

Phase 1 is ModalityMirror's unimodal phase; the audio model is its audio network, at its best dev round. In phase 2 each
audiovisual client has its own fusion model: its encoders start from phase 1 and stay with it. It sends the change of its
fusion head and, for each modality, the cosine distance of its encoder's weights to phase 1's encoder. The server clusters the
clients of the round by these distances, and each client's head becomes the one it began the round with plus the mean change of
its cluster. That is the paper's rule; three of the four variants of the published code add the mean to the *locally trained*
head instead, which counts a client's own step twice.

Phase 2 does not touch the audio model, and no audiovisual network is the same for all clients, so there is no teacher to
report.

Our choices: the mean is weighted by clips as everywhere here (unweighted in the published code); clients that are not in the
round keep their heads; all heads start from the same fresh one; what a client has from phase 1 is not counted as traffic. The
unimodal phase has all `phase1.rounds` (ModalityMirror leaves some to its fusion step) and phase 2 has `phase2.rounds`, so the
total is that of every other method.

Shape suffixes: K clients, M modalities, G clusters.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from scipy.cluster.vq import kmeans2

from mm_ray.config import MODALITIES, ExperimentConfig
from mm_ray.fed.fedavg import FLOAT_BYTES, TrainingPhase
from mm_ray.fed.federation import Federation
from mm_ray.fed.method import Method, learning_rates, training
from mm_ray.fed.phase import NetworkRef
from mm_ray.fed.server_optimizers import server_memory, server_step
from mm_ray.methods.modality_mirror import Unimodal
from mm_ray.models.flat_params import flat_network
from mm_ray.models.network import part_size
from mm_ray.types import Arrays, ClientData, ClientUpdate, Cost, Key, RoundContext, ServerState, merged

ENCODERS = tuple(f"{modality}.encoder" for modality in MODALITIES)
HEAD = "fusion"
DISTANCES = Key("distances", "encoders")
"""How far a client's encoders are from phase 1's, (M,), in the order of `ENCODERS`."""
DOMINANT = 0.1
"""A singular value is dominant if it is at least this fraction of the largest (our choice; the source names no threshold)."""
KMEANS_ITERATIONS = 20


@dataclass(frozen=True)
class HarmonyFusion(TrainingPhase):
    """The audiovisual clients train their own audiovisual networks; no network is the same for all."""

    name: ClassVar[str] = "harmony/fusion"
    stream: ClassVar[str] = "phase2"
    networks: ClassVar[tuple[str, ...]] = ()
    sends_parts_only: ClassVar[bool] = False
    compares_clients: ClassVar[bool] = True

    @property
    def sources(self) -> tuple[NetworkRef, ...]:
        """The unimodal encoders: every client's own encoders start from them and are compared with them."""
        return tuple(NetworkRef(Unimodal.name, modality, frozen=True) for modality in MODALITIES)

    def trains(self, client: ClientData) -> tuple[str, ...]:
        """The audiovisual network, on audiovisual clients only."""
        return ("av",) if "video" in client.modalities else ()

    def init(self, federation: Federation, sources: Mapping[NetworkRef, Arrays]) -> ServerState:
        """The same fresh fusion head for every audiovisual client."""
        fresh = self.fresh(HEAD, federation)
        heads = {client.id: fresh.copy() for client in federation.clients if self.trains(client)}
        memory = server_memory(self.server, {str(client): head for client, head in heads.items()})
        return ServerState(server=memory, clients={client: {HEAD: head} for client, head in heads.items()})

    def client_update(self, context: RoundContext, client: ClientData) -> ClientUpdate:
        """Train the client's network; its encoders stay with it, its head's change and its distances go to the server."""
        first = context.shared_inputs
        begun = replace(context, params={**first, **context.own(client)})
        net = flat_network("av", self.model, context.shapes, context.device)
        update = self.train(net, begun, client, lambda o, b: self.loss(o, b, begun, client))
        trained = net.parts(net.params)
        distances = np.array([cosine_distance(trained[part], first[part]) for part in ENCODERS], np.float32)
        sent = {HEAD: update.sums[HEAD], DISTANCES: distances}
        kept = {part: trained[part] for part in ENCODERS}
        return ClientUpdate({HEAD: update.weights[HEAD]}, sent, update.metrics, kept={client.id: kept})

    def server_update(self, state: ServerState, total: ClientUpdate) -> ServerState:
        """Each head of the round moves by its cluster's mean change, with a step of the server's optimiser."""
        if not total.by_client:
            return state
        clients = sorted(total.by_client, key=str)
        updates = [total.by_client[client] for client in clients]
        labels_K = clusters_of(np.stack([update.sums[DISTANCES] for update in updates]))
        sums, weights = {}, {}
        for client, label in zip(clients, labels_K, strict=True):
            cluster = [update for update, its in zip(updates, labels_K, strict=True) if its == label]
            sums[str(client)] = np.sum([update.sums[HEAD] for update in cluster], axis=0)
            weights[str(client)] = sum(update.weights[HEAD] for update in cluster)
        heads = {str(client): state.clients[client][HEAD] for client in clients}
        moved, memory = server_step(self.server, heads, state.server, ClientUpdate(weights, sums), list(heads))
        kept = merged(total.kept, {int(client): {HEAD: head} for client, head in moved.items()})
        return replace(state, server={**state.server, **memory}, clients=merged(state.clients, kept))

    def cost(self, federation: Federation, client: ClientData) -> Cost:
        """The fusion head down; it and a distance per modality up; the training of the whole network."""
        head = FLOAT_BYTES * part_size(HEAD, self.model, federation.shapes)
        return Cost(head, head + FLOAT_BYTES * len(ENCODERS), super().cost(federation, client).flops)


def cosine_distance(one: np.ndarray, other: np.ndarray) -> float:
    """1 - the cosine of two flat vectors, in double precision; at least 0."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    return max(1 - float(a @ b) / float(np.linalg.norm(a) * np.linalg.norm(b)), 0.0)


def clusters_of(distances_KM: np.ndarray) -> np.ndarray:
    """The cluster (int, from 0) of each client.

    Each modality's distances are divided by their maximum over the clients, and the vectors clustered by k-means. The number of
    clusters is the number of dominant singular values of the matrix, so at most M. The centres start from the vectors furthest
    apart (our choice), so nothing is drawn.

    Args:
        distances_KM: How far each client's encoder of each modality is from the one it started from, at least 0.

    """
    largest_M = distances_KM.max(0)
    scaled_KM = distances_KM.astype(np.float64) / np.where(largest_M > 0, largest_M, 1)
    values_M = np.linalg.svd(scaled_KM, compute_uv=False)
    num_clusters = int((values_M >= DOMINANT * values_M[0]).sum()) if values_M[0] > 0 else 1
    # The vector furthest from the mean, then each the furthest from those before it.
    gaps_K = np.linalg.norm(scaled_KM - scaled_KM.mean(0), axis=1)
    centres = [scaled_KM[gaps_K.argmax()]]
    while len(centres) < num_clusters:
        gaps_K = np.min([np.linalg.norm(scaled_KM - centre, axis=1) for centre in centres], axis=0)
        centres.append(scaled_KM[gaps_K.argmax()])
    _, labels_K = kmeans2(scaled_KM, np.stack(centres), iter=KMEANS_ITERATIONS, minit="matrix")
    return np.asarray(labels_K, dtype=int)


def build(config: ExperimentConfig) -> Method:
    """The unimodal phase, and the discrepancy-aware fusion step.

    SCAFFOLD has nothing to correct in encoders that are not averaged: `phase2.local.scaffold` is without effect.
    """
    unimodal = Unimodal(config.phase1.rounds, **training(config, config.phase1))
    two = training(config, config.phase2)
    fusion = HarmonyFusion(config.phase2.rounds, **two | {"local": replace(config.phase2.local, scaffold=False)})
    return Method((unimodal, fusion), student=NetworkRef(unimodal.name, "audio"))


space = learning_rates
"""What `compare --tune` searches: both learning rates."""
