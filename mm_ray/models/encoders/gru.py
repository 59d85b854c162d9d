"""A GRU over the frames, FedMultimodal's video encoder (KDD 2023): (B, T, F) -> (B, T, H).

Shapes: B batch, T frames, F features per frame, H hidden; in ONNX W windows.
"""

import torch
from torch import Tensor, nn

from mm_ray.config import ModelConfig
from mm_ray.models.dropout import dropout
from mm_ray.models.layers import Sequence, length_mask, within
from mm_ray.models.onnx_graph import Graph, gru_tensors


class GRUEncoder(nn.Module):
    """Dropout, then a GRU."""

    def __init__(self, features: int, model: ModelConfig) -> None:
        super().__init__()
        self.gru = nn.GRU(features, model.hidden, batch_first=True)
        self.output_size, self.dropout_probability = model.hidden, model.dropout

    def forward(self, values_BTF: Tensor, lengths_B: Tensor, generator: torch.Generator | None = None) -> Sequence:
        """Encode; every frame is a step."""
        values_BTF, lengths_B = within(values_BTF, lengths_B)
        values_BTH, _ = self.gru(dropout(values_BTF, self.dropout_probability, generator))
        return Sequence(values_BTH, length_mask(lengths_B, values_BTH.shape[1]))

    def write_onnx(self, graph: Graph) -> None:
        """The same in ONNX: see `mm_ray.models.encoder`."""
        graph.add("input_TWF = Transpose <perm = [1, 0, 2]> (features_WTF)")
        graph.add_gru("encoded_WTH", "input_TWF", gru_tensors(self.gru))
        graph.add_is_step("is_step_WT", "features_WTF", 1, "length_W1")
        graph.add("is_step_WT1 = Unsqueeze(is_step_WT, two_1)")


build = GRUEncoder
