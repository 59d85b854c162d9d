"""Video features from an image classifier of torchvision without its last layer: `torchvision:NAME`, one vector per frame.

ResNet, ConvNeXt, EfficientNet, Swin, ViT and the others of `torchvision.models`, with the weights that torchvision names as the
model's default, or those of `data.video_weights`; frames are scaled, cut and standardised as those weights want it. torchvision
is an extra (`mm-ray[video]`); nothing is downloaded here.

Shape suffixes: S video frames, H height, W width, D features.
"""

import difflib
import io
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn

from mm_ray.config import DataConfig, FeatureConfig
from mm_ray.data.features.pretrained_audio import FAULTS, digest_of
from mm_ray.data.frame_encoding import channels_first, frame_vectors, weights_place
from mm_ray.data.media.video_track import Size, whole_frame
from mm_ray.devices import encoder_device
from mm_ray.errors import bad_value, in_one_line
from mm_ray.storage import read_bytes

FIELD = "data.features.video"
_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"transform_input": True, "init_weights": False},
    "inception_v3": {"transform_input": True, "init_weights": False},
    "vit_h_14": {"image_size": 518},
}
"""What torchvision's own loading sets for the default weights of some models."""
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(?=[12]\.)")
"""Names of tensors before torchvision 0.3, in which its DenseNets are still stored."""


@dataclass(frozen=True)
class TorchvisionVideo:
    """The recipe of `torchvision:NAME` (see `mm_ray.data.video_features.VideoRecipe`)."""

    IS_ENCODER = True
    name: str

    def frame_size(self, features: FeatureConfig) -> Size:
        """Whole frames: the weights' own transform scales them."""
        return whole_frame

    def compute(self, frames: np.ndarray, data: DataConfig) -> np.ndarray:
        """What the last layer of the classifier reads, (S, D) float16.

        Args:
            frames: uint8, grey (S, H, W) or RGB (S, H, W, 3).
            data: Says where the weights are.

        """
        device = encoder_device()
        transform, model, _ = self._loaded(data, device)

        def encode(rgb_SHW3: np.ndarray) -> torch.Tensor:
            features_SD: torch.Tensor = model(transform(channels_first(rgb_SHW3)).to(device))
            return features_SD

        return frame_vectors(frames, encode)

    def identity(self, data: DataConfig) -> str:
        """The model's name, and a digest of its weights and of the transform.

        Raises:
            UserError: torchvision, the model or the weights are not there, or the file holds something else.

        """
        return f"{self.name} {self._loaded(data, 'cpu')[2]}"

    def _loaded(self, data: DataConfig, device: str) -> tuple[Any, nn.Module, str]:
        weights = _default_weights(self.name)
        return _load(self.name, weights, weights_place(data, weights.url), device)


def _default_weights(name: str) -> Any:
    try:
        from torchvision import models
    except ImportError as error:
        remedy = f"needs torchvision; pip install 'mm-ray[video]' ({in_one_line(error)})"
        raise bad_value(FIELD, name, remedy) from error
    place, known = name.partition(":")[2], models.list_models(module=models)
    if place not in known:
        nearest = difflib.get_close_matches(place, known, n=1)
        guess = f"; did you mean torchvision:{nearest[0]}?" if nearest else ""
        raise bad_value(FIELD, name, f"torchvision has no such image classifier{guess}")
    return models.get_model_weights(place).DEFAULT


@lru_cache(maxsize=1)
def _load(name: str, weights: Any, place: str, device: str) -> tuple[Any, nn.Module, str]:
    """The transform of the frames, the model, and a digest of both."""
    from torchvision import models

    kind = name.partition(":")[2]
    model = models.get_model(kind, weights=None, **_OPTIONS.get(kind, {}))
    head = next((path for path, module in reversed([*model.named_modules()]) if isinstance(module, nn.Linear)), None)
    if head is None:
        raise bad_value(FIELD, name, "its last layer is no linear one, so it has no features; take another model")
    model.set_submodule(head, nn.Identity())
    try:
        stored = torch.load(io.BytesIO(read_bytes(place)), map_location="cpu", weights_only=True)
        for key in [*stored]:  # in place, since some models look at the dictionary's version
            tensor = stored.pop(key)
            if not key.startswith(f"{head}."):
                stored[_OLD_DENSENET.sub(r"\1", key)] = tensor
        model.load_state_dict(stored)
    except (*FAULTS, EOFError) as error:
        why = f"does not hold torchvision's {kind}; download {weights.url}"
        raise bad_value("data.video_weights", place, why) from error
    transform = weights.transforms()
    return transform, model.eval().requires_grad_(False).to(device), digest_of(model, repr(transform))
