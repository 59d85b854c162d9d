"""Which client holds which clips, and which clients lack video.

Shape suffixes: N clips of the table, R rows to distribute, K clients.
"""

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

import numpy as np

from mm_ray.config import MODALITIES, PartitionConfig
from mm_ray.data import fedmultimodal
from mm_ray.data.clients import ClientList, Shares
from mm_ray.data.feature_table import FeatureTable
from mm_ray.data.own_partition import KINDS, own_shares
from mm_ray.errors import UserError, bad_value
from mm_ray.seeding import numpy_stream


def make_clients(table: FeatureTable, config: PartitionConfig, seed: int) -> ClientList:
    """The clients of the federation, with all training clips; round(q K) of them have no video.

    A client holds one kind of clips to train on: with video, or audio only. Where some training clips have no video, these are
    shared out among the clients that lack it (`dirichlet`), or are a second client of their group (`natural`), or make their
    client audio-only (`fedmultimodal`).

    Raises:
        UserError: More clients than the data can fill, no client left with video, or none for the clips without it.

    """
    rows_R = table.file_rows("train")
    with_video_R = table.has_video(rows_R)
    if table.video_flat_XD is None:
        raise UserError("--data: this data has no video, so there is no teacher; use data with video")
    if not with_video_R.any():
        raise UserError(f"--data: none of its {len(rows_R):,} training clips has video, so there is no teacher; add some")
    shares: Sequence[np.ndarray]
    if config.kind != KINDS[0]:
        shares = _shares(table, config, seed)
        audio_only = {k for k, rows in enumerate(shares) if not table.has_video(rows).all()}
        lacks_video = _with_more(audio_only, len(shares), config.video_missing, seed)
    elif with_video_R.all():
        shares = partition(table.labels_N, table.groups_N, rows_R, config, seed)
        lacks_video = set(video_missing(len(shares), config.video_missing, seed))
    else:
        lacks_video = set(video_missing(config.num_clients, config.video_missing, seed))
        shares = _apart(table.labels_N, rows_R, with_video_R, lacks_video, config, seed)
    if config.kind == KINDS[0] and table.files_N is not None:  # recordings were shared out: all clips of one to the same client
        shares = [table.clips_of(rows) for rows in shares]
    if len(lacks_video) == len(shares):
        raise _no_teacher(config, len(shares))
    flat = shares if isinstance(shares, Shares) else Shares.of_arrays(shares)
    kinds_K = np.ones(len(shares), np.int8)
    kinds_K[list(lacks_video)] = 0
    return ClientList(flat, table.labels_N[flat.rows_R], (("audio",), MODALITIES), kinds_K)


def _shares(table: FeatureTable, config: PartitionConfig, seed: int) -> tuple[np.ndarray, ...]:
    """The rows of each client, of every kind but `dirichlet`."""
    match config.kind:
        case "natural":
            rows_R = table.rows("train")
            return _by_group(rows_R, table.groups_N, table.has_video(rows_R))
        case "fedmultimodal":
            return fedmultimodal.partition(table, config)
    return own_shares(table, config, seed)


def partition(
    labels_N: np.ndarray, groups_N: np.ndarray, rows_R: np.ndarray, config: PartitionConfig, seed: int
) -> Sequence[np.ndarray]:
    """Distribute rows over clients: every row goes to exactly one; each client's rows ascend.

    Args:
        labels_N: Class of every clip of the table.
        groups_N: Group of every clip of the table.
        rows_R: The rows to distribute.
        config: `natural`: one client per group that has rows. `dirichlet`: for each class, the clients' shares are drawn from
            Dirichlet(alpha) (Hsu et al. 2019, arXiv 1909.06335, as FedMultimodal has it); then the largest client gives
            clips to those that have fewer than `min_clips`.
        seed: Seed of the experiment.

    Raises:
        UserError: `num_clients` clients cannot have `min_clips` clips each.

    """
    if config.kind == "natural":
        return _by_group(rows_R, groups_N, np.ones(len(rows_R), bool))
    _check_fit(len(rows_R), config)
    owners_R = _dirichlet_owners(labels_N[rows_R], config.num_clients, config.alpha, seed, "dirichlet")
    _fill_small(owners_R, config.num_clients, config.min_clips)
    return Shares.of_owners(rows_R, owners_R, config.num_clients)


def video_missing(num_clients: int, fraction: float, seed: int) -> tuple[int, ...]:
    """Ids of the round(fraction * num_clients) clients that lack video; a larger fraction only adds to them."""
    return tuple(sorted(_video_missing_order(num_clients, seed)[: round(fraction * num_clients)]))


def _video_missing_order(num_clients: int, seed: int) -> list[int]:
    return [int(k) for k in numpy_stream(seed, "partition", "video_missing").permutation(num_clients)]


def _by_group(rows_R: np.ndarray, groups_N: np.ndarray, with_video_R: np.ndarray) -> tuple[np.ndarray, ...]:
    """The rows of each group; a group that holds both kinds of clips is two clients, its clips with video first."""
    groups_R = groups_N[rows_R]
    kinds = [(groups_R == group) & (with_video_R == kind) for group in np.unique(groups_R) for kind in (True, False)]
    return tuple(np.sort(rows_R[kind_R]) for kind_R in kinds if kind_R.any())


def _with_more(audio_only: set[int], num_clients: int, fraction: float, seed: int) -> set[int]:
    """The audio-only clients and, in the order of `video_missing`, as many others as round(fraction * K) needs."""
    others = [k for k in _video_missing_order(num_clients, seed) if k not in audio_only]
    return audio_only | set(others[: max(round(fraction * num_clients) - len(audio_only), 0)])


def _apart(
    labels_N: np.ndarray,
    rows_R: np.ndarray,
    with_video_R: np.ndarray,
    lacks_video: set[int],
    config: PartitionConfig,
    seed: int,
) -> Shares:
    """The Dirichlet partition of data in which some clips have no video.

    The clips with video are drawn for all clients, the others for those that lack video, each with the same alpha. Who then has
    fewer than `min_clips` is given some: first the clients with video, of clips with video.
    """
    _check_fit(len(rows_R), config)
    _check_kinds(int(with_video_R.sum()), len(rows_R), len(lacks_video), config)
    labels_R, audio_clients = labels_N[rows_R], np.array(sorted(lacks_video))
    owners_R = np.empty(len(rows_R), np.int64)
    owners_R[with_video_R] = _dirichlet_owners(labels_R[with_video_R], config.num_clients, config.alpha, seed, "dirichlet")
    owners = _dirichlet_owners(labels_R[~with_video_R], len(audio_clients), config.alpha, seed, "dirichlet_audio_only")
    owners_R[~with_video_R] = audio_clients[owners]
    video_R = np.flatnonzero(with_video_R)
    kept_K = np.array([0 if k in lacks_video else config.min_clips for k in range(config.num_clients)])
    while (spare_K := np.bincount(owners_R[video_R], minlength=config.num_clients) - kept_K).min() < 0:
        given = video_R[np.flatnonzero(owners_R[video_R] == spare_K.argmax())[-1]]
        owners_R[given] = spare_K.argmin()
    _fill_small(owners_R, config.num_clients, config.min_clips)
    return Shares.of_owners(rows_R, owners_R, config.num_clients)


def _check_fit(num_clips: int, config: PartitionConfig) -> None:
    fit = num_clips // config.min_clips
    if fit < config.num_clients:
        problem = f"{num_clips} training clips at --partition.min_clips {config.min_clips} fill only {fit} clients"
        remedy = f"use at most {fit}" if fit else "lower that, or prepare more clips"
        raise bad_value("partition.num_clients", config.num_clients, f"{problem}; {remedy}")


def _check_kinds(num_with_video: int, num_clips: int, num_lacking: int, config: PartitionConfig) -> None:
    """Refuse shares in which a kind of clips or of clients comes out empty."""
    num_clients, missing = config.num_clients, config.video_missing
    if num_lacking == num_clients:
        raise _no_teacher(config, num_clients)
    if not num_lacking:
        problem = f"{num_clips - num_with_video} of {num_clips} training clips have no video, and no client is audio-only"
        least = np.ceil(100 / num_clients) / 100
        remedy = f"use at least {least:g}" if num_clients > 1 else "use more clients"
        raise bad_value("partition.video_missing", missing, f"{problem}; {remedy}, or leave these clips out")
    fit = num_with_video // config.min_clips
    if fit < num_clients - num_lacking:
        problem = (
            f"{num_with_video} of {num_clips} training clips have video, at --partition.min_clips {config.min_clips} enough "
            f"for {fit} of the {num_clients - num_lacking} clients with video"
        )
        remedy = f"use at least {np.ceil(100 * (num_clients - fit) / num_clients) / 100:g}, or fewer" if fit else "use fewer"
        raise bad_value(
            "partition.video_missing", missing, f"{problem}; {remedy} --partition.num_clients or --partition.min_clips"
        )


def _dirichlet_owners(labels_R: np.ndarray, num_clients: int, alpha: float, seed: int, stream: str) -> np.ndarray:
    owners_R = np.empty(len(labels_R), np.int64)
    for label in np.unique(labels_R):
        rng = numpy_stream(seed, "partition", stream, int(label))
        shares_K = rng.dirichlet(np.full(num_clients, alpha))
        members = rng.permutation(np.flatnonzero(labels_R == label))
        cuts = np.rint(np.cumsum(shares_K)[:-1] * len(members)).astype(np.int64)
        sizes_K = np.diff(cuts, prepend=0, append=len(members))
        owners_R[members] = np.repeat(np.arange(num_clients), sizes_K)
    return owners_R


def _fill_small(owners_R: np.ndarray, num_clients: int, min_clips: int) -> None:
    """Give clips to whoever has fewer than `min_clips`: again and again the largest client's last one to the smallest client.

    Of equal clients the first one is taken. Heaps of size and number find both: there may be a million clients.
    """
    sizes = np.bincount(owners_R, minlength=num_clients).tolist()
    if min(sizes) >= min_clips:
        return
    clips = Shares.of_owners(np.arange(len(owners_R)), owners_R, num_clients)
    held: dict[int, list[int]] = {}
    """Positions of the clips of the clients that gave or took, negative, as heaps: the last one first."""
    smallest, largest = ([sign * size * num_clients + k for k, size in enumerate(sizes)] for sign in (1, -1))
    heapify(smallest)
    heapify(largest)

    def heap_of(client: int) -> list[int]:
        if client not in held:
            held[client] = (-clips[client][::-1]).tolist()  # ascending, so a heap
        return held[client]

    def top(heap: list[int], sign: int) -> int:
        while heap[0] // num_clients != sign * sizes[heap[0] % num_clients]:
            heappop(heap)  # the client has another size by now
        return heap[0] % num_clients

    while sizes[taker := top(smallest, 1)] < min_clips:
        giver = top(largest, -1)
        clip = -heappop(heap_of(giver))
        heappush(heap_of(taker), -clip)
        owners_R[clip] = taker
        for client, change in ((giver, -1), (taker, 1)):
            sizes[client] += change
            heappush(smallest, sizes[client] * num_clients + client)
            heappush(largest, -sizes[client] * num_clients + client)


def _no_teacher(config: PartitionConfig, num_clients: int) -> UserError:
    most = np.floor(100 * (num_clients - 1) / num_clients) / 100
    remedy = f"use at most {most:g}" if most else "use more clients"
    return bad_value("partition.video_missing", config.video_missing, f"leaves no client with video, so no teacher; {remedy}")
