"""Lines of an ONNX graph in ONNX's own textual form, and the tensors that they name: what the export and encoders write to.

Shape suffixes: W windows, T steps, F features, H hidden.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn


@dataclass
class Graph:
    """A graph under construction. `zero`, `one`, `zero_1`, `one_1`, `two_1`, `minus_one_1`, `nothing` (0.0) and
    `minus_infinity` are there; `_1` is a vector of one number.
    """

    lines: list[str] = field(default_factory=list)
    tensors: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, text: str, **tensors: Any) -> None:
        """Append lines; a whole number becomes int64, a fraction float32. A tensor's name must be new."""
        if taken := self.tensors.keys() & tensors.keys():
            raise ValueError(f"the graph has a tensor {min(taken)} already")
        self.lines += [line.strip() for line in text.splitlines() if line.strip()]
        for name, value in tensors.items():
            array = np.asarray(value)
            self.tensors[name] = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)

    def add_is_step(self, name: str, values: str, axis: int, lengths_W1: str) -> None:
        """Which steps lie within the lengths, (W, T); `values` has T steps along its axis."""
        self.add(f"""
            {name}_steps_1 = Shape <start = {axis}, end = {axis + 1}> ({values})
            {name}_steps = Squeeze({name}_steps_1)
            {name}_step_T = Range(zero, {name}_steps, one)
            {name} = Less({name}_step_T, {lengths_W1})
            """)

    def add_linear(self, name: str, values: str, weight: np.ndarray, bias: np.ndarray) -> None:
        """A linear layer along the last axis."""
        tensors = {f"{name}_weight": weight.T, f"{name}_bias": bias}
        self.add(f"{name}_product = MatMul({values}, {name}_weight)\n{name} = Add({name}_product, {name}_bias)", **tensors)

    def add_layer_norm(self, name: str, values: str, norm: nn.LayerNorm) -> None:
        """A LayerNorm along the last axis."""
        text = f"{name} = LayerNormalization <axis = -1, epsilon = {norm.eps:.9f}> ({values}, {name}_weight, {name}_bias)"
        self.add(text, **{f"{name}_weight": array(norm.weight), f"{name}_bias": array(norm.bias)})

    def add_gru(self, name_WTH: str, input_TWF: str, tensors: Mapping[str, np.ndarray]) -> None:
        """A GRU of the given `gru_tensors`."""
        hidden = tensors["gru_state_weight"].shape[2]
        self.add(
            f"""
            states_TDWH, last_DWH = GRU <hidden_size = {hidden}, linear_before_reset = 1>
                ({input_TWF}, gru_input_weight, gru_state_weight, gru_bias)
            states_TWH = Squeeze(states_TDWH, one_1)
            {name_WTH} = Transpose <perm = [1, 0, 2]> (states_TWH)
            """,
            **tensors,
        )


def array(tensor: torch.Tensor) -> np.ndarray:
    """A parameter's numbers."""
    return tensor.detach().numpy()


def gru_tensors(gru: nn.GRU) -> dict[str, np.ndarray]:
    """A GRU's weights and biases as ONNX has them."""
    return {
        "gru_input_weight": _onnx_gates(gru.weight_ih_l0)[None],
        "gru_state_weight": _onnx_gates(gru.weight_hh_l0)[None],
        "gru_bias": np.concatenate([_onnx_gates(gru.bias_ih_l0), _onnx_gates(gru.bias_hh_l0)])[None],
    }


def _onnx_gates(tensor: torch.Tensor | nn.Module) -> np.ndarray:
    """A GRU's weights or biases in ONNX's order of gates, update before reset."""
    assert isinstance(tensor, torch.Tensor)
    reset, update, new = np.split(array(tensor), 3)
    return np.concatenate([update, reset, new])
