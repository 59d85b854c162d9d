"""The feature table: all clips of a data set as a few flat arrays, which Ray's object store shares without a copy.

Shape suffixes: X frames of all clips (of the one modality), F audio bins, D video features,
N clips, N1 = N + 1.
"""

from dataclasses import dataclass

import numpy as np

from mm_ray.config import FeatureConfig
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

    @property
    def num_clips(self) -> int:
        """Number of clips, N."""
        return len(self.labels_N)

    @property
    def shapes(self) -> Shapes:
        """What a model must know of the data."""
        video_features = 0 if self.video_flat_XD is None else self.video_flat_XD.shape[1]
        return Shapes(self.audio_flat_XF.shape[1], video_features, len(self.class_names))

    def rows(self, split: str) -> np.ndarray:
        """Rows (int64, ascending) of the clips of `train`, `dev` or `test`."""
        return np.flatnonzero(self.splits_N == SPLITS.index(split))

    def audio_lengths(self, rows: np.ndarray) -> np.ndarray:
        """Audio frames of each of the rows, int64."""
        return self.audio_offsets_N1[rows + 1] - self.audio_offsets_N1[rows]

    def video_lengths(self, rows: np.ndarray) -> np.ndarray:
        """Video frames of each of the rows, int64; 0 for a clip without video."""
        return self.video_offsets_N1[rows + 1] - self.video_offsets_N1[rows]

    def has_video(self, rows: np.ndarray) -> np.ndarray:
        """Whether each of the rows has video, bool."""
        return self.video_lengths(rows) > 0
