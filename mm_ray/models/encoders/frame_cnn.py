"""Convolutions over each frame's picture, then a GRU over the frames: (B, T, F) -> (B, T, H). For frames that are pixels.

Twice Conv2d(k=3)-ReLU-MaxPool(2), LeCun et al. 1998, so that what is seen counts wherever in the picture it lies.

Shapes: B batch, T frames, F numbers per frame (row, column, colour), C channels, Y rows, X columns, H hidden.
"""

import itertools
from math import isqrt

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from mm_ray.config import ModelConfig
from mm_ray.errors import bad_value
from mm_ray.models.dropout import dropout
from mm_ray.models.layers import Sequence, length_mask, within


class FrameCNN(nn.Module):
    """Two convolutions with pooling for each frame, dropout, then a GRU."""

    reads = ("video",)

    def __init__(self, features: int, model: ModelConfig) -> None:
        super().__init__()
        self.side, self.colours = picture_of(features)
        widths = (self.colours, *model.frame_cnn.channels)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(widths))
        self.gru = nn.GRU(widths[-1] * (self.side // 4) ** 2, model.hidden, batch_first=True)
        self.output_size, self.dropout_probability = model.hidden, model.dropout

    def forward(self, values_BTF: Tensor, lengths_B: Tensor, generator: torch.Generator | None = None) -> Sequence:
        """Encode; every frame is a step."""
        values_BTF, lengths_B = within(values_BTF, lengths_B)
        x_NCYX = values_BTF.reshape(-1, self.side, self.side, self.colours).permute(0, 3, 1, 2)
        for conv in self.convs:
            x_NCYX = max_pool2d(torch.relu(conv(x_NCYX)), 2)
        seen_BTZ = x_NCYX.reshape(*values_BTF.shape[:2], -1)
        values_BTH, _ = self.gru(dropout(seen_BTZ, self.dropout_probability, generator))
        return Sequence(values_BTH, length_mask(lengths_B, values_BTH.shape[1]))


def picture_of(features: int) -> tuple[int, int]:
    """Side and number of colours of a frame with that many numbers.

    Raises:
        UserError: The frames are no square pictures, or smaller than the two poolings need.

    """
    for colours in (1, 3):
        side = isqrt(features // colours)
        if side * side * colours == features and side >= 4:
            return side, colours
    problem = f"reads square pictures of at least 4 x 4 pixels, and the data has {features} numbers per frame"
    raise bad_value("model.video_encoder", "frame_cnn", f"{problem}; use --data.features.video pixels or another encoder")


build = FrameCNN
