"""The labels of the clients: some wrong, some missing. Dev and test labels do not change.

Both are drawn per clip after the partition, so that who holds which clip does not depend on them.
Shape suffixes: R training clips of all clients, U their recordings, C classes.
"""

import csv
import io

import numpy as np

from mm_ray.config import PartitionConfig
from mm_ray.data.clients import ClientList
from mm_ray.errors import bad_value
from mm_ray.plugins import find_file
from mm_ray.seeding import numpy_stream
from mm_ray.storage import read_text
from mm_ray.types import UNLABELLED


def with_client_labels(
    clients: ClientList, config: PartitionConfig, num_classes: int, seed: int, files_N: np.ndarray | None = None
) -> ClientList:
    """The clients with `partition.label_noise` of their labels replaced, then all but `partition.labelled` hidden.

    Raises:
        UserError: `partition.label_confusion` is no matrix of the data's classes.

    """
    if not config.label_noise and config.labelled == 1:
        return clients
    order_R = np.argsort(clients.rows_R)  # draws go by row of the table, whoever holds it
    sorted_R = clients.rows_R[order_R]
    keys_R = sorted_R if files_N is None else files_N[sorted_R]
    _, first_U, recording_R = np.unique(keys_R, return_index=True, return_inverse=True)
    labels_U = clients.labels_R[order_R][first_U]  # one draw for all clips of a recording
    if config.label_noise:
        labels_U = _replaced(labels_U, config, num_classes, seed)
    if config.labelled < 1:
        labels_U = _hidden(labels_U, config.labelled, seed)
    drawn_R = np.empty_like(clients.labels_R)
    drawn_R[order_R] = labels_U[recording_R]
    return clients.with_labels(drawn_R)


def check_confusion(place: str) -> None:
    """Refuse a `partition.label_confusion` that is no file of numbers: before the data is read (UserError)."""
    if place:
        _numbers(place)


def read_confusion(place: str, num_classes: int) -> np.ndarray:
    """`partition.label_confusion` as chances (C, C): each row sums to 1, the diagonal is 0.

    Raises:
        UserError: It cannot be read, has another size, a negative number, or a row without another class.

    """
    rows = _numbers(place)
    if [len(row) for row in rows] != [num_classes] * num_classes:
        raise bad_value("partition.label_confusion", place, f"needs {num_classes} rows of {num_classes} numbers")
    chances_CC = np.array(rows)
    np.fill_diagonal(chances_CC, 0)
    sums_C = chances_CC.sum(1)
    if not np.isfinite(chances_CC).all() or chances_CC.min() < 0 or sums_C.min() <= 0:
        raise bad_value("partition.label_confusion", place, "each row needs a positive number off the diagonal, none below 0")
    return chances_CC / sums_C[:, None]


def _numbers(place: str) -> list[list[float]]:
    try:
        return [[float(cell) for cell in row] for row in csv.reader(io.StringIO(read_text(find_file(place) or place))) if row]
    except (OSError, ValueError) as error:
        raise bad_value("partition.label_confusion", place, f"cannot be read as a CSV of numbers ({error})") from error


def _replaced(labels_R: np.ndarray, config: PartitionConfig, num_classes: int, seed: int) -> np.ndarray:
    """Labels of which a share is wrong; a clip that is wrong at a share is wrong, in the same way, at every larger one."""
    rng = numpy_stream(seed, "partition", "label_noise")
    chance_R, draw_R = rng.random(len(labels_R)), rng.random(len(labels_R))
    uniform_CC = (1 - np.eye(num_classes)) / (num_classes - 1)
    chances_CC = read_confusion(config.label_confusion, num_classes) if config.label_confusion else uniform_CC
    wrong_R = (chances_CC.cumsum(1)[labels_R] <= draw_R[:, None]).sum(1).clip(max=num_classes - 1)
    return np.where((chance_R < config.label_noise) & (labels_R != UNLABELLED), wrong_R, labels_R)


def _hidden(labels_R: np.ndarray, labelled: float, seed: int) -> np.ndarray:
    """Labels of which round(labelled * R), at least 1, are left; a larger share only adds to them."""
    known = np.flatnonzero(labels_R != UNLABELLED)
    order = numpy_stream(seed, "partition", "labelled").permutation(known)
    hidden_R = labels_R.copy()
    hidden_R[order[max(round(labelled * len(known)), 1) :]] = UNLABELLED
    return hidden_R
