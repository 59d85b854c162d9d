"""The ONNX file of a student gives the logits of its network."""

import json
from dataclasses import asdict

import numpy as np
import onnxruntime
import pytest
import torch
from fed.tiny import tiny_config

from mm_ray.models.network import PARTS, init_part
from mm_ray.models.onnx_file import write_onnx
from mm_ray.models.student import load_student, save_student
from mm_ray.types import Batch, Shapes

SHAPES = Shapes(audio_bins=20, video_features=0, num_classes=4)
NAMES = ("a", "b", "c", "d")


@pytest.fixture(params=["mean", "attention"])
def student(request, tmp_path):
    config = tiny_config({"model.audio_pooling": request.param})
    generator = torch.Generator().manual_seed(0)
    params = {part: init_part(part, config.model, SHAPES, generator) for part in PARTS["audio"]}
    return load_student(save_student(tmp_path, params, config.model, SHAPES, NAMES, config.data.features))


@pytest.mark.parametrize("lengths", [[40, 20], [1], [173, 16, 90]])
def test_onnx_runtime_gives_the_same_logits(student, tmp_path, lengths):
    write_onnx(student, tmp_path / "student.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "student.onnx"))
    rng = np.random.default_rng(1)
    audio_BTF = rng.standard_normal((len(lengths), max(lengths), SHAPES.audio_bins)).astype(np.float32)
    lengths_B = np.array(lengths)
    (logits_BC,) = session.run(None, {"audio": audio_BTF, "lengths": lengths_B})
    batch = Batch(torch.from_numpy(audio_BTF), torch.from_numpy(lengths_B), None, None, torch.zeros(1), np.zeros(1, int))
    with torch.inference_mode():
        expected_BC = student.network(batch).logits_BC.numpy()
    assert logits_BC.shape == (len(lengths), 4)
    np.testing.assert_allclose(logits_BC, expected_BC, atol=1e-5)


def test_the_file_says_what_it_needs(student, tmp_path):
    write_onnx(student, tmp_path / "student.onnx")
    notes = onnxruntime.InferenceSession(str(tmp_path / "student.onnx")).get_modelmeta().custom_metadata_map
    assert json.loads(notes["class_names"]) == [*NAMES]
    assert json.loads(notes["features"]) == asdict(student.features)
