"""From frames to video features, by the recipe that `data.features.video` names: a module of `features/`, or a function.

Shape suffixes: S video frames, H height, W width, D video features.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Protocol, cast

import numpy as np

from mm_ray.config import DataConfig, FeatureConfig
from mm_ray.data.features.pretrained_torchvision import TorchvisionVideo
from mm_ray.data.features.pretrained_video import PretrainedVideo
from mm_ray.data.media.video_track import Size
from mm_ray.errors import bad_value
from mm_ray.plugins import code_digest, in_user_code, load, resolve

PACKAGE = "mm_ray.data.features"
_FIELD = "data.features.video"


class VideoRecipe(Protocol):
    """What a module of `features/` for video has. With `HAS_WEIGHTS = False` in it, `data.video_weights` is refused; with
    `IS_ENCODER = True` it computes on `mm_ray.devices.encoder_device()`.
    """

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
        UserError: The recipe is unknown, lacks what it needs, or has no weights and is given some.

    """
    refuse_unused_weights(data)
    recipe = find_recipe(data.features.video)
    own_code = code_digest(recipe) if isinstance(recipe, ModuleType) else ""
    return f"{recipe.identity(data)} {own_code}".strip()


def has_encoder(data: DataConfig) -> bool:
    """Whether features of audio or video are those of a pretrained encoder, which can run on a GPU."""
    return data.features.is_pretrained_audio or getattr(find_recipe(data.features.video), "IS_ENCODER", False)


def refuse_unused_weights(data: DataConfig) -> None:
    """Refuse weights that the recipe would not read.

    Raises:
        UserError: The recipe is unknown, or has no weights and is given some.

    """
    if data.video_weights and not getattr(find_recipe(data.features.video), "HAS_WEIGHTS", True):
        remedy = f"--{_FIELD} {data.features.video} has no weights; leave it out"
        raise bad_value("data.video_weights", data.video_weights, remedy)


@lru_cache(maxsize=4)
def find_recipe(name: str) -> VideoRecipe:
    """The recipe of that name.

    Raises:
        UserError: There is none, or the function does not import.

    """
    if name.startswith("transformers:"):
        return PretrainedVideo(name)
    if name.startswith("torchvision:"):
        return TorchvisionVideo(name)
    return _own(name) if ":" in name else cast(VideoRecipe, resolve(_FIELD, name, PACKAGE, "compute"))


@dataclass(frozen=True)
class _OwnFunction:
    """`module:function` of the user's: RGB frames of full size, (S, H, W, 3) uint8, to (S, D) numbers."""

    HAS_WEIGHTS = False
    name: str
    function: Callable[[np.ndarray], np.ndarray]
    code: str
    """Digest of its module."""

    def frame_size(self, features: FeatureConfig) -> Size:
        return lambda width, height: (width, height)

    def compute(self, frames: np.ndarray, data: DataConfig) -> np.ndarray:
        rgb_SHW3 = frames if frames.ndim == 4 else np.repeat(frames[..., None], 3, axis=-1)
        values = in_user_code(_FIELD, self.name, "fails", lambda: np.asarray(self.function(rgb_SHW3)))
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
        return f"{self.name} {self.code}"


def _own(name: str) -> VideoRecipe:
    module_name, _, function_name = name.partition(":")
    module = load(_FIELD, module_name)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise bad_value(_FIELD, name, f"{module_name} has no function {function_name or 'named'}; give module:function")
    return _OwnFunction(name, function, code_digest(module))


def _evenly_spaced(count: int, at_most: int) -> np.ndarray:
    wanted = min(count, at_most)
    return np.arange(wanted) * count // wanted if wanted else np.arange(0)
