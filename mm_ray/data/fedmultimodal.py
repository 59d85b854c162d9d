"""The splits and the partition of FedMultimodal (Feng et al., KDD 2023) for UCF101, draw by draw.

Source: github.com/usc-sail/fed-multimodal at 2a32f29, `features/data_partitioning/partition_manager.py`: `split_train_dev` and
`direchlet_partition`. Both start NumPy's old generator at 8, whatever the experiment's seed.
"""

from collections.abc import Sequence

import numpy as np

from mm_ray.config import PartitionConfig
from mm_ray.data.feature_table import FeatureTable
from mm_ray.errors import bad_value

SEED, MIN_CLIPS = 8, 5
_MOST_TRIES = 1_000


def split_train_dev(train_ids: Sequence[str]) -> tuple[list[str], list[str]]:
    """A fifth of the training clips for dev, by clip; the training clips in the order that the partition draws from.

    Args:
        train_ids: The clips of an official training list, `CLASS/v_CLASS_gXX_cYY`.

    """
    ids = sorted(train_ids)
    order = np.arange(len(ids))
    np.random.RandomState(SEED).shuffle(order)
    num_dev = len(order) // 5
    return [ids[i] for i in order[num_dev:]], [ids[i] for i in order[:num_dev]]


def dirichlet_clients(labels_N: np.ndarray, alpha: float, num_clients: int) -> list[np.ndarray]:
    """Positions of each client's clips: by class, by shares from Dirichlet(alpha) of which full clients get none.

    Drawn anew until each client has five clips.

    Args:
        labels_N: Class of each training clip, in the order of `split_train_dev`.
        alpha: Theirs are 0.1 and 5.0.
        num_clients: Theirs is 100.

    Raises:
        ValueError: No draw gives each client five clips.

    """
    rng, num_clips = np.random.RandomState(SEED), len(labels_N)
    for _ in range(_MOST_TRIES):
        clients: list[list[int]] = [[] for _ in range(num_clients)]
        for label in np.unique(labels_N):
            positions = np.flatnonzero(labels_N == label)
            rng.shuffle(positions)
            shares = rng.dirichlet(np.repeat(alpha, num_clients))
            shares = shares * [len(client) < num_clips / num_clients for client in clients]
            ends = (np.cumsum(shares / shares.sum()) * len(positions)).astype(int)[:-1]
            for client, piece in zip(clients, np.split(positions, ends), strict=True):
                client.extend(piece.tolist())
        if min(map(len, clients)) >= MIN_CLIPS:
            return [np.array(client) for client in clients]
    raise ValueError(f"no draw in {_MOST_TRIES:,} gives each of {num_clients} clients {MIN_CLIPS} clips")


def partition(table: FeatureTable, config: PartitionConfig) -> tuple[np.ndarray, ...]:
    """The rows of each client, ascending, of a table with the folds `fedmultimodal`.

    Raises:
        UserError: The table has other folds, or too few clips for its clients.

    """
    rows = np.concatenate([table.rows("train"), table.rows("dev")])
    row_of = dict(zip(table.clip_ids_N[rows].tolist(), rows.tolist(), strict=True))
    train_ids, dev_ids = split_train_dev(list(row_of))
    if {row_of[clip] for clip in dev_ids} != set(table.rows("dev").tolist()):
        remedy = "needs data.folds fedmultimodal, and all of its clips: none rejected"
        raise bad_value("partition.kind", config.kind, remedy)
    rows_N = np.array([row_of[clip] for clip in train_ids])
    try:
        clients = dirichlet_clients(table.labels_N[rows_N], config.alpha, config.num_clients)
    except ValueError as error:
        raise bad_value("partition.num_clients", config.num_clients, f"{error}; FedMultimodal uses 100") from error
    return tuple(np.sort(rows_N[positions]) for positions in clients)
