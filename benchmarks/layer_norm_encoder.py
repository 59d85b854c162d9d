"""`conv_gru` with a LayerNorm over the channels of each step, after each convolution: what `benchmarks.hard_case` tries."""

import torch
from torch import Tensor, nn

from mm_ray.config import ModelConfig
from mm_ray.models.dropout import dropout
from mm_ray.models.encoders.conv_gru import ConvGRU
from mm_ray.models.layers import Sequence, length_mask, within


class NormalizedConvGRU(ConvGRU):
    """Three times Conv1d(k=5)-LayerNorm-ReLU-MaxPool(2)-dropout, then a GRU."""

    def __init__(self, features: int, model: ModelConfig) -> None:
        super().__init__(features, model)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in model.conv_channels)

    def forward(self, values_BTF: Tensor, lengths_B: Tensor, generator: torch.Generator | None = None) -> Sequence:
        """Encode; a clip of t frames gets ceil(t/8) steps."""
        x_BTF, lengths_B = within(values_BTF, lengths_B)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            mask_BT1 = length_mask(lengths_B, x_BTF.shape[1])[:, :, None]
            x_BTF = torch.relu(norm(conv(x_BTF.transpose(1, 2)).transpose(1, 2))) * mask_BT1
            x_BTF = nn.functional.max_pool1d(x_BTF.transpose(1, 2), 2, ceil_mode=True).transpose(1, 2)
            lengths_B = (lengths_B + 1) // 2
            x_BTF = dropout(x_BTF, self.dropout_probability, generator)
        values_BTH, _ = self.gru(x_BTF)
        return Sequence(values_BTH, length_mask(lengths_B, values_BTH.shape[1]))


build = NormalizedConvGRU
