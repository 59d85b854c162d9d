"""Features that were computed elsewhere, unchanged: the video of a clip is an array (see `mm_ray.data.precomputed`)."""

import numpy as np

from mm_ray.config import DataConfig, FeatureConfig
from mm_ray.data.media.video_track import Size

HAS_WEIGHTS = False


def frame_size(features: FeatureConfig) -> Size:
    """No frame is decoded."""
    return lambda width, height: (width, height)


def compute(frames: np.ndarray, data: DataConfig) -> np.ndarray:
    """The features themselves, (S, D) float16."""
    return frames


def identity(data: DataConfig) -> str:
    """Nothing but the arrays decides the features."""
    return ""
