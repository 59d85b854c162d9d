"""A trained student for use from Python: recordings in, labels and probabilities out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mm_ray.config import FeatureConfig
from mm_ray.data.windows import windows_in_frames
from mm_ray.errors import UserError
from mm_ray.evaluate.windows import predict_blocks
from mm_ray.models.student import Student, load_student
from mm_ray.prediction import HeardWindows, predict_file, windows_of

FILE = "student.safetensors"


@dataclass(frozen=True)
class Prediction:
    """A student's output for one recording: the mean over its windows."""

    label: str
    probability: float
    """Of the label."""
    probabilities: Mapping[str, float]
    """By label; they sum to 1."""
    windows: "tuple[WindowPrediction, ...]"
    """The windows in their order; a short recording has one."""


@dataclass(frozen=True)
class WindowPrediction:
    """A student's output for one window of a recording."""

    start_s: float
    """Begin, seconds; of an array of features, frames."""
    end_s: float
    """End, in the same unit."""
    label: str
    probability: float
    """Of the label."""
    probabilities: Mapping[str, float]
    """By label; they sum to 1."""


@dataclass(frozen=True)
class AudioClassifier:
    """A student, ready to predict: `mm_ray.load_student(folder)` gives it."""

    student: Student

    @classmethod
    def load(cls, place: str | Path, encoder: str = "", features: str = "", device: str = "auto") -> "AudioClassifier":
        """Read a student.

        Args:
            place: A run's folder, or its `student.safetensors`.
            encoder: The student's encoder, if it is your own (`mine.py:thing`): its code runs.
            features: The student's audio features, if they are your own: their code runs.
            device: `cpu`, `cuda`, or `auto`, which is `cuda` where torch finds a GPU.

        Raises:
            UserError: There is none, it is damaged, or there is no GPU.

        """
        path = Path(place).expanduser()
        return cls(load_student(path / FILE if path.is_dir() else path, encoder, features, device))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The labels, in the order of the network's outputs."""
        return self.student.class_names

    @property
    def features(self) -> FeatureConfig:
        """How a recording becomes features."""
        return self.student.features

    def predict(self, recording: str | Path | np.ndarray, sample_rate: int | None = None) -> Prediction:
        """The label of a recording of any length: a long one is cut into windows, whose probabilities are averaged.

        Args:
            recording: A file that FFmpeg reads, or samples: (N,), or (channels, N), floats in [-1, 1] or integers.
            sample_rate: Of the samples, Hz; a file has its own.

        Raises:
            UserError: The file is no recording, or the samples are too short, not finite, or without a rate.

        """
        if isinstance(recording, str | Path):
            heard = predict_file(self.student, str(recording), windows_of(self.student, None, None))
        elif not sample_rate:
            raise UserError("sample_rate: samples do not say how many of them make a second; give it, such as 16000")
        else:
            windows, name = windows_in_frames(self.features), "these samples"
            found = predict_blocks(self.student, [_mono(recording)], sample_rate, windows, name)
            heard = HeardWindows(name, self.class_names, *found)
        parts = [WindowPrediction(**_without_file(window)) for window in heard.windows_to_json()]
        return Prediction(**_without_file(heard.to_json()), windows=tuple(parts))


def _without_file(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "file"}


def _mono(samples: np.ndarray) -> np.ndarray:
    """Samples as (N,) float32 in [-1, 1], the mean of the channels."""
    values = np.asarray(samples)
    if np.issubdtype(values.dtype, np.integer):
        values = values / -float(np.iinfo(values.dtype).min)
    if values.ndim == 2:
        values = values.mean(0)
    if values.ndim != 1:
        raise UserError(f"these samples have the shape {values.shape}; give (N,) or (channels, N)")
    return values.astype(np.float32)
