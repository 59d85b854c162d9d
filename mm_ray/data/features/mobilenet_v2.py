"""MobileNetV2 (Sandler et al. 2018) with ImageNet weights, pooled to 1280 numbers per frame, as in FedMultimodal.

torchvision has the network and is an extra (`mm-ray[video]`). Shape suffixes: S video frames, H height, W width, D = 1280.
"""

import hashlib
import io
from functools import lru_cache
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from mm_ray.config import DataConfig, FeatureConfig
from mm_ray.data.frame_encoding import channels_first, frame_vectors, weights_place
from mm_ray.data.media.video_track import Size
from mm_ray.devices import encoder_device
from mm_ray.errors import UserError, bad_value, in_one_line
from mm_ray.storage import read_bytes

WEIGHTS_URL = "https://download.pytorch.org/models/mobilenet_v2-b0353104.pth"
"""torchvision's IMAGENET1K_V1, which `pretrained=True` used to mean."""
IS_ENCODER = True
_SHORT_SIDE, _CROP = 256, 224
_MEAN_3, _DEVIATION_3 = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_FIELD = "data.video_weights"


def frame_size(features: FeatureConfig) -> Size:
    """The shorter side at 256, as the network was trained."""
    return _scaled


def compute(frames: np.ndarray, data: DataConfig) -> np.ndarray:
    """The network's last feature map, pooled, (S, 1280) float16; neither centred nor scaled, as none of it is negative.

    Args:
        frames: uint8, grey (S, H, W) or RGB (S, H, W, 3).
        data: Says where the weights are.

    """
    device = encoder_device()
    network = _network(weights_place(data, WEIGHTS_URL), device)
    return frame_vectors(frames, lambda rgb_SHW3: network(_prepared(rgb_SHW3).to(device)).mean(dim=(2, 3)))


def identity(data: DataConfig) -> str:
    """Which weights: a digest of their file.

    Raises:
        UserError: torchvision or the weights are not there, or the file holds something else.

    """
    place = weights_place(data, WEIGHTS_URL)
    _network(place, "cpu")
    return f"mobilenet_v2 {hashlib.blake2b(read_bytes(place), digest_size=8).hexdigest()}"


@lru_cache(maxsize=1)
def _network(place: str, device: str) -> Any:
    """The convolutional part, (S, 3, H, W) -> (S, 1280, H / 32, W / 32)."""
    try:
        from torchvision.models import mobilenet_v2
    except ImportError as error:
        remedy = "needs torchvision; pip install 'mm-ray[video]'"
        raise bad_value("data.features.video", "mobilenet_v2", f"{remedy} ({in_one_line(error)})") from error
    network = mobilenet_v2(weights=None).features
    try:
        stored = torch.load(io.BytesIO(read_bytes(place)), map_location="cpu", weights_only=True)
        prefix = "features."
        network.load_state_dict({name.removeprefix(prefix): stored[name] for name in stored if name.startswith(prefix)})
    except (RuntimeError, ValueError, TypeError, AttributeError, LookupError, EOFError, UnpicklingError) as error:
        raise UserError(f"--{_FIELD} {place}: does not hold torchvision's mobilenet_v2; download {WEIGHTS_URL}") from error
    return network.eval().requires_grad_(False).to(device)


def _scaled(width: int, height: int) -> tuple[int, int]:
    short = min(width, height)
    return round(width * _SHORT_SIDE / short), round(height * _SHORT_SIDE / short)


def _prepared(rgb_SHW3: np.ndarray) -> torch.Tensor:
    """The middle square, standardised by ImageNet's mean and deviation, (S, 3, 224, 224)."""
    pixels = channels_first(rgb_SHW3).float() / 255
    width, height = _scaled(pixels.shape[3], pixels.shape[2])
    if (height, width) != tuple(pixels.shape[2:]):  # frames of a data set's own `load`
        pixels = functional.interpolate(pixels, size=(height, width), mode="bilinear", antialias=True)
    top, left = (height - _CROP) // 2, (width - _CROP) // 2
    middle = pixels[:, :, top : top + _CROP, left : left + _CROP]
    return (middle - torch.tensor(_MEAN_3)[:, None, None]) / torch.tensor(_DEVIATION_3)[:, None, None]
