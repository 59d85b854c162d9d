"""The user's own table: `manifest.csv` in ROOT, or the file of `--annotations`; paths in it are relative to ROOT.

Columns: `label`; `path` (audio, or both tracks in one file) or `audio`, and optionally `video` or `image`; and
optionally `id`, `group` (or `--data.group_pattern`), `split` (or `split_0`, `split_1`, ... for folds), `start` and `end` in
seconds. Spaces around values are ignored. Without splits a fifth of the groups of each class is for test and a fifth for dev.
A training clip may have an empty label; without splits the group of such a clip is for training. Instead of recordings the
columns may name arrays of precomputed features, `a.npy`, `all.npz#KEY` or `all.npy#ROW` (docs/data.md).
"""

import csv
import io
import math
from collections import defaultdict
from typing import Any

from mm_ray.config import DataConfig
from mm_ray.data.dataset_helpers import (
    SPLIT_NAMES,
    alone_warnings,
    annotation,
    group_finder,
    hold_out,
    split_of,
    splits_of,
    tidy,
    wanted_classes,
)
from mm_ray.data.manifest import Clip, Manifest, Rejected, label_name
from mm_ray.data.precomputed import is_array
from mm_ray.errors import UserError
from mm_ray.storage import read_text
from mm_ray.types import UNLABELLED

READS = ("root", "annotations", "classes", "group_pattern")

Row = dict[str, str]
SURPLUS = "\n"
"""What a row has beyond the columns goes by this name, which no column has: an unnamed one (pandas' index) is fine."""


def read(data: DataConfig) -> Manifest:
    """List the rows of the table; invalid rows are rejected.

    Raises:
        UserError: No such table, one without a column for label or recording, or one without a single label.

    """
    place = annotation(data, "manifest.csv")
    reader = csv.DictReader(io.StringIO(read_text(place), newline=""), restval="", restkey=SURPLUS)
    try:
        rows, columns = [_stripped(row) for row in reader], {name.strip() for name in reader.fieldnames or ()}
    except csv.Error as error:
        raise UserError(f"{place}: line {reader.line_num} is not CSV ({error}); correct it") from error
    if "label" not in columns or not columns & {"path", "audio", "video"}:
        have = ", ".join(sorted(map(str, columns))) or "none"
        raise UserError(f"{place}: needs a column label and one of path, audio, video; its columns: {have}")
    folds = sorted(name for name in columns if name == "split" or name.startswith("split_"))
    wrong = {line: problem for line, row in enumerate(rows, start=2) if (problem := _problem(row, folds))}
    good = {line: row for line, row in enumerate(rows, start=2) if line not in wrong}
    class_names = wanted_classes(data, (row["label"] for row in good.values() if row["label"]))
    if good and not class_names:
        raise UserError(f"{place}: no usable row has a label; label some clips of each class")
    used = [row for row in good.values() if not row["label"] or row["label"] in class_names]
    num_alone = _name_groups(used, data)
    warnings = () if folds else alone_warnings(num_alone, len(used), data, "a column group")
    splits = _given(used, folds) if folds else _held_out(used)
    clips = [_clip(row, class_names, fold_splits) for row, fold_splits in zip(used, splits, strict=True)]
    rejected = [_rejected(rows[line - 2], f"line {line}: {problem}") for line, problem in wrong.items()]
    num_unlabelled = sum(clip.label == UNLABELLED for clip in clips)
    notes = (f"{num_unlabelled:,} training clips have no label",) if num_unlabelled else ()
    return Manifest("csv", class_names, *_unique(clips, class_names, rejected), notes, warnings)


def _stripped(row: dict[str, Any]) -> Row:
    """A row without spaces around its columns and values; those of labels, splits and groups are made alike within too."""
    surplus = {SURPLUS: row.pop(SURPLUS)} if SURPLUS in row else {}
    stripped = {name.strip(): value.strip() for name, value in row.items()}
    return {name: tidy(value) if name in ("label", "group") else value for name, value in stripped.items()} | surplus


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
    video = row.get("video") or ""  # an array of video features holds no sound
    return row.get("audio") or row.get("path") or ("" if is_array(video) else video)


def _seconds(row: Row, name: str) -> float | None:
    seconds = float(row[name]) if row.get(name) else None
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
    sight = row.get("image") or row.get("video") or ""
    span = "" if start_s is None and end_s is None else f"@{row.get('start') or 0}-{row.get('end') or ''}"
    other = sight if sight != source else ""
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
