"""Encoders: what turns the frames of one modality into a sequence that is pooled and classified.

An encoder is a module with `build(features, model)`: the numbers per frame and the `ModelConfig` in, a `torch.nn.Module` out,
with

- `forward(values_BTF, lengths_B, generator)`, which gives a `Sequence`: values (B, steps, H) and the mask of the steps that are
  real. What lies behind a clip's length changes no bit (`mm_ray.models.layers.within`); dropout draws from the generator
  (`mm_ray.models.dropout`), without one it is off. A clip of length 0 is one step of zeros.
- `output_size`, H.
- if it does not read both modalities, `reads`, such as `("audio",)`.
- if it can be exported, `write_onnx(graph)`: lines that take `features_WTF` (W windows, zeros behind their lengths) and the
  lengths `length_W1`, and give `encoded_WTH` and which of its steps are real, `is_step_WT1`.

`mm_ray.models.encoders` holds them. `mm_ray.models.batched.encoders` holds, under the same names, their forms for K clients at
once; clients with any other encoder are trained one by one. `mm_ray.testing.check_encoder` checks one of yours.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from mm_ray.config import MODALITIES, ModelConfig
from mm_ray.errors import bad_value
from mm_ray.plugins import code_digest, in_user_code, modules_in, resolve
from mm_ray.types import Shapes

ENCODERS = "mm_ray.models.encoders"
BATCHED = "mm_ray.models.batched.encoders"
DEFAULTS = {modality: ModelConfig().encoder(modality) for modality in MODALITIES}


def find_encoder(modality: str, model: ModelConfig) -> Any:
    """The module of a modality's encoder: something with `build`.

    Raises:
        UserError: An unknown name, or code that does not import.

    """
    return resolve(_field(modality), model.encoder(modality), ENCODERS, "build")


def build_encoder(modality: str, model: ModelConfig, features: int, seed: int = 0) -> nn.Module:
    """A modality's encoder. Yours is built on the CPU also where the caller builds without memory (`torch.device("meta")`),
    since it may hold constants; what its constructor draws comes from torch's own generator, started from the seed.

    Raises:
        UserError: There is none of that name, it cannot be built, or it does not fit federated learning.

    """
    name, field = model.encoder(modality), _field(modality)
    build = find_encoder(modality, model).build
    _check_reads(build, modality, name)  # before it looks at the other modality's numbers
    if shipped_name(name):
        encoder: nn.Module = build(features, model)
    else:
        with torch.device("cpu"), _random_numbers_from(seed):
            encoder = in_user_code(field, name, "cannot be built", lambda: build(features, model))
        if objection := objection_to(encoder):
            raise bad_value(field, name, objection)
    _check_reads(encoder, modality, name)
    return encoder


def _check_reads(encoder: Any, modality: str, name: str) -> None:
    reads = getattr(encoder, "reads", MODALITIES)
    if modality not in reads:
        others = ", ".join(_reading(modality, name))
        raise bad_value(_field(modality), name, f"reads {' and '.join(reads)} only; others: {others}")


def objection_to(encoder: Any) -> str:
    """Why a module cannot be an encoder, with the remedy; empty if it can."""
    if not isinstance(encoder, nn.Module):
        return f"build gives a {type(encoder).__name__}; it must give a torch.nn.Module"
    if not isinstance(getattr(encoder, "output_size", None), int):
        return "has no output_size; set it to the size of a step's output"
    if not any(parameter.numel() for parameter in encoder.parameters()):
        return "has no parameters, so nothing is learned; give it a layer, or compute this as features (--data.features)"
    for module in encoder.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            why = "its running statistics are no parameters, so they are not averaged, and clients' batches differ"
            return f"has BatchNorm: {why}; use GroupNorm or LayerNorm"
        drops = isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0
        if drops or (isinstance(module, nn.RNNBase | nn.MultiheadAttention) and module.dropout > 0):
            return "has torch's dropout, whose draws cannot be repeated; use mm_ray.models.dropout.dropout with the generator"
    names = [name for name, _ in encoder.named_parameters(remove_duplicate=False)]
    if len(names) > len(list(encoder.parameters())):
        return "uses a parameter in two modules; give each its own"
    return ""


def output_size(modality: str, model: ModelConfig, shapes: Shapes) -> int:
    """Size of a step of a modality's encoded sequence (H)."""
    return _output_size(modality, model, shapes.features(modality))


@lru_cache(maxsize=64)
def _output_size(modality: str, model: ModelConfig, features: int) -> int:
    with torch.device("meta"):
        return int(build_encoder(modality, model, features).output_size)  # type: ignore[arg-type]


def check_reading(model: ModelConfig) -> None:
    """Refuse an encoder that does not read its modality: before the data is read (UserError)."""
    for modality in MODALITIES:
        _check_reads(find_encoder(modality, model).build, modality, model.encoder(modality))


def check_encoders(model: ModelConfig, shapes: Shapes) -> None:
    """Build the encoder of each modality that the data has.

    Raises:
        UserError: One cannot be used, or their outputs cannot be joined.

    """
    sizes = {modality: output_size(modality, model, shapes) for modality in MODALITIES if shapes.features(modality)}
    if len(set(sizes.values())) > 1:
        (_, wanted), (modality, size) = sizes.items()
        why = f"gives {size} numbers per step, --{_field('audio')} {model.audio_encoder} {wanted}"
        raise bad_value(_field(modality), model.encoder(modality), f"{why}; the fusion needs equal sizes")


def model_settings(model: ModelConfig) -> dict[str, Any]:
    """What a network depends on, for a phase's key: the default encoders and the settings of encoders that are not used do not
    enter; the source of your own does.
    """
    names = {modality: shipped_name(model.encoder(modality)) or model.encoder(modality) for modality in MODALITIES}
    used = {shipped_name(name) for name in names.values()}
    fields = asdict(model) | {f"{modality}_encoder": name for modality, name in names.items()}
    of_one_encoder = {name: name for name, value in fields.items() if isinstance(value, dict)} | {"conv_channels": "conv_gru"}
    unused = set() if "" in used else {name for name, encoder in of_one_encoder.items() if encoder not in used}
    unused |= {f"{modality}_encoder" for modality, name in names.items() if name == DEFAULTS[modality]}
    content = {name: value for name, value in fields.items() if name not in unused}
    codes = {m: code_digest(find_encoder(m, model)) for m in MODALITIES}
    return content | ({"encoder_code": own} if (own := {m: code for m, code in codes.items() if code}) else {})


def shipped_name(name: str) -> str:
    """The module of this package that an encoder's name means; empty for your own."""
    short = name.replace("-", "_")
    return short if short in modules_in(ENCODERS) else ""


def batched_encoder(name: str) -> str:
    """The module that trains an encoder for several clients at once; empty if there is none."""
    short = shipped_name(name)
    return f"{BATCHED}.{short}" if short and short in modules_in(BATCHED) else ""


def exporting() -> list[str]:
    """The names of the encoders that can be written as ONNX."""
    return [name for name in modules_in(ENCODERS) if hasattr(resolve("", name, ENCODERS).build, "write_onnx")]


def _reading(modality: str, but: str) -> list[str]:
    names = [name for name in modules_in(ENCODERS) if name != shipped_name(but)]
    return [name for name in names if modality in getattr(resolve("", name, ENCODERS).build, "reads", MODALITIES)]


def _field(modality: str) -> str:
    return f"model.{modality}_encoder"


@contextlib.contextmanager
def _random_numbers_from(seed: int) -> Iterator[None]:
    """Torch's own generator starts from a seed, and is afterwards as it was."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)
