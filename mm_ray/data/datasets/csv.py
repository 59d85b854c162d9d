"""A table of the user's: `manifest.csv` in ROOT, or the file of `--annotations`; paths in it are relative to ROOT.

The file is CSV (commas, semicolons or tabs; UTF-8 or UTF-16), JSON lines (`.jsonl`) or Parquet; columns may be in any case:
`label` (or `--data.label_column`); `path` (sound, or both tracks in one file) or `audio`, and maybe `video` or `image` for the
sight; and if you like `id`, `group` (or `--data.group_pattern`), `split` (or `split_0`, `split_1`, ... for folds), `start` and
`end` in seconds. Blanks around values do not count. Without splits a fifth of the groups of each class is for test and a fifth
for dev. A training clip may have an empty label; without splits the group of such a clip is for training. Instead of recordings
the columns may name arrays of precomputed features, `a.npy`, `all.npz#KEY` or `all.npy#ROW` (docs/data.md).
"""

from mm_ray.config import DataConfig
from mm_ray.data.clip_table import manifest_of, read_table
from mm_ray.data.dataset_helpers import annotation
from mm_ray.data.manifest import Manifest


def read(data: DataConfig) -> Manifest:
    """List the rows of the table; a row that makes no sense is rejected.

    Raises:
        UserError: No such table, one without a column for label or recording, or one without a single label.

    """
    return manifest_of("csv", read_table(annotation(data, "manifest.csv")), data)
