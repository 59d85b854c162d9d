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
from mm_ray.data.frame_encoding import frame_vectors
from mm_ray.data.media.video_track import Size, whole_frame
from mm_ray.devices import encoder_device

FIELD = "data.features.video"


@dataclass(frozen=True)
class PretrainedVideo:
    """The recipe of `transformers:NAME_OR_PATH` (see `mm_ray.data.video_features.VideoRecipe`)."""

    HAS_WEIGHTS, IS_ENCODER = False, True
    name: str

    def frame_size(self, features: FeatureConfig) -> Size:
        """Whole frames: the model's own processor scales them."""
        return whole_frame

    def compute(self, frames: np.ndarray, data: DataConfig) -> np.ndarray:
        """Pooled outputs, (S, D) float16.

        Args:
            frames: uint8, grey (S, H, W) or RGB (S, H, W, 3).
            data: Not read.

        """
        device = encoder_device()
        processor, model, _ = _loaded(self.name, device)

        def encode(rgb_SHW3: np.ndarray) -> torch.Tensor:
            output = model(**processor(images=list(rgb_SHW3), return_tensors="pt").to(device))
            pooled = getattr(output, "pooler_output", None)
            features_SD: torch.Tensor = output.last_hidden_state.mean(1) if pooled is None else pooled.flatten(1)
            return features_SD

        return frame_vectors(frames, encode)

    def identity(self, data: DataConfig) -> str:
        """A digest of the weights and of the processor."""
        return _loaded(self.name, "cpu")[2]


@lru_cache(maxsize=1)
def _loaded(name: str, device: str) -> tuple[Any, Any, str]:
    processor, model = load_transformers(FIELD, name, "AutoImageProcessor")
    description = description_of(model.config, processor)
    model = getattr(model, "vision_model", model).eval().requires_grad_(False)
    return processor, model.to(device), digest_of(model, description)
