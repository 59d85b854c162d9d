"""The same small network for each frame: (B, T, F) -> (B, T, H). For modalities that are one vector per clip.

A modality of several frames becomes a set of them: the pooling behind it does not see their order.

Shapes: B batch, T frames, F features per frame, H hidden; in ONNX W windows.
"""

import itertools

import torch
from torch import Tensor, nn

from mm_ray.config import ModelConfig
from mm_ray.models.dropout import dropout
from mm_ray.models.layers import Sequence, length_mask, within
from mm_ray.models.onnx_graph import Graph, array


class MLP(nn.Module):
    """`model.mlp.layers` times Linear-ReLU-dropout."""

    def __init__(self, features: int, model: ModelConfig) -> None:
        super().__init__()
        widths = [features] + [model.hidden] * model.mlp.layers
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.output_size, self.dropout_probability = model.hidden, model.dropout

    def forward(self, values_BTF: Tensor, lengths_B: Tensor, generator: torch.Generator | None = None) -> Sequence:
        """Encode; every frame is a step."""
        x_BTH, lengths_B = within(values_BTF, lengths_B)
        for layer in self.layers:
            x_BTH = dropout(torch.relu(layer(x_BTH)), self.dropout_probability, generator)
        return Sequence(x_BTH, length_mask(lengths_B, x_BTH.shape[1]))

    def write_onnx(self, graph: Graph) -> None:
        """The same in ONNX: see `mm_ray.models.encoder`."""
        values = "features_WTF"
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Linear)
            graph.add_linear(f"layer_{i}_WTH", values, array(layer.weight), array(layer.bias))
            values = f"unit_{i}_WTH"
            graph.add(f"{values} = Relu(layer_{i}_WTH)")
        graph.add(f"encoded_WTH = Identity({values})")
        graph.add_is_step("is_step_WT", "features_WTF", 1, "length_W1")
        graph.add("is_step_WT1 = Unsqueeze(is_step_WT, two_1)")


build = MLP
