"""The user's own table: `manifest.csv` in ROOT, or the file of `--annotations`; paths in it are relative to ROOT.

The file is CSV (commas, semicolons or tabs; UTF-8 or UTF-16), JSON lines (`.jsonl`) or Parquet; columns may be in any case:
`label` (or `--data.label_column`); `path` (audio, or both tracks in one file) or `audio`, and optionally `video` or `image`;
and optionally `id`, `group` (or `--data.group_pattern`), `split` (or `split_0`, `split_1`, ... for folds), `start` and
`end` in seconds. Spaces around values are ignored. Without splits a fifth of the groups of each class is for test and a fifth
for dev. A training clip may have an empty label; without splits the group of such a clip is for training. Instead of recordings
the columns may name arrays of precomputed features, `a.npy`, `all.npz#KEY` or `all.npy#ROW` (docs/data.md).
"""

from mm_ray.config import DataConfig
from mm_ray.data.clip_table import manifest_of, read_table
from mm_ray.data.dataset_helpers import annotation
from mm_ray.data.manifest import Manifest

READS = ("root", "annotations", "classes", "group_pattern", "label_column")


def read(data: DataConfig) -> Manifest:
    """List the rows of the table; invalid rows are rejected.

    Raises:
        UserError: No such table, one without a column for label or recording, or one without a single label.

    """
    return manifest_of("csv", read_table(annotation(data, "manifest.csv")), data)
