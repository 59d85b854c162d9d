"""A small residual network over log-mel pictures: (B, T, F) -> (B, ceil(T/8), H).

He et al. 2016 with GroupNorm of one group (Wu and He 2018), taken over the channels and bins of each time step: it keeps no
running statistics, so nothing but parameters is averaged, and padding behind a clip does not enter it.

Shapes: B batch, T frames, F bins, C channels, H hidden.
"""

import torch
from torch import Tensor, nn

from mm_ray.config import ModelConfig
from mm_ray.models.dropout import dropout
from mm_ray.models.layers import Sequence, length_mask, within


class StepNorm(nn.GroupNorm):
    """GroupNorm over the channels and bins of each time step, with zeros behind each clip's length."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)

    def forward(self, x_BCTF: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Normalise."""
        steps_XCF = x_BCTF.transpose(1, 2).flatten(0, 1)
        normed_BCTF = super().forward(steps_XCF).unflatten(0, (len(x_BCTF), -1)).transpose(1, 2)
        return normed_BCTF if mask_BT is None else normed_BCTF * mask_BT[:, None, :, None]


class ResidualBlock(nn.Module):
    """Two convolutions, the first of stride 2, beside a convolution of size 1."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, channels, 3, stride=2, padding=1, bias=False)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.short = nn.Conv2d(inputs, channels, 1, stride=2, bias=False)
        self.first_norm, self.second_norm = StepNorm(channels), StepNorm(channels)

    def forward(self, x_BCTF: Tensor, mask_BT: Tensor) -> Tensor:
        """Half as many steps and bins; the mask is that of the result."""
        inner_BCTF = torch.relu(self.first_norm(self.first(x_BCTF), mask_BT))
        return torch.relu(self.second_norm(self.second(inner_BCTF), mask_BT) + self.short(x_BCTF))


class ResNet(nn.Module):
    """A convolution, two residual blocks, and a linear layer over the channels and bins of each step."""

    reads = ("audio",)

    def __init__(self, features: int, model: ModelConfig) -> None:
        super().__init__()
        stem, middle, last = model.resnet.channels
        self.stem, self.stem_norm = nn.Conv2d(1, stem, 3, stride=2, padding=1, bias=False), StepNorm(stem)
        self.blocks = nn.ModuleList([ResidualBlock(stem, middle), ResidualBlock(middle, last)])
        self.output = nn.Linear(last * -(-features // 8), model.hidden)
        self.output_size, self.dropout_probability = model.hidden, model.dropout

    def forward(self, values_BTF: Tensor, lengths_B: Tensor, generator: torch.Generator | None = None) -> Sequence:
        """Encode; a clip of t frames gets ceil(t/8) steps."""
        values_BTF, lengths_B = within(values_BTF, lengths_B)
        lengths_B = (lengths_B + 1) // 2
        x_BCTF = self.stem(values_BTF[:, None])
        x_BCTF = torch.relu(self.stem_norm(x_BCTF, length_mask(lengths_B, x_BCTF.shape[2])))
        for block in self.blocks:
            lengths_B = (lengths_B + 1) // 2
            x_BCTF = block(x_BCTF, length_mask(lengths_B, (x_BCTF.shape[2] + 1) // 2))
        steps_BTX = dropout(x_BCTF.transpose(1, 2).flatten(2), self.dropout_probability, generator)
        values_BTH = torch.relu(self.output(steps_BTX))
        return Sequence(values_BTH, length_mask(lengths_B, values_BTH.shape[1]))


build = ResNet
