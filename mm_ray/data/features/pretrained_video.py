"""Video features from a frozen pretrained image encoder of transformers: `transformers:NAME_OR_PATH`, one vector per frame.

ViT, DINOv2, ResNet, ConvNeXt and others give their pooled output, those without one the mean of their last hidden states; of
CLIP and SigLIP it is the image side. The extra is `mm-ray[pretrained]`; nothing is downloaded here.

Shape suffixes: S video frames, H height, W width, D features.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from mm_ray.config import DataConfig, FeatureConfig
from mm_ray.data.features.pretrained_audio import description_of, digest_of, load_transformers
from mm_ray.data.media.video_track import Size
from mm_ray.models.devices import encoder_device

FIELD = "data.features.video"
_AT_ONCE = 8
"""Frames in one pass, so that memory does not grow with their number."""


@dataclass(frozen=True)
class PretrainedVideo:
    """The recipe of `transformers:NAME_OR_PATH` (see `mm_ray.data.video_features.VideoRecipe`)."""

    HAS_WEIGHTS, IS_ENCODER = False, True
    name: str

    def frame_size(self, features: FeatureConfig) -> Size:
        """Whole frames: the model's own processor scales them."""
        return lambda width, height: (width, height)

    def compute(self, frames: np.ndarray, data: DataConfig) -> np.ndarray:
        """Pooled outputs, (S, D) float16.

        Args:
            frames: uint8, grey (S, H, W) or RGB (S, H, W, 3).
            data: Not read.

        """
        rgb_SHW3 = frames if frames.ndim == 4 else np.repeat(frames[..., None], 3, axis=-1)
        device = encoder_device()
        processor, model, _ = _loaded(self.name, device)
        pieces = []
        with torch.inference_mode():
            for start in range(0, len(rgb_SHW3), _AT_ONCE):
                given = processor(images=list(rgb_SHW3[start : start + _AT_ONCE]), return_tensors="pt").to(device)
                output = model(**given)
                pooled = getattr(output, "pooler_output", None)
                pieces.append(output.last_hidden_state.mean(1) if pooled is None else pooled.flatten(1))
        with np.errstate(over="ignore"):
            features_SD: np.ndarray = torch.cat(pieces).cpu().numpy().astype(np.float16)
        return features_SD

    def identity(self, data: DataConfig) -> str:
        """A digest of the weights and of the processor."""
        return _loaded(self.name, "cpu")[2]


@lru_cache(maxsize=1)
def _loaded(name: str, device: str) -> tuple[Any, Any, str]:
    processor, model = load_transformers(FIELD, name, "AutoImageProcessor")
    description = description_of(model.config, processor)
    model = getattr(model, "vision_model", model).eval().requires_grad_(False)
    return processor, model.to(device), digest_of(model, description)
