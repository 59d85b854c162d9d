"""The networks and their parts. A network's last part makes its prediction.

| network | parts | reads |
|---|---|---|
| `audio` | `audio.encoder`, `audio.head` | audio |
| `video` | `video.encoder`, `video.head` | video |
| `av` | `audio.encoder`, `video.encoder`, `fusion` | both, concatenated in time |
| `cmi` | the parts of all three, and for each modality a second head, `audio.imitation` and `video.imitation` (FedCMI) | both |

`model.audio_encoder` and `model.video_encoder` name the encoders (`mm_ray.models.encoder`).
"""

import math
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn

from mm_ray.config import MODALITIES, ModelConfig, flatten
from mm_ray.errors import bad_value
from mm_ray.models.encoder import build_encoder, output_size, shipped_name
from mm_ray.models.layers import AttentionPool, Head, MeanPool, Output, Sequence
from mm_ray.types import Batch, Shapes

PARTS = {
    "audio": ("audio.encoder", "audio.head"),
    "video": ("video.encoder", "video.head"),
    "av": ("audio.encoder", "video.encoder", "fusion"),
    "cmi": (
        "audio.encoder",
        "video.encoder",
        "audio.head",
        "audio.imitation",
        "video.head",
        "video.imitation",
        "fusion",
    ),
}
MOST_PARAMETERS = 1_000_000_000
"""Of one part: 4 GB, of which a client's training holds about four."""
READS = {"audio": ("audio",), "video": ("video",), "av": ("audio", "video"), "cmi": ("audio", "video")}


def build_part(part: str, model: ModelConfig, shapes: Shapes, seed: int = 0) -> nn.Module:
    """The module of a part, uninitialised; `seed` is that of your own encoder's own parameters.

    Raises:
        UserError: The encoder that the config names cannot be used.

    """
    modality, _, kind = part.rpartition(".")
    if kind == "encoder":
        return build_encoder(modality, model, shapes.features(modality), seed)
    return _head(model, shapes, output_size(modality or "audio", model, shapes), attention=_attends(modality, model))


def pooled_size(network: str, model: ModelConfig, shapes: Shapes) -> int:
    """Size of the pooled representation that a network's classifier sees."""
    return output_size(READS[network][0], model, shapes) * (model.attention_heads if _attends(network, model) else 1)


def _attends(network: str, model: ModelConfig) -> bool:
    """Whether a network pools by attention; all but the audio network always do."""
    return network != "audio" or model.audio_pooling == "attention"


def _head(model: ModelConfig, shapes: Shapes, encoded_size: int, attention: bool) -> Head:
    size, heads = model.attention_size, model.attention_heads
    pool = AttentionPool(encoded_size, size, heads) if attention else MeanPool()
    pooled_size = encoded_size * (heads if attention else 1)
    return Head(pool, pooled_size, model.classifier_hidden, shapes.num_classes, model.dropout)


class Network(nn.Module):
    """One of the networks, as its parts in order."""

    def __init__(self, name: str, model: ModelConfig, shapes: Shapes) -> None:
        super().__init__()
        self.name = name
        self.parts = nn.ModuleDict({_key(part): build_part(part, model, shapes) for part in PARTS[name]})

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Output:
        """Logits (B, C) and pooled features of a batch; with a generator in training mode, without in evaluation mode."""
        sequences: dict[str, Sequence] = {
            modality: self.parts[_key(f"{modality}.encoder")](*batch.of(modality), generator) for modality in READS[self.name]
        }
        *others, last = (part for part in PARTS[self.name] if not part.endswith(".encoder"))
        heads = {part: self._head(part, sequences[part.partition(".")[0]], generator) for part in others}
        output = self._head(last, _joined(list(sequences.values())), generator)
        return output._replace(heads={part: its.logits_BC for part, its in heads.items()}, sequences=sequences)

    def _head(self, part: str, sequence: Sequence, generator: torch.Generator | None) -> Output:
        output: Output = self.parts[_key(part)](sequence, generator)
        return output


def _joined(sequences: list[Sequence]) -> Sequence:
    return Sequence(torch.cat([s.values_BTH for s in sequences], 1), torch.cat([s.mask_BT for s in sequences], 1))


def _key(part: str) -> str:
    return part.replace(".", "_")  # a module's name holds no dot


def part_of(network: Network, part: str) -> nn.Module:
    """The module of a part."""
    return network.parts[_key(part)]


@lru_cache(maxsize=256)
def part_size(part: str, model: ModelConfig, shapes: Shapes) -> int:
    """Number of parameters of a part."""
    with torch.device("meta"):
        return sum(p.numel() for p in build_part(part, model, shapes).parameters())


def check_sizes(model: ModelConfig, shapes: Shapes) -> None:
    """Refuse settings that make a part too large to be trained.

    Raises:
        UserError: It names the largest of the settings; or an encoder cannot be built.

    """
    modalities = [modality for modality in MODALITIES if shapes.features(modality)]
    for part in (
        *(f"{modality}.encoder" for modality in modalities),
        *(f"{modality}.head" for modality in modalities),
        "fusion",
    ):
        if (size := part_size(part, model, shapes)) > MOST_PARAMETERS:
            sizes = _sizes(part, model)
            name = max(sizes, key=lambda name: np.max(sizes[name]))
            text = ",".join(map(str, np.atleast_1d(sizes[name])))
            raise bad_value(
                f"model.{name}", text, f"gives {part} {size:,} parameters; at most {MOST_PARAMETERS:,} can be trained"
            )


def _sizes(part: str, model: ModelConfig) -> dict[str, Any]:
    """The settings on which a part's size depends, by their names below `model`."""
    modality, _, kind = part.rpartition(".")
    fields = flatten(asdict(model))
    if kind != "encoder":
        return {name: fields[name] for name in ("hidden", "attention_size", "attention_heads", "classifier_hidden")}
    encoder = shipped_name(model.encoder(modality))
    own = [name for name in fields if name.startswith(f"{encoder}.") or (name == "conv_channels" and encoder == "conv_gru")]
    return {name: fields[name] for name in ("hidden", *own)}


@lru_cache(maxsize=256)
def networks_size(networks: tuple[str, ...], model: ModelConfig, shapes: Shapes) -> int:
    """Number of parameters of some networks together; parts that they share count once."""
    return sum(part_size(part, model, shapes) for part in {part for network in networks for part in PARTS[network]})


def init_part(part: str, model: ModelConfig, shapes: Shapes, generator: torch.Generator) -> np.ndarray:
    """Fresh parameters of a part as one flat float32 vector, drawn from the generator and not from the global RNG.

    Convolutions and linear layers: He uniform, +-sqrt(6 / fan_in), biases zero; recurrent layers: uniform +-1/sqrt(hidden), as
    torch; attention's projections: Glorot uniform; LayerNorm and GroupNorm: weight one, bias zero. What else your own encoder
    has keeps the value of its constructor. With torch's smaller defaults the audio network sat at chance for its first 30
    rounds (docs/decisions.md).
    """
    own = part.endswith(".encoder") and not shipped_name(model.encoder(part.partition(".")[0]))
    seed = int(torch.randint(2**31, (), generator=generator)) if own else 0
    with torch.device("meta"):
        module = build_part(part, model, shapes, seed)
    pieces = [
        _initial(submodule, name, tensor, generator)
        for submodule in module.modules()
        for name, tensor in submodule.named_parameters(recurse=False)
    ]
    return torch.cat(pieces).numpy()


def _initial(module: nn.Module, name: str, tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A parameter's first values, flat."""
    match module:
        case nn.RNNBase():
            bound = 1 / math.sqrt(module.hidden_size)
        case nn.Linear() | nn.modules.conv._ConvNd():
            bound = 0.0 if name == "bias" else math.sqrt(6 / tensor[0].numel())
        case nn.MultiheadAttention():
            bound = 0.0 if "bias" in name else math.sqrt(6 / (module.embed_dim + tensor.shape[1]))
        case nn.LayerNorm() | nn.GroupNorm():
            return torch.full((tensor.numel(),), float(name == "weight"))
        case _:
            return tensor.detach().float().flatten()
    return torch.empty(tensor.numel()).uniform_(-bound, bound, generator=generator)
