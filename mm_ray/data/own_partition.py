"""A partition of your own: a CSV file of clip to client, or a function of the feature table.

Shape suffixes: N clips of the table, R training clips, K clients.
"""

import csv
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from mm_ray.config import PartitionConfig
from mm_ray.data.feature_table import FeatureTable
from mm_ray.errors import bad_value, unknown_name
from mm_ray.plugins import find_file, in_user_code, load

KINDS = ("dirichlet", "natural", "fedmultimodal")
"""The kinds that are not somebody's own."""
FIELD = "partition.kind"


def own_shares(table: FeatureTable, config: PartitionConfig, seed: int) -> tuple[np.ndarray, ...]:
    """The rows of each client, ascending.

    Args:
        table: The features.
        config: `kind` is a CSV file with the columns `clip` and `client`, or names a function
            `partition(table, config, seed) -> [rows of client 0, rows of client 1, ...]`.
        seed: The experiment's.

    Raises:
        UserError: It is not there, fails, or its shares are not the training clips, each once at most.

    """
    kind = config.kind
    if kind.endswith(".csv"):
        shares = _of_file(kind, table)
    else:
        function = _function(kind)
        shares = list(in_user_code(FIELD, kind, "fails", lambda: function(table, config, seed)))
    _check(kind, shares, table)
    return tuple(np.sort(np.asarray(rows, np.int64)) for rows in shares)


def check_kind(kind: str) -> None:
    """Refuse a kind that is wrong for any data: before the data is read (UserError)."""
    if kind.endswith(".csv"):
        _lines(kind)
    elif kind not in KINDS:
        _function(kind)


def shares_digest(shares: Sequence[np.ndarray]) -> str:
    """A digest of who holds which rows: what a result depends on in the place of the file's or the function's name."""
    digest = hashlib.blake2b(digest_size=8)
    for rows in shares:
        digest.update(len(rows).to_bytes(8, "little") + np.asarray(rows).astype("<i8").tobytes())
    return digest.hexdigest()


def _lines(kind: str) -> list[tuple[str, str]]:
    """Clip and client of each line."""
    try:
        with Path(find_file(kind) or kind).expanduser().open(newline="") as file:
            return [(line["clip"], line["client"]) for line in csv.DictReader(file)]
    except KeyError as error:
        raise bad_value(FIELD, kind, f"has no column {error}; write clip,client in its first line") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise bad_value(FIELD, kind, f"cannot be read ({error}); give a CSV file with the columns clip and client") from error


def _of_file(kind: str, table: FeatureTable) -> list[Any]:
    lines = _lines(kind)
    row_of = {str(table.clip_ids_N[row]): row for row in table.file_rows("train")}
    unknown = next((clip for clip, _ in lines if clip not in row_of), None)
    if unknown is not None:
        raise bad_value(FIELD, kind, f"names the clip {unknown!r}, which is no training clip of the data")
    names = list(dict.fromkeys(client for _, client in lines))
    shares = [np.array([row_of[clip] for clip, client in lines if client == name]) for name in names]
    return [rows if table.files_N is None else table.clips_of(rows) for rows in shares]


def _function(kind: str) -> Callable[..., Any]:
    spelled, _, thing = kind.partition(":")
    if "." not in spelled and find_file(f"{spelled}.py") is None:
        raise unknown_name(FIELD, kind, KINDS)
    function = getattr(load(FIELD, spelled), thing or "partition", None)
    if not callable(function):
        raise bad_value(FIELD, kind, f"the module has no function {thing or 'partition'}(table, config, seed)")
    return cast(Callable[..., Any], function)


def _check(kind: str, shares: Sequence[Any], table: FeatureTable) -> None:
    rows = [int(row) for share in shares for row in share]
    if not shares or not all(len(share) for share in shares):
        raise bad_value(FIELD, kind, "gives a client no clips; leave such a client out")
    if len(set(rows)) < len(rows):
        twice = next(row for place, row in enumerate(rows) if row in rows[:place])
        raise bad_value(FIELD, kind, f"gives the clip {table.clip_ids_N[twice]} to two clients")
    if strangers := set(rows) - set(table.rows("train").tolist()):
        raise bad_value(
            FIELD, kind, f"gives away row {min(strangers)}, which is no training clip; take from table.rows('train')"
        )
