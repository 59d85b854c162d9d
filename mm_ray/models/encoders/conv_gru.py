"""Convolutions and a GRU, FedMultimodal's audio encoder (KDD 2023): (B, T, F) -> (B, ceil(T/8), H).

Shapes: B batch, T frames, F features per frame, H hidden; in ONNX W windows.
"""

import itertools

import torch
from torch import Tensor, nn

from mm_ray.config import ModelConfig
from mm_ray.models.dropout import dropout
from mm_ray.models.layers import Sequence, length_mask, within
from mm_ray.models.onnx_graph import Graph, array, gru_tensors


class ConvGRU(nn.Module):
    """Three times Conv1d(k=5)-ReLU-MaxPool(2)-dropout, then a GRU."""

    def __init__(self, features: int, model: ModelConfig) -> None:
        super().__init__()
        widths = (features, *model.conv_channels)
        self.convs = nn.ModuleList(nn.Conv1d(a, b, 5, padding=2) for a, b in itertools.pairwise(widths))
        self.gru = nn.GRU(widths[-1], model.hidden, batch_first=True)
        self.output_size, self.dropout_probability = model.hidden, model.dropout

    def forward(self, values_BTF: Tensor, lengths_B: Tensor, generator: torch.Generator | None = None) -> Sequence:
        """Encode; a clip of t frames gets ceil(t/8) steps."""
        values_BTF, lengths_B = within(values_BTF, lengths_B)
        x_BFT = values_BTF.transpose(1, 2)
        for conv in self.convs:
            mask_BT = length_mask(lengths_B, x_BFT.shape[2])
            x_BFT = torch.relu(conv(x_BFT)) * mask_BT[:, None]
            # Ceil: a last odd frame is pooled with the zero behind it, which a ReLU output never falls below.
            x_BFT = nn.functional.max_pool1d(x_BFT, 2, ceil_mode=True)
            lengths_B = (lengths_B + 1) // 2
            x_BFT = dropout(x_BFT.transpose(1, 2), self.dropout_probability, generator).transpose(1, 2)
        values_BTH, _ = self.gru(x_BFT.transpose(1, 2))
        return Sequence(values_BTH, length_mask(lengths_B, values_BTH.shape[1]))

    def write_onnx(self, graph: Graph) -> None:
        """The same in ONNX: see `mm_ray.models.encoder`."""
        graph.add("input_0_WFT = Transpose <perm = [0, 2, 1]> (features_WTF)\nlength_0_W1 = Identity(length_W1)")
        for i, conv in enumerate(self.convs):
            assert isinstance(conv, nn.Conv1d)
            assert conv.bias is not None
            graph.add(
                f"""
                convolved_{i}_WFT = Conv <pads = [2, 2]> (input_{i}_WFT, conv_{i}_weight, conv_{i}_bias)
                positive_{i}_WFT = Relu(convolved_{i}_WFT)
                """,
                **{f"conv_{i}_weight": array(conv.weight), f"conv_{i}_bias": array(conv.bias)},
            )
            graph.add_is_step(f"is_step_{i}_WT", f"positive_{i}_WFT", 2, f"length_{i}_W1")
            graph.add(f"""
                is_step_{i}_W1T = Unsqueeze(is_step_{i}_WT, one_1)
                own_{i}_WFT = Where(is_step_{i}_W1T, positive_{i}_WFT, nothing)
                input_{i + 1}_WFT = MaxPool <kernel_shape = [2], strides = [2], pads = [0, 1]> (own_{i}_WFT)
                more_{i}_W1 = Add(length_{i}_W1, one_1)
                length_{i + 1}_W1 = Div(more_{i}_W1, two_1)
                """)
        last = len(self.convs)
        graph.add(f"input_TWF = Transpose <perm = [2, 0, 1]> (input_{last}_WFT)")
        graph.add_gru("encoded_WTH", "input_TWF", gru_tensors(self.gru))
        graph.add_is_step("is_step_WT", f"input_{last}_WFT", 2, f"length_{last}_W1")
        graph.add("is_step_WT1 = Unsqueeze(is_step_WT, two_1)")


build = ConvGRU
