"""A student as an ONNX file, for programs without torch."""

import json
import warnings
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
import torch

from mm_ray.models.student import Student
from mm_ray.storage import write_bytes
from mm_ray.types import Batch

OPSET = 17
EXAMPLE_FRAMES = 40


def write_onnx(student: Student, path: Path) -> None:
    """Write the student's network: `audio` (B, T, F) float32 and `lengths` (B,) int64 in, `logits` (B, C) float32 out.

    B and T are free, T at least 1; what lies behind a clip's length does not matter, and a length of 0 gives the logits of one
    frame of zeros. The label names and the feature settings are in the
    file's metadata (`class_names`, `features`), as JSON.
    """
    import onnx  # two seconds, which only an export waits for

    model = onnx.load_from_string(_traced(student))
    notes = {"class_names": json.dumps(student.class_names), "features": json.dumps(vars(student.features))}
    onnx.helper.set_model_props(model, notes)
    onnx.checker.check_model(model)
    write_bytes(path, model.SerializeToString())


def _traced(student: Student) -> bytes:
    lengths_B = torch.tensor([EXAMPLE_FRAMES, EXAMPLE_FRAMES // 2])
    example = torch.zeros(2, EXAMPLE_FRAMES, student.audio_bins), lengths_B
    with NamedTemporaryFile(suffix=".onnx") as file, warnings.catch_warnings():
        # The exporter by tracing is deprecated for the one by torch.export, which fixes T for a GRU (torch 2.14).
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Logits(student.network),
            example,
            file.name,
            input_names=["audio", "lengths"],
            output_names=["logits"],
            dynamic_axes={"audio": {0: "B", 1: "T"}, "lengths": {0: "B"}, "logits": {0: "B"}},
            opset_version=OPSET,
            dynamo=False,
        )
        return file.read()


class _Logits(torch.nn.Module):
    """The network with tensors in and out."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network.eval()

    def forward(self, audio_BTF: torch.Tensor, lengths_B: torch.Tensor) -> torch.Tensor:
        nobody = torch.zeros(1, dtype=torch.long)
        batch = Batch(audio_BTF, lengths_B, None, None, nobody, np.zeros(1, int))
        logits_BC: torch.Tensor = self.network(batch).logits_BC
        return logits_BC
