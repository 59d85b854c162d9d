"""Which client holds which clips (Dirichlet or natural), and which clients lack video.

Shape suffixes: N clips of the table, R rows to share out, K clients.
"""

import numpy as np

from mm_ray.config import MODALITIES, PartitionConfig
from mm_ray.data.table import FeatureTable
from mm_ray.errors import UserError, bad_value
from mm_ray.seeding import numpy_stream
from mm_ray.types import ClientData


def make_clients(table: FeatureTable, config: PartitionConfig, seed: int) -> tuple[ClientData, ...]:
    """The clients of the federation: the training clips shared out, and exactly round(q K) clients without video.

    A client holds video if it is not among these and all its clips have video.

    Raises:
        UserError: More clients than the data can fill, or no client left with video.

    """
    shares = partition(table.labels_N, table.groups_N, table.rows("train"), config, seed)
    if table.video_flat_XD is None:
        raise UserError("--data: this data has no video, so no client can teach; take data with video")
    lacks_video = set(video_missing(len(shares), config.video_missing, seed))
    clients = tuple(
        ClientData(
            k, MODALITIES if k not in lacks_video and table.has_video(rows).all() else ("audio",), rows, table.labels_N[rows]
        )
        for k, rows in enumerate(shares)
    )
    if not any("video" in client.modalities for client in clients):
        raise _no_teacher(config, len(clients))
    return clients


def partition(
    labels_N: np.ndarray, groups_N: np.ndarray, rows_R: np.ndarray, config: PartitionConfig, seed: int
) -> tuple[np.ndarray, ...]:
    """Share rows out among clients: every row goes to exactly one; each client's rows ascend.

    Args:
        labels_N: Class of every clip of the table.
        groups_N: Group of every clip of the table.
        rows_R: The rows to share out.
        config: `natural`: one client a group that has rows. `dirichlet`: for each class, the clients' shares are drawn from
            Dirichlet(alpha) (Hsu et al. 2019, arXiv 1909.06335, as FedMultimodal has it); then the largest client gives
            clips to those that have fewer than `min_clips`.
        seed: Seed of the experiment.

    Raises:
        UserError: `num_clients` clients cannot have `min_clips` clips each.

    """
    if config.kind == "natural":
        groups_R = groups_N[rows_R]
        return tuple(np.sort(rows_R[groups_R == group]) for group in np.unique(groups_R))
    fit = len(rows_R) // config.min_clips
    if fit < config.num_clients:
        problem = f"{len(rows_R)} training clips at partition.min_clips={config.min_clips} fill only {fit} clients"
        remedy = f"use at most {fit}" if fit else "lower that, or prepare more clips"
        raise bad_value("partition.num_clients", config.num_clients, f"{problem}; {remedy}")
    owners_R = _dirichlet_owners(labels_N[rows_R], config, seed)
    _fill_small(owners_R, config.num_clients, config.min_clips)
    return tuple(np.sort(rows_R[owners_R == k]) for k in range(config.num_clients))


def video_missing(num_clients: int, fraction: float, seed: int) -> tuple[int, ...]:
    """Ids of the round(fraction * num_clients) clients that lack video; a larger fraction only adds to them."""
    order_K = numpy_stream(seed, "partition", "video_missing").permutation(num_clients)
    return tuple(sorted(int(k) for k in order_K[: round(fraction * num_clients)]))


def _dirichlet_owners(labels_R: np.ndarray, config: PartitionConfig, seed: int) -> np.ndarray:
    owners_R = np.empty(len(labels_R), np.int64)
    for label in np.unique(labels_R):
        rng = numpy_stream(seed, "partition", "dirichlet", int(label))
        shares_K = rng.dirichlet(np.full(config.num_clients, config.alpha))
        members = rng.permutation(np.flatnonzero(labels_R == label))
        cuts = np.rint(np.cumsum(shares_K)[:-1] * len(members)).astype(np.int64)
        for k, piece in enumerate(np.split(members, cuts)):
            owners_R[piece] = k
    return owners_R


def _fill_small(owners_R: np.ndarray, num_clients: int, min_clips: int) -> None:
    sizes_K = np.bincount(owners_R, minlength=num_clients)
    while sizes_K.min() < min_clips:
        giver, taker = int(sizes_K.argmax()), int(sizes_K.argmin())
        owners_R[np.flatnonzero(owners_R == giver)[-1]] = taker
        sizes_K[[giver, taker]] += (-1, 1)


def _no_teacher(config: PartitionConfig, num_clients: int) -> UserError:
    most = np.floor(100 * (num_clients - 1) / num_clients) / 100
    remedy = f"use at most {most:g}" if most else "use more clients"
    return bad_value("partition.video_missing", config.video_missing, f"leaves no client with video, so no teacher; {remedy}")
