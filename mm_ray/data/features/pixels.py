"""Small frames as they are: grey or colour, standardised over the clip; needs no weights.

Shape suffixes: S video frames, H height, W width, C colours, D video features.
"""

import numpy as np
import torch
from torch.nn import functional

from mm_ray.config import DataConfig, FeatureConfig
from mm_ray.data.media.video_track import Size

HAS_WEIGHTS = False
_EPSILON = 1e-5
_GREY_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)
"""Luma of ITU-R BT.601."""


def frame_size(features: FeatureConfig) -> Size:
    """Frames are decoded at the size at which they are kept."""
    side = features.video_size
    return lambda width, height: (side, side)


def compute(frames: np.ndarray, data: DataConfig) -> np.ndarray:
    """Scaled frames, (S, D) float16, with mean 0 and variance 1 over the clip.

    Args:
        frames: uint8, grey (S, H, W) or RGB (S, H, W, 3).
        data: Has the recipe; D = `video_size` squared, times three in colour (row, column, colour).

    """
    features = data.features
    scaled_SHWC = (_grey(frames)[..., None] if features.video_color == "grey" else _rgb(frames)).astype(np.float32)
    size = (features.video_size, features.video_size)
    small = functional.interpolate(torch.from_numpy(scaled_SHWC).permute(0, 3, 1, 2), size=size, mode="area")
    small_SD = small.permute(0, 2, 3, 1).reshape(len(small), -1).numpy()
    standardised: np.ndarray = (small_SD - small_SD.mean()) / (small_SD.std() + _EPSILON)
    return standardised.astype(np.float16)


def identity(data: DataConfig) -> str:
    """Nothing but the settings decides what comes out."""
    return ""


def _grey(frames: np.ndarray) -> np.ndarray:
    scaled = frames.astype(np.float32) / 255.0
    return scaled @ _GREY_WEIGHTS if frames.ndim == 4 else scaled


def _rgb(frames: np.ndarray) -> np.ndarray:
    scaled = frames.astype(np.float32) / 255.0
    return scaled if frames.ndim == 4 else np.repeat(scaled[..., None], 3, axis=-1)
