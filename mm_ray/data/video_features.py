"""From frames to video features, by the recipe that `data.features.video` names: a module of `video/`, or a function.

Shape suffixes: S video frames, H height, W width, D video features.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from mm_ray.config import DataConfig, FeatureConfig
from mm_ray.data.sight import Size
from mm_ray.errors import UserError, bad_value
from mm_ray.names import import_named, resolve

PACKAGE = "mm_ray.data.video"
_FIELD = "data.features.video"


class VideoRecipe(Protocol):
    """What a module of `video/` has."""

    def frame_size(self, features: FeatureConfig) -> Size:
        """At which size frames are decoded."""

    def compute(self, frames: np.ndarray, data: DataConfig) -> np.ndarray:
        """Features of a clip's frames, (S, D) float16."""

    def identity(self, data: DataConfig) -> str:
        """What decides the features beside `data.features`, such as a digest of weights."""


def frame_size(data: DataConfig) -> Size:
    """Width and height at which video frames are decoded, from those of the video."""
    return find_recipe(data.features.video).frame_size(data.features)


def video_features(frames: np.ndarray, data: DataConfig) -> np.ndarray:
    """Features of a clip's frames, (S, D) float16.

    Args:
        frames: uint8, grey (S, H, W) or RGB (S, H, W, 3). At most `max_video_frames` are taken, evenly spaced.
        data: The recipe and what it needs.

    Raises:
        UserError: A function of the user's returned something else.

    """
    frames = frames[_evenly_spaced(len(frames), data.features.max_video_frames)]
    return find_recipe(data.features.video).compute(frames, data)


def video_identity(data: DataConfig) -> str:
    """What decides the video features beside the settings; it belongs to the fingerprint of a store.

    Raises:
        UserError: The recipe is unknown, or lacks what it needs.

    """
    return find_recipe(data.features.video).identity(data)


@lru_cache(maxsize=4)
def find_recipe(name: str) -> VideoRecipe:
    """The recipe of that name.

    Raises:
        UserError: There is none, or the function does not import.

    """
    return _own(name) if ":" in name else cast(VideoRecipe, resolve(_FIELD, name, PACKAGE, "compute"))


@dataclass(frozen=True)
class _OwnFunction:
    """`module:function` of the user's: RGB frames of full size, (S, H, W, 3) uint8, to (S, D) numbers."""

    name: str
    function: Callable[[np.ndarray], np.ndarray]
    code_digest: str

    def frame_size(self, features: FeatureConfig) -> Size:
        return lambda width, height: (width, height)

    def compute(self, frames: np.ndarray, data: DataConfig) -> np.ndarray:
        rgb_SHW3 = frames if frames.ndim == 4 else np.repeat(frames[..., None], 3, axis=-1)
        values = np.asarray(self.function(rgb_SHW3))
        if values.ndim != 2 or len(values) != len(frames) or not values.shape[1]:
            raise bad_value(
                _FIELD, self.name, f"returned shape {values.shape} for {len(frames)} frames; return ({len(frames)}, D)"
            )
        with np.errstate(over="ignore"):
            features_SD = values.astype(np.float16)
        if not np.isfinite(features_SD).all():
            raise bad_value(_FIELD, self.name, "returned numbers that are not finite as float16 (up to 65,504); scale them")
        return features_SD

    def identity(self, data: DataConfig) -> str:
        return f"{self.name} {self.code_digest}"


def _own(name: str) -> VideoRecipe:
    module_name, _, function_name = name.partition(":")
    module = import_named(_FIELD, name, module_name)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise UserError(f"{_FIELD}={name}: {module_name} has no function {function_name or 'named'}; give module:function")
    code = Path(module.__file__).read_bytes() if module.__file__ else b""
    return _OwnFunction(name, function, hashlib.blake2b(code, digest_size=8).hexdigest())


def _evenly_spaced(count: int, at_most: int) -> np.ndarray:
    wanted = min(count, at_most)
    return np.arange(wanted) * count // wanted if wanted else np.arange(0)
