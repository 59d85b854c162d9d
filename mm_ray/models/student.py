"""The student's files: `student.safetensors` (tensors by name) and `student.json` (enough to predict)."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from mm_ray.config import PRECOMPUTED, FeatureConfig, ModelConfig, read_names
from mm_ray.errors import bad_value, in_one_line
from mm_ray.models.flat_params import named_tensors
from mm_ray.models.network import Network, part_of
from mm_ray.storage import write_bytes, write_text
from mm_ray.types import Arrays, Shapes


@dataclass(frozen=True)
class Student:
    """A loaded student: the audio network in evaluation mode, its labels and its feature settings."""

    network: Network
    class_names: tuple[str, ...]
    features: FeatureConfig
    audio_bins: int
    """Numbers an audio frame (F)."""


def save_student(
    folder: Path, params: Arrays, model: ModelConfig, shapes: Shapes, class_names: tuple[str, ...], features: FeatureConfig
) -> Path:
    """Write both files; returns the path of the safetensors file."""
    path = folder / "student.safetensors"
    description = {
        "class_names": list(class_names),
        "features": asdict(features),
        "model": asdict(model),
        "shapes": asdict(shapes),
    }
    write_bytes(path, save(named_tensors("audio", params, model, shapes)))
    write_text(path.with_suffix(".json"), json.dumps(description, indent=2))
    return path


def load_student(path: Path) -> Student:
    """Read a student; no code in the files is run.

    Raises:
        UserError: A file is missing or is not a student.

    """
    try:
        description: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
        model = ModelConfig(**description["model"] | {"conv_channels": tuple(description["model"]["conv_channels"])})
        names, features = _names(description), _features(description)
        shapes = Shapes(**description["shapes"])
        with torch.device("meta"):  # sizes that the tensors do not have cost no memory
            network = Network("audio", model, shapes)
        _fill(network, load_file(path))
        return Student(network, names, features, shapes.audio_bins)
    except FileNotFoundError as error:
        raise bad_value("STUDENT", path, f"no such file ({error.filename}); give a run's student.safetensors") from error
    # RuntimeError: a tensor of another shape, or JSON that is nested too deep
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        reason = in_one_line(error)
        raise bad_value("STUDENT", path, f"is not a student ({reason}); give a run's student.safetensors") from error


def _names(description: dict[str, Any]) -> tuple[str, ...]:
    names, wanted = read_names(description["class_names"]), description["shapes"]["num_classes"]
    if len(names) != wanted:
        raise ValueError(f"{len(names)} class names for {wanted} classes")
    return names


def _features(description: dict[str, Any]) -> FeatureConfig:
    features = FeatureConfig(**description["features"])
    if features.audio != PRECOMPUTED and features.num_mels != description["shapes"]["audio_bins"]:
        raise ValueError(f"{features.num_mels} mels for a network of {description['shapes']['audio_bins']}")
    return features


def _fill(network: Network, tensors: dict[str, torch.Tensor]) -> None:
    for part in ("audio.encoder", "audio.head"):
        module = part_of(network, part)
        own = {name: tensors[f"{part}.{name}"].to(torch.float32, copy=True) for name, _ in module.named_parameters()}
        if broken := [name for name, tensor in own.items() if not tensor.isfinite().all()]:
            raise ValueError(f"{part}.{broken[0]} holds numbers that are not finite")
        module.load_state_dict(own, assign=True)
