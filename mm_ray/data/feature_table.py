"""The feature table: all clips of a data set as a few flat arrays, which Ray's object store shares without a copy.

Shape suffixes: X frames of all clips (of the one modality), F audio bins, D video features,
N clips, N1 = N + 1.
"""

from dataclasses import dataclass

import numpy as np

from mm_ray.config import FeatureConfig
from mm_ray.errors import bad_value
from mm_ray.types import Shapes

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Features, labels, groups and the splits of one fold. The arrays may be read-only.

    Clip i has the audio frames `audio_flat_XF[audio_offsets_N1[i] : audio_offsets_N1[i + 1]]`, and video likewise; a clip
    without video has no video frames, data without video has no `video_flat_XD`.
    """

    audio_flat_XF: np.ndarray
    """float16, log-mel frames."""
    audio_offsets_N1: np.ndarray
    """int64."""
    video_flat_XD: np.ndarray | None
    """float16, flattened grey frames."""
    video_offsets_N1: np.ndarray
    """int64."""
    labels_N: np.ndarray
    """int64, index into `class_names`."""
    groups_N: np.ndarray
    """int64, index into `group_names`."""
    group_names: tuple[str, ...]
    splits_N: np.ndarray
    """int8, index into `SPLITS`."""
    clip_ids_N: np.ndarray
    """Fixed-width unicode."""
    class_names: tuple[str, ...]
    features: FeatureConfig
    fingerprint: str
    """Digest of all clips and features and of the fold."""
    num_folds: int = 1
    """How many folds the data set has."""
    files_N: np.ndarray | None = None
    """int64: row of the first clip of the recording from which each clip was cut (`features.window_hop_s`). The clips of a
    recording are neighbours and have the same split, group and label. `None`: each clip is a recording of its own.
    """

    @property
    def num_clips(self) -> int:
        """Number of clips, N."""
        return len(self.labels_N)

    @property
    def shapes(self) -> Shapes:
        """What a model must know of the data."""
        video_features = 0 if self.video_flat_XD is None else self.video_flat_XD.shape[1]
        return Shapes(self.audio_flat_XF.shape[1], video_features, len(self.class_names))

    def check_splits(self, name: str) -> None:
        """Refuse data that cannot be trained on, chosen by or tested on; `name` is what the user calls it.

        Raises:
            UserError: A split is empty, or has no clip with video where the data has any.

        """
        counts = {split: len(self.rows(split)) for split in SPLITS}
        listed = ", ".join(f"{count:,} {split}" for split, count in counts.items())
        if not counts["train"]:
            raise bad_value("data", name, f"has no clips to train on ({listed}); give some the split train")
        if not counts["dev"]:
            way = "take some from train with --data.dev_from_train 0.2, or give some clips the split dev"
            raise bad_value("data", name, f"has no dev clips ({listed}), which choose the best round; {way}")
        if not counts["test"]:
            raise bad_value("data", name, f"has no test clips ({listed}), so nothing can be reported; give some the split test")
        without = [split for split in SPLITS if not len(self.video_rows(split))]
        if self.video_flat_XD is not None and without:
            problem = f"no {' and no '.join(without)} clip has video, so the teacher cannot be evaluated"
            raise bad_value("data", name, f"{problem}; give the split some clips with video")

    def rows(self, split: str) -> np.ndarray:
        """Rows (int64, ascending) of the clips of `train`, `dev` or `test`."""
        return np.flatnonzero(self.splits_N == SPLITS.index(split))

    def file_rows(self, split: str) -> np.ndarray:
        """One row for each recording of a split, that of its first clip: what is counted where a recording counts once."""
        rows = self.rows(split)
        return rows if self.files_N is None else rows[self.files_N[rows] == rows]

    def clips_of(self, file_rows: np.ndarray) -> np.ndarray:
        """Rows of all clips of the recordings whose first clips are given, ascending."""
        return file_rows if self.files_N is None else np.flatnonzero(np.isin(self.files_N, file_rows))

    def video_rows(self, split: str) -> np.ndarray:
        """Those of the rows of a split that have video."""
        rows = self.rows(split)
        return rows[self.has_video(rows)]

    def audio_lengths(self, rows: np.ndarray) -> np.ndarray:
        """Audio frames of each of the rows, int64."""
        return self.audio_offsets_N1[rows + 1] - self.audio_offsets_N1[rows]

    def video_lengths(self, rows: np.ndarray) -> np.ndarray:
        """Video frames of each of the rows, int64; 0 for a clip without video."""
        return self.video_offsets_N1[rows + 1] - self.video_offsets_N1[rows]

    def has_video(self, rows: np.ndarray) -> np.ndarray:
        """Whether each of the rows has video, bool."""
        return self.video_lengths(rows) > 0
