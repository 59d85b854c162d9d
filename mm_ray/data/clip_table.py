"""Clips from a table of the user's: CSV (commas, semicolons or tabs), JSON lines or Parquet; `csv` and `folder` read them."""

import csv
import io
import json
import math
import posixpath
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mm_ray.config import DataConfig
from mm_ray.data.dataset_helpers import (
    SPLIT_NAMES,
    alone_warnings,
    group_finder,
    hold_out,
    split_of,
    splits_of,
    tidy,
    wanted_classes,
)
from mm_ray.data.manifest import Clip, Manifest, Rejected, label_name
from mm_ray.data.precomputed import is_array
from mm_ray.errors import UserError, in_one_line
from mm_ray.storage import open_binary, read_bytes, read_text
from mm_ray.types import UNLABELLED

Row = dict[str, str]
SURPLUS = "\n"
"""What a row has beyond the columns goes by this name, which no column has: an unnamed one (pandas' index) is fine."""
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class ClipTable:
    """The rows of a table, by column in lower case, all values as text; an empty one is none."""

    place: str
    columns: frozenset[str]
    rows: tuple[Row, ...]
    first_line: int
    """Line of the first row, for people."""


def read_table(place: str) -> ClipTable:
    """The rows of a file by its ending: `.jsonl`, `.parquet`, or CSV.

    Raises:
        UserError: It cannot be read, or is no such table.

    """
    ending = posixpath.splitext(place)[1].lower()
    read = {".jsonl": _read_json_lines, ".parquet": _read_parquet}.get(ending, _read_csv)
    columns, rows, first_line = read(place)
    return ClipTable(place, frozenset(map(_column, columns)), tuple(map(_stripped, rows)), first_line)


def _read_csv(place: str) -> tuple[Sequence[str], list[dict[str, Any]], int]:
    text = _csv_text(place)
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)  # of equals the first
    reader = csv.DictReader(io.StringIO(text, newline=""), restval="", restkey=SURPLUS, delimiter=delimiter)
    try:
        return reader.fieldnames or (), list(reader), 2
    except csv.Error as error:
        raise UserError(f"{place}: line {reader.line_num} is not CSV ({error}); correct it") from error


def _csv_text(place: str) -> str:
    """The text of a CSV file: UTF-8, or UTF-16 with its mark, as some spreadsheets save it."""
    try:
        data = read_bytes(place)
        return data.decode("utf-16") if data.startswith(_UTF16) else read_text(place)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{place}: cannot be read ({in_one_line(error)}); save it as UTF-8") from error


def _read_json_lines(place: str) -> tuple[Sequence[str], list[dict[str, Any]], int]:
    rows = []
    for number, line in enumerate(read_text(place).splitlines(), 1):
        if line.strip():
            try:
                rows.append(dict(json.loads(line)))
            except (ValueError, TypeError, RecursionError) as error:
                raise UserError(f"{place}: line {number} is not a JSON object ({in_one_line(error)}); correct it") from error
    return sorted({name for row in rows for name in row}), rows, 1


def _read_parquet(place: str) -> tuple[Sequence[str], list[dict[str, Any]], int]:
    try:
        with open_binary(place) as file:
            table = pq.read_table(file)
            return table.column_names, table.to_pylist(), 1
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{place}: is not a Parquet table ({in_one_line(error)}); write it again") from error


def _column(name: str) -> str:
    return name.strip().casefold()


def _stripped(row: dict[str, Any]) -> Row:
    """A row without spaces around its columns and values."""
    surplus = {SURPLUS: row.pop(SURPLUS)} if SURPLUS in row else {}
    return {_column(name): "" if value is None else str(value).strip() for name, value in row.items()} | surplus


def manifest_of(name: str, table: ClipTable, data: DataConfig) -> Manifest:
    """The clips of a table's rows; invalid rows are rejected.

    Args:
        name: The data set's.
        table: Its columns are those that `mm_ray.data.datasets.csv` lists.
        data: Names the label's column, the wanted classes and the pattern of groups.

    Raises:
        UserError: A table without a column for label or recording, or one without a single label.

    """
    place, columns, label_column = table.place, table.columns, _column(data.label_column)
    if label_column not in columns or not columns & {"path", "audio", "video"}:
        have = ", ".join(sorted(columns)) or "none"
        hint = "; --data.label_column names the label's" if label_column not in columns else ""
        raise UserError(f"{place}: needs a column {label_column} and one of path, audio, video; its columns: {have}{hint}")
    rows = [{"label": "", **row, **_tidied(row, label_column)} for row in table.rows]
    folds = sorted(name for name in columns if name == "split" or name.startswith("split_"))
    wrong = {number: problem for number, row in enumerate(rows) if (problem := _problem(row, folds))}
    good = [row for number, row in enumerate(rows) if number not in wrong]
    class_names = wanted_classes(data, (row["label"] for row in good if row["label"]))
    if good and not class_names:
        raise UserError(f"{place}: no usable row has a label; label some clips of each class")
    used = [row for row in good if not row["label"] or row["label"] in class_names]
    num_alone = _name_groups(used, data)
    warnings = () if folds else alone_warnings(num_alone, len(used), data, "a column group")
    splits = _given(used, folds) if folds else _held_out(used)
    clips = [_clip(row, class_names, fold_splits) for row, fold_splits in zip(used, splits, strict=True)]
    rejected = [_rejected(rows[n], f"line {n + table.first_line}: {problem}") for n, problem in wrong.items()]
    num_unlabelled = sum(clip.label == UNLABELLED for clip in clips)
    notes = (f"{num_unlabelled:,} training clips have no label",) if num_unlabelled else ()
    return Manifest(name, class_names, *_unique(clips, class_names, rejected), notes, warnings)


def _tidied(row: Mapping[str, str], label_column: str) -> Row:
    """Labels and groups made alike within, too."""
    return {"label": tidy(row.get(label_column, "")), **({"group": tidy(row["group"])} if "group" in row else {})}


def _name_groups(rows: list[Row], data: DataConfig) -> int:
    """Give each row a group: its own, what the pattern finds in its path, or its recording; counts the last."""
    find, num_alone = group_finder(data), 0
    for row in rows:
        named = row.get("group") or (find(_source(row)) if find else "")
        num_alone += not named
        row["group"] = named or _source(row)
    return num_alone


def _given(rows: list[Row], folds: list[str]) -> list[tuple[str, ...]]:
    called = [splits_of({row[fold] for row in rows}) for fold in folds]
    return [tuple(names[row[fold]] for fold, names in zip(folds, called, strict=True)) for row in rows]


def _problem(row: Row, folds: list[str]) -> str:
    if row.get(SURPLUS):
        return "has more values than there are columns"
    if not _source(row):
        return "has no recording"
    if bad := [row[fold] for fold in folds if not split_of(row[fold])]:
        return f"split {bad[0]!r} is not one of {', '.join(SPLIT_NAMES)}"
    if not row["label"] and any(split_of(row[fold]) != "train" for fold in folds):
        return "has no label; only training clips may lack one"
    try:
        start_s, end_s = _seconds(row, "start"), _seconds(row, "end")
    except ValueError:
        return "start or end is not a number of seconds"
    if is_array(_source(row)) and (start_s, end_s) != (None, None):
        return "start and end cut recordings; cut the array itself"
    return "ends before it starts" if end_s is not None and end_s <= (start_s or 0.0) else ""


def _source(row: Row) -> str:
    video = row.get("video") or ""  # an array of video features holds no audio
    return row.get("audio") or row.get("path") or ("" if is_array(video) else video)


def _seconds(row: Row, name: str) -> float | None:
    seconds = float(row[name].replace(",", ".")) if row.get(name) else None  # spreadsheets write 1,5 beside semicolons
    if seconds is not None and not math.isfinite(seconds):
        raise ValueError(name)
    return seconds


def _held_out(rows: list[Row]) -> list[tuple[str, ...]]:
    splits = {row["group"]: "train" for row in rows if not row["label"]}
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row["group"] not in splits:
            groups[row["label"]].append(row["group"])
    splits |= hold_out(groups)
    return [(splits[row["group"]],) for row in rows]


def _clip(row: Row, class_names: tuple[str, ...], splits: tuple[str, ...]) -> Clip:
    source, start_s, end_s = _source(row), _seconds(row, "start"), _seconds(row, "end")
    pictures = row.get("image") or row.get("video") or ""
    span = "" if start_s is None and end_s is None else f"@{row.get('start') or 0}-{row.get('end') or ''}"
    other = pictures if pictures != source else ""
    label = class_names.index(row["label"]) if row["label"] else UNLABELLED
    return Clip(row.get("id") or f"{source}{span}", label, row["group"], splits, source, other, start_s, end_s)


def _rejected(row: Row, detail: str) -> Rejected:
    source = _source(row)
    return Rejected(row.get("id") or source, source, row.get("label") or "", row.get("group") or "", "bad_row", detail)


def _unique(
    clips: list[Clip], class_names: tuple[str, ...], rejected: list[Rejected]
) -> tuple[tuple[Clip, ...], tuple[Rejected, ...]]:
    first: dict[str, Clip] = {}
    again = [clip for clip in clips if first.setdefault(clip.id, clip) is not clip]
    detail = "its id or its recording appears twice"
    rejected += [Rejected(c.id, c.source, label_name(c.label, class_names), c.group, "duplicate", detail) for c in again]
    return tuple(first.values()), tuple(rejected)
