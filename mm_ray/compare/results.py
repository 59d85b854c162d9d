"""The results of cells: one JSON file each, so that a comparison resumes where it was stopped; and the table of them."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mm_ray.compare.cells import ComparisonRun
from mm_ray.config import ExperimentConfig
from mm_ray.data.feature_table import FeatureTable
from mm_ray.errors import UserError
from mm_ray.storage import read_object, write_text

REMEDY = "delete it, and the same command computes it again"
COLUMNS = (
    "method", "video_missing", "alpha", "seed", "fold", "top1", "uar", "macro_f1", "dev_top1", "teacher_top1",
    "phase1_audio_top1", "best_round", "rounds", "rounds_computed", "rounds_reused", "bytes_up", "bytes_down", "seconds",
    "train_clips", "test_clips", "tuned", "params_digest",
)  # fmt: skip


class CellResults:
    """Results below `folder/cells/`.

    Args:
        folder: The comparison's folder.
        base: The config that all cells start from.

    """

    def __init__(self, folder: Path, base: ExperimentConfig) -> None:
        self._folder, self._base = folder / "cells", base
        self._folder.mkdir(exist_ok=True)

    def missing(self, cells: Sequence[ComparisonRun]) -> list[ComparisonRun]:
        """The cells without a result."""
        return [cell for cell in cells if not self._path(cell).exists()]

    def write(self, cell: ComparisonRun, result: dict[str, Any]) -> None:
        """Keep a cell's result."""
        write_text(self._path(cell), json.dumps(result, indent=2))

    def read(self, cell: ComparisonRun) -> dict[str, Any]:
        """A cell's result.

        Raises:
            UserError: The file cannot be read, or is not a result.

        """
        path = self._path(cell)
        result = read_object(path, REMEDY)
        needs = NEEDS if cell.on_test else {"dev": _is_scores}
        if wrong := [name for name, is_good in needs.items() if not is_good(result.get(name))]:
            raise UserError(f"{path}: is not the result of a run: {wrong[0]} is missing or invalid; {REMEDY}")
        return result

    def _path(self, cell: ComparisonRun) -> Path:
        return self._folder / f"{cell.key(self._base)}.json"


def _is_scores(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(by_name, dict) and all(map(_is_number, by_name.values())) for by_name in value.values()
    )


def _is_recalls(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(recalls, list) and all(map(_is_number, recalls)) for recalls in value.values()
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


NEEDS: dict[str, Callable[[Any], bool]] = {
    "test": _is_scores,
    "dev": _is_scores,
    "per_class": _is_recalls,
    "rounds_computed": _is_number,
    "rounds_reused": _is_number,
}
"""The fields of a result that the table and the report read."""


def row_of(cell: ComparisonRun, result: dict[str, Any], table: FeatureTable) -> dict[str, Any]:
    """A row of the table: the audio student's scores on the test set, their cost, and the number of clips."""
    test = result["test"]
    student = test.get("student", {})
    return {
        **cell.to_json(),
        **{name: student.get(name) for name in ("top1", "uar", "macro_f1")},
        "dev_top1": result["dev"].get("student", {}).get("top1"),
        "teacher_top1": test.get("teacher", {}).get("top1"),
        "phase1_audio_top1": test.get("phase1_audio", {}).get("top1"),
        "rounds": result["rounds_computed"] + result["rounds_reused"],
        **{name: result[name] for name in COLUMNS if name in result},
        "train_clips": len(table.file_rows("train")),
        "test_clips": len(table.file_rows("test")),
        "per_class": result["per_class"],
        "clients": result.get("clients"),
        "refused": result.get("refused", []),
    }


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """One line per cell."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    writer.writerows([row | {"tuned": json.dumps(row["tuned"]) if row["tuned"] else ""} for row in rows])
    write_text(path, text.getvalue())
