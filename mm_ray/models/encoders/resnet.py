"""A small residual network over log-mel pictures: (B, T, F) -> (B, ceil(T/8), H).

He et al. 2016 with GroupNorm of one group (Wu and He 2018), taken over the channels and bins of each time step: it keeps no
running statistics, so nothing but parameters is averaged, and padding behind a clip does not enter it.

Shapes: B batch, T frames, F bins, C channels, H hidden; in ONNX W windows.
"""

import torch
from torch import Tensor, nn

from mm_ray.config import ModelConfig
from mm_ray.models.dropout import dropout
from mm_ray.models.layers import Sequence, length_mask, within
from mm_ray.models.onnx_graph import Graph, array


class StepNorm(nn.GroupNorm):
    """GroupNorm over the channels and bins of each time step, with zeros behind each clip's length."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)

    def forward(self, x_BCTF: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Normalise."""
        steps_XCF = x_BCTF.transpose(1, 2).flatten(0, 1)
        normed_BCTF = super().forward(steps_XCF).unflatten(0, (len(x_BCTF), -1)).transpose(1, 2)
        return normed_BCTF if mask_BT is None else normed_BCTF * mask_BT[:, None, :, None]

    def write_onnx(self, graph: Graph, name: str, values: str, is_step_W1T1: str) -> None:
        """The same in ONNX, as `name`."""
        graph.add(
            f"""
            {name}_mean_W1T1 = ReduceMean({values}, channels_and_bins)
            {name}_deviation_WCTF = Sub({values}, {name}_mean_W1T1)
            {name}_squared_WCTF = Mul({name}_deviation_WCTF, {name}_deviation_WCTF)
            {name}_variance_W1T1 = ReduceMean({name}_squared_WCTF, channels_and_bins)
            {name}_positive_W1T1 = Add({name}_variance_W1T1, {name}_epsilon)
            {name}_spread_W1T1 = Sqrt({name}_positive_W1T1)
            {name}_plain_WCTF = Div({name}_deviation_WCTF, {name}_spread_W1T1)
            {name}_weighted_WCTF = Mul({name}_plain_WCTF, {name}_weight)
            {name}_shifted_WCTF = Add({name}_weighted_WCTF, {name}_bias)
            {name} = Where({is_step_W1T1}, {name}_shifted_WCTF, nothing)
            """,
            **{f"{name}_epsilon": self.eps},
            **{f"{name}_weight": array(self.weight)[:, None, None], f"{name}_bias": array(self.bias)[:, None, None]},
        )


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

    def write_onnx(self, graph: Graph, i: int) -> None:
        """The same in ONNX: from `picture_{i}_WCTF` and `length_{i}_W1` to those of `i + 1`."""
        picture = f"picture_{i}_WCTF"
        _write_conv(graph, f"first_{i}_WCTF", picture, self.first)
        is_step = _write_halved_lengths(graph, i, f"first_{i}_WCTF")
        self.first_norm.write_onnx(graph, f"first_normed_{i}_WCTF", f"first_{i}_WCTF", is_step)
        graph.add(f"inner_{i}_WCTF = Relu(first_normed_{i}_WCTF)")
        _write_conv(graph, f"second_{i}_WCTF", f"inner_{i}_WCTF", self.second)
        self.second_norm.write_onnx(graph, f"second_normed_{i}_WCTF", f"second_{i}_WCTF", is_step)
        _write_conv(graph, f"short_{i}_WCTF", picture, self.short)
        graph.add(f"""
            sum_{i}_WCTF = Add(second_normed_{i}_WCTF, short_{i}_WCTF)
            picture_{i + 1}_WCTF = Relu(sum_{i}_WCTF)
            """)


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

    def write_onnx(self, graph: Graph) -> None:
        """The same in ONNX: see `mm_ray.models.encoder`."""
        graph.add("length_0_W1 = Identity(length_W1)\nframes_WCTF = Unsqueeze(features_WTF, one_1)", channels_and_bins=[1, 3])
        _write_conv(graph, "stem_WCTF", "frames_WCTF", self.stem)
        is_step = _write_halved_lengths(graph, 0, "stem_WCTF")
        self.stem_norm.write_onnx(graph, "stem_normed_WCTF", "stem_WCTF", is_step)
        graph.add("picture_1_WCTF = Relu(stem_normed_WCTF)")
        for i, block in enumerate(self.blocks, 1):
            assert isinstance(block, ResidualBlock)
            block.write_onnx(graph, i)
        last = len(self.blocks) + 1
        graph.add(
            f"""
            steps_WTCF = Transpose <perm = [0, 2, 1, 3]> (picture_{last}_WCTF)
            steps_WTX = Reshape(steps_WTCF, steps_shape)
            """,
            steps_shape=[0, 0, self.output.in_features],
        )
        graph.add_linear("output_WTH", "steps_WTX", array(self.output.weight), array(self.output.bias))
        graph.add("encoded_WTH = Relu(output_WTH)")
        graph.add_is_step("is_step_WT", "encoded_WTH", 1, f"length_{last}_W1")
        graph.add("is_step_WT1 = Unsqueeze(is_step_WT, two_1)")


def _write_conv(graph: Graph, name: str, values: str, conv: nn.Conv2d) -> None:
    strides, pads, weight = list(conv.stride), [*conv.padding, *conv.padding], f"{name}_weight"
    graph.add(f"{name} = Conv <strides = {strides}, pads = {pads}> ({values}, {weight})", **{weight: array(conv.weight)})


def _write_halved_lengths(graph: Graph, i: int, values_WCTF: str) -> str:
    """`length_{i + 1}_W1`, and the name of the mask (W, 1, T, 1) of the steps within it."""
    graph.add(f"more_{i}_W1 = Add(length_{i}_W1, one_1)\nlength_{i + 1}_W1 = Div(more_{i}_W1, two_1)")
    graph.add_is_step(f"is_step_{i}_WT", values_WCTF, 2, f"length_{i + 1}_W1")
    graph.add(f"is_step_{i}_W1T1 = Unsqueeze(is_step_{i}_WT, step_axes_{i})", **{f"step_axes_{i}": [1, 3]})
    return f"is_step_{i}_W1T1"


build = ResNet
