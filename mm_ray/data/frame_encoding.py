"""What frozen image encoders share, each of which makes one vector per video frame (`features/`).

Shape suffixes: S video frames, H height, W width, D features.
"""

import os
from collections.abc import Callable

import numpy as np
import torch

from mm_ray.config import DataConfig
from mm_ray.errors import bad_value
from mm_ray.storage import size_of

AT_ONCE = 8
"""Frames in one pass, so that memory does not grow with their number."""


def frame_vectors(frames: np.ndarray, encode: Callable[[np.ndarray], torch.Tensor]) -> np.ndarray:
    """Features of frames, (S, D) float16, some frames at a time.

    Args:
        frames: uint8, grey (S, H, W) or RGB (S, H, W, 3).
        encode: Some frames as RGB (S, H, W, 3) to their features (S, D), on any device.

    """
    with torch.inference_mode(), np.errstate(over="ignore"):
        pieces = [encode(_rgb(frames[start : start + AT_ONCE])) for start in range(0, len(frames), AT_ONCE)]
        features_SD: np.ndarray = torch.cat(pieces).cpu().numpy().astype(np.float16)
    return features_SD


def _rgb(frames: np.ndarray) -> np.ndarray:
    return frames if frames.ndim == 4 else np.repeat(frames[..., None], 3, axis=-1)


def channels_first(rgb_SHW3: np.ndarray) -> torch.Tensor:
    """Frames as torch's networks read them, (S, 3, H, W) uint8."""
    return torch.from_numpy(np.ascontiguousarray(rgb_SHW3)).permute(0, 3, 1, 2)


def weights_place(data: DataConfig, url: str) -> str:
    """The file of the weights: the given one, or what torchvision's cache has of an address.

    Raises:
        UserError: It is not there; the text says how to get it.

    """
    place = data.video_weights or os.path.join(torch.hub.get_dir(), "checkpoints", os.path.basename(url))
    if size_of(place) is None:
        known = "no such file" if data.video_weights else f"torchvision's cache has no {place}"
        raise bad_value("data.video_weights", data.video_weights, f"{known}; download {url} and give it with --weights FILE")
    return place
