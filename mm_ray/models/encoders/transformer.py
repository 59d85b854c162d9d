"""A small transformer over patches of frames: (B, T, F) -> (B, ceil(T/P), H).

Blocks with LayerNorm in front (Xiong et al. 2020, arXiv:2002.04745), positions as in Vaswani et al. 2017. LayerNorm keeps no
running statistics, so nothing but parameters is averaged.

Shapes: B batch, T frames, F features per frame, P frames per patch, S steps, H hidden, A heads, D = H / A; in ONNX W windows.
"""

import math

import torch
from torch import Tensor, nn

from mm_ray.config import ModelConfig
from mm_ray.errors import bad_value
from mm_ray.models.dropout import dropout
from mm_ray.models.layers import Sequence, length_mask, within
from mm_ray.models.onnx_graph import Graph, array

LONGEST_WAVE = 10_000.0


class TransformerBlock(nn.Module):
    """Self-attention over a clip's real steps, then a feed-forward network, each added to its input."""

    def __init__(self, hidden: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.feedforward_norm = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.queries_keys_values = nn.Linear(hidden, 3 * hidden)
        self.attended = nn.Linear(hidden, hidden)
        self.wide, self.narrow = nn.Linear(hidden, feedforward), nn.Linear(feedforward, hidden)

    def attention(self, x_BSH: Tensor, mask_BS: Tensor) -> Tensor:
        """What each step takes from the real steps: (B, S, H)."""
        sizes = (3, self.heads, x_BSH.shape[2] // self.heads)
        q_BASD, k_BASD, v_BASD = self.queries_keys_values(x_BSH).unflatten(2, sizes).permute(2, 0, 3, 1, 4)
        scores_BASS = q_BASD @ k_BASD.mT / math.sqrt(sizes[2])
        shares_BASS = scores_BASS.masked_fill(mask_BS[:, None, None] == 0, -torch.inf).softmax(3)
        attended: Tensor = self.attended((shares_BASS @ v_BASD).transpose(1, 2).flatten(2))
        return attended

    def forward(self, x_BSH: Tensor, mask_BS: Tensor, probability: float, generator: torch.Generator | None) -> Tensor:
        """The next block's input."""
        x_BSH = x_BSH + dropout(self.attention(self.attention_norm(x_BSH), mask_BS), probability, generator)
        wide_BSX = nn.functional.gelu(self.wide(self.feedforward_norm(x_BSH)))
        return x_BSH + dropout(self.narrow(wide_BSX), probability, generator)


class Transformer(nn.Module):
    """Patches, positions, blocks, LayerNorm."""

    def __init__(self, features: int, model: ModelConfig) -> None:
        super().__init__()
        settings = model.transformer
        if model.hidden % settings.heads or model.hidden % 2:
            why = f"must divide --model.hidden {model.hidden}, which must be even"
            raise bad_value("model.transformer.heads", settings.heads, why)
        self.patch_frames = settings.patch_frames
        self.patches = nn.Linear(features * self.patch_frames, model.hidden)
        self.blocks = nn.ModuleList(
            TransformerBlock(model.hidden, settings.heads, settings.feedforward) for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(model.hidden)
        self.output_size, self.dropout_probability = model.hidden, model.dropout

    def forward(self, values_BTF: Tensor, lengths_B: Tensor, generator: torch.Generator | None = None) -> Sequence:
        """Encode; a clip of t frames gets ceil(t/P) steps."""
        values_BTF, lengths_B = within(values_BTF, lengths_B)
        missing = -values_BTF.shape[1] % self.patch_frames
        patches_BSX = nn.functional.pad(values_BTF, (0, 0, 0, missing)).unflatten(1, (-1, self.patch_frames)).flatten(2)
        x_BSH = self.patches(patches_BSX) + positions(patches_BSX.shape[1], self.output_size, patches_BSX.device)
        x_BSH = dropout(x_BSH, self.dropout_probability, generator)
        mask_BS = length_mask((lengths_B + self.patch_frames - 1) // self.patch_frames, x_BSH.shape[1])
        for block in self.blocks:
            x_BSH = block(x_BSH, mask_BS, self.dropout_probability, generator)
        return Sequence(self.norm(x_BSH), mask_BS)

    def write_onnx(self, graph: Graph) -> None:
        """The same in ONNX: see `mm_ray.models.encoder`."""
        patch_size = self.patches.in_features
        graph.add(
            """
            frames_1 = Shape <start = 1, end = 2> (features_WTF)
            negative_1 = Neg(frames_1)
            missing_1 = Mod(negative_1, patch_frames_1)
            padding_6 = Concat <axis = 0> (zero_1, zero_1, zero_1, zero_1, missing_1, zero_1)
            whole_WTF = Pad(features_WTF, padding_6)
            patches_WSX = Reshape(whole_WTF, patches_shape)
            steps_1 = Shape <start = 1, end = 2> (patches_WSX)
            steps = Squeeze(steps_1)
            step_S = Range(zero, steps, one)
            step_float_S = Cast <to = 1> (step_S)
            step_S1 = Unsqueeze(step_float_S, one_1)
            angle_SX = Mul(step_S1, frequencies_X)
            sine_SX = Sin(angle_SX)
            cosine_SX = Cos(angle_SX)
            position_SH = Concat <axis = 1> (sine_SX, cosine_SX)
            more_length_W1 = Add(length_W1, patch_frames_less_1)
            step_length_W1 = Div(more_length_W1, patch_frames_1)
            """,
            patch_frames_1=[self.patch_frames],
            patch_frames_less_1=[self.patch_frames - 1],
            patches_shape=[0, -1, patch_size],
            frequencies_X=array(frequencies(self.output_size, torch.device("cpu"))),
        )
        graph.add_is_step("is_step_WT", "patches_WSX", 1, "step_length_W1")
        graph.add("is_step_WT1 = Unsqueeze(is_step_WT, two_1)")
        graph.add("is_key_W11S = Unsqueeze(is_step_WT, one_two_2)", one_two_2=[1, 2])
        graph.add_linear("patched_WSH", "patches_WSX", array(self.patches.weight), array(self.patches.bias))
        graph.add("block_0_WSH = Add(patched_WSH, position_SH)")
        for i, block in enumerate(self.blocks):
            assert isinstance(block, TransformerBlock)
            _write_block(graph, block, i, self.output_size)
        graph.add_layer_norm("encoded_WTH", f"block_{len(self.blocks)}_WSH", self.norm)


def frequencies(hidden: int, device: torch.device) -> Tensor:
    """Of the waves that tell positions apart, (H / 2,)."""
    return LONGEST_WAVE ** (-torch.arange(0, hidden, 2, device=device, dtype=torch.float32) / hidden)


def positions(num_steps: int, hidden: int, device: torch.device) -> Tensor:
    """(S, H): sines, then cosines."""
    angles = torch.arange(num_steps, device=device, dtype=torch.float32)[:, None] * frequencies(hidden, device)
    return torch.cat([angles.sin(), angles.cos()], 1)


def _write_block(graph: Graph, block: TransformerBlock, i: int, hidden: int) -> None:
    x, size = f"block_{i}_WSH", hidden // block.heads
    qkv = block.queries_keys_values
    graph.add_layer_norm(f"attention_input_{i}", x, block.attention_norm)
    graph.add_linear(f"qkv_{i}", f"attention_input_{i}", array(qkv.weight), array(qkv.bias))
    graph.add(
        f"""
        qkv_split_{i} = Reshape(qkv_{i}, qkv_shape_{i})
        qkv_ordered_{i} = Transpose <perm = [2, 0, 3, 1, 4]> (qkv_split_{i})
        queries_{i} = Gather(qkv_ordered_{i}, zero)
        keys_{i} = Gather(qkv_ordered_{i}, one)
        values_{i} = Gather(qkv_ordered_{i}, third_{i})
        keys_turned_{i} = Transpose <perm = [0, 1, 3, 2]> (keys_{i})
        products_{i} = MatMul(queries_{i}, keys_turned_{i})
        scores_{i} = Div(products_{i}, root_{i})
        own_scores_{i} = Where(is_key_W11S, scores_{i}, minus_infinity)
        shares_{i} = Softmax <axis = 3> (own_scores_{i})
        taken_{i} = MatMul(shares_{i}, values_{i})
        taken_turned_{i} = Transpose <perm = [0, 2, 1, 3]> (taken_{i})
        taken_flat_{i} = Reshape(taken_turned_{i}, hidden_shape_{i})
        """,
        **{f"qkv_shape_{i}": [0, 0, 3, block.heads, size], f"hidden_shape_{i}": [0, 0, hidden]},
        **{f"third_{i}": 2, f"root_{i}": math.sqrt(size)},
    )
    graph.add_linear(f"attended_{i}", f"taken_flat_{i}", array(block.attended.weight), array(block.attended.bias))
    graph.add(f"between_{i} = Add({x}, attended_{i})")
    graph.add_layer_norm(f"wide_input_{i}", f"between_{i}", block.feedforward_norm)
    graph.add_linear(f"wide_{i}", f"wide_input_{i}", array(block.wide.weight), array(block.wide.bias))
    graph.add(
        f"""
        wide_scaled_{i} = Div(wide_{i}, root_two_{i})
        wide_erf_{i} = Erf(wide_scaled_{i})
        wide_above_{i} = Add(wide_erf_{i}, one_float_{i})
        wide_twice_{i} = Mul(wide_{i}, wide_above_{i})
        wide_gelu_{i} = Mul(wide_twice_{i}, half_{i})
        """,
        **{f"root_two_{i}": math.sqrt(2), f"one_float_{i}": 1.0, f"half_{i}": 0.5},
    )
    graph.add_linear(f"narrow_{i}", f"wide_gelu_{i}", array(block.narrow.weight), array(block.narrow.bias))
    graph.add(f"block_{i + 1}_WSH = Add(between_{i}, narrow_{i})")


build = Transformer
