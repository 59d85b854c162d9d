"""The student's files: `student.safetensors` (tensors by name) and `student.json` (enough to predict)."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from mm_ray.config import FeatureConfig, ModelConfig, flatten, read_names, with_overrides
from mm_ray.data.audio_features import find_function
from mm_ray.devices import find_device
from mm_ray.errors import bad_value, in_one_line
from mm_ray.models.encoder import shipped_name
from mm_ray.models.flat_params import named_tensors
from mm_ray.models.network import Network, part_of
from mm_ray.storage import write_bytes, write_text
from mm_ray.types import Arrays, Shapes


class _OwnCode(Exception):
    """The student needs code that is no part of this package; what it is, its name, and the flag that gives it."""


@dataclass(frozen=True)
class Student:
    """A loaded student: the audio network in evaluation mode, its labels and its feature settings."""

    network: Network
    model: ModelConfig
    class_names: tuple[str, ...]
    features: FeatureConfig
    audio_bins: int
    """Numbers an audio frame (F)."""

    @property
    def device(self) -> torch.device:
        """Where the network predicts."""
        return next(self.network.parameters()).device


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


def load_student(path: Path, encoder: str = "", own_features: str = "", device: str = "cpu") -> Student:
    """Read a student; the files can make no code run.

    Args:
        path: `student.safetensors`; `student.json` lies beside it.
        encoder: The student's encoder, if that is no part of this package: its code runs.
        own_features: Its audio features (`mine.py:thing`), if they are no part of this package: their code runs.
        device: Where it predicts: `cpu`, `cuda`, or `auto`, which is `cuda` where torch finds a GPU.

    Raises:
        UserError: A file is missing or is not a student, its encoder or features are code that was not given, or there is no
            such device.

    """
    found = find_device(device)
    with _names_broken(path):
        description = _description(path)
        model = with_overrides(ModelConfig(), flatten(description["model"]))
        if not shipped_name(model.audio_encoder):
            if not encoder:
                raise _OwnCode("encoder", model.audio_encoder, "encoder")
            model = replace(model, audio_encoder=encoder)
        names, features = _names(description), _features(description)
        if features.is_own_audio and not own_features:
            raise _OwnCode("audio feature", features.audio, "features")
        shapes = Shapes(**description["shapes"])
        with torch.device("meta"):  # sizes that the tensors do not have cost no memory
            network = Network("audio", model, shapes)
        _fill(network, load_file(path))
    if features.is_own_audio:
        find_function(own_features, "features")
        features = replace(features, audio=own_features)
    return Student(network.to(found), model, names, features, shapes.audio_bins)


def stored_features(path: Path) -> FeatureConfig:
    """How a student's recordings become features; nothing else of it is read (UserError: as `load_student`)."""
    with _names_broken(path):
        return _features(_description(path))


def _description(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    return content


@contextmanager
def _names_broken(path: Path) -> Iterator[None]:
    """Name the student that something inside cannot be read from (UserError)."""
    try:
        yield
    except _OwnCode as error:
        what, name, flag = error.args
        remedy = f"its {what} {name} is code of its own; give it with --{flag} {name} ({flag}= in Python), if you trust it"
        raise bad_value("STUDENT", path, remedy) from None
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
    if features.audio == "log_mel" and features.num_mels != description["shapes"]["audio_bins"]:
        raise ValueError(f"{features.num_mels} mels for a network of {description['shapes']['audio_bins']}")
    return features


def _fill(network: Network, tensors: dict[str, torch.Tensor]) -> None:
    for part in ("audio.encoder", "audio.head"):
        module = part_of(network, part)
        own = {name: tensors[f"{part}.{name}"].to(torch.float32, copy=True) for name, _ in module.named_parameters()}
        if broken := [name for name, tensor in own.items() if not tensor.isfinite().all()]:
            raise ValueError(f"{part}.{broken[0]} holds numbers that are not finite")
        module.load_state_dict(own, assign=True, strict=False)  # constants of an own encoder are not in the file
