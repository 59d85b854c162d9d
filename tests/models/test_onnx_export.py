"""The ONNX file of a student gives the logits of its network."""

import json
from dataclasses import asdict

import numpy as np
import onnxruntime
import pytest
import torch
from fed.tiny import tiny_config

from mm_ray.models.network import PARTS, init_part
from mm_ray.models.onnx_export import write_onnx
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
    session = session_of(student, tmp_path)
    rng = np.random.default_rng(1)
    audio_BTF = rng.standard_normal((len(lengths), max(lengths), SHAPES.audio_bins)).astype(np.float32)
    lengths_B = np.array(lengths)
    logits_BC = logits_of(session, audio_BTF, lengths)
    batch = Batch(torch.from_numpy(audio_BTF), torch.from_numpy(lengths_B), None, None, torch.zeros(1), np.zeros(1, int))
    with torch.inference_mode():
        expected_BC = student.network(batch).logits_BC.numpy()
    assert logits_BC.shape == (len(lengths), 4)
    np.testing.assert_allclose(logits_BC, expected_BC, atol=1e-5)


def session_of(student, folder):
    write_onnx(student, folder / "student.onnx")
    return onnxruntime.InferenceSession(str(folder / "student.onnx"))


def logits_of(session, audio_BTF, lengths):
    return session.run(None, {"audio": audio_BTF, "lengths": np.array(lengths)})[0]


GARBAGE = {
    "ones": lambda rng, shape: np.ones(shape),
    "noise": lambda rng, shape: 100 * rng.standard_normal(shape),
    "nan": lambda rng, shape: np.full(shape, np.nan),
    "inf": lambda rng, shape: np.full(shape, -np.inf),
}


@pytest.mark.parametrize("lengths", [[20, 40, 1], [39, 7, 0]])
@pytest.mark.parametrize("garbage", GARBAGE)
def test_what_lies_behind_the_lengths_moves_no_bit(student, tmp_path, garbage, lengths):
    rng = np.random.default_rng(2)
    padded_BTF = rng.standard_normal((3, 40, SHAPES.audio_bins)).astype(np.float32)
    filled_BTF = padded_BTF.copy()
    for clip, length in enumerate(lengths):
        padded_BTF[clip, length:] = 0
        filled_BTF[clip, length:] = GARBAGE[garbage](rng, filled_BTF[clip, length:].shape)
    session = session_of(student, tmp_path)
    expected_BC = logits_of(session, padded_BTF, lengths)
    assert logits_of(session, filled_BTF, lengths).tobytes() == expected_BC.tobytes()
    for clip, length in enumerate(lengths):
        alone_BTF = padded_BTF[clip : clip + 1, : max(length, 1)]
        np.testing.assert_allclose(logits_of(session, alone_BTF, [length])[0], expected_BC[clip], atol=1e-5)


def test_a_clip_of_length_0_is_one_frame_of_zeros(student, tmp_path):
    session = session_of(student, tmp_path)
    noise_BTF = np.ones((1, 9, SHAPES.audio_bins), np.float32)
    nothing_BC, silence_BC = logits_of(session, noise_BTF, [0]), logits_of(session, 0 * noise_BTF, [1])
    assert np.isfinite(nothing_BC).all()
    assert nothing_BC.tobytes() == silence_BC.tobytes()


def test_the_file_says_what_it_needs(student, tmp_path):
    notes = session_of(student, tmp_path).get_modelmeta().custom_metadata_map
    assert json.loads(notes["class_names"]) == [*NAMES]
    assert json.loads(notes["features"]) == asdict(student.features)
