"""The ONNX file of a student, from waveform to label, gives what `mm_ray.predict` gives."""

import json
from dataclasses import asdict, replace

import numpy as np
import onnxruntime
import pytest
import torch
from fed.tiny import tiny_config

from mm_ray.config import PRECOMPUTED
from mm_ray.data.features.log_mel import audio_features
from mm_ray.evaluate.windows import predict_windows, window_probabilities
from mm_ray.models.encoder import exporting
from mm_ray.models.network import PARTS, init_part
from mm_ray.models.onnx_export import write_onnx
from mm_ray.models.student import load_student, save_student
from mm_ray.types import Batch, Shapes

SHAPES = Shapes(audio_bins=20, video_features=0, num_classes=4)
NAMES = ("a", "b", "c", "d")
RATE = 16_000
LENGTHS_S = (0.02, 0.03, 0.04, 0.06, 0.0799, 0.08, 0.12, 0.3, 0.5, 1.0, 2.5, 4.98, 5.0, 5.1, 9.99, 10.0, 12.3, 20.0, 33.3, 60.0)
"""Windows of the students below have 5 s."""


def saved(folder, pooling="mean", encoder="conv_gru", **features):
    fields = {"model.audio_pooling": pooling, "model.audio_encoder": encoder, "data.features.max_frames": 125}
    config = tiny_config(fields)
    generator = torch.Generator().manual_seed(0)
    params = {part: init_part(part, config.model, SHAPES, generator) for part in PARTS["audio"]}
    if encoder != "conv_gru":  # norms' weights are all one at first, and their biases zero
        params = {part: flat + 0.1 * torch.randn(flat.shape, generator=generator).numpy() for part, flat in params.items()}
    settings = replace(config.data.features, **features)
    return load_student(save_student(folder, params, config.model, SHAPES, NAMES, settings))


@pytest.fixture(scope="module", params=["mean", "attention"])
def student(request, tmp_path_factory):
    return saved(tmp_path_factory.mktemp("student"), request.param)


@pytest.fixture(scope="module")
def session(student, tmp_path_factory):
    return session_of(student, tmp_path_factory.mktemp("onnx"))


def session_of(student, folder):
    write_onnx(student, folder / "student.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(folder / "student.onnx"), options)


def recording(rng, seconds):
    """A tone, noise or clicks at any level, with silence now and then."""
    num = max(round(seconds * RATE), 1)
    tone = np.sin(np.arange(num) * rng.uniform(0.01, 2.5) * (1 + rng.uniform(0, 1e-5) * np.arange(num)))
    waveform = [tone, rng.standard_normal(num), rng.standard_normal(num) * (rng.random(num) < 0.001)][rng.integers(3)]
    waveform = 10 ** rng.uniform(-4, 0) * waveform + rng.choice([0, 0.2]) + 1e-4 * rng.standard_normal(num)
    waveform[: int(num * rng.choice([0, 0.5]))] = 0
    return np.clip(waveform, -1, 1).astype(np.float32)


def padded(waveforms, fill=0.0, longer=0):
    lengths = np.array([len(w) for w in waveforms])
    waveform_BN = np.full((len(waveforms), lengths.max() + longer), fill, np.float32)
    for row, waveform_N in zip(waveform_BN, waveforms, strict=True):
        row[: len(waveform_N)] = waveform_N
    return {"waveform": waveform_BN, "lengths": lengths}


def expected(student, waveform_N):
    """What `predict` gives; for what it refuses, shorter than two frames, the network's word on the one frame."""
    if len(waveform_N) >= RATE * 0.08:
        return predict_windows(student, waveform_N, RATE)[1].mean(0)
    return window_probabilities(student, audio_features(waveform_N, RATE, student.features)[None], "short")[0]


def test_recordings_of_any_length_alone_get_the_answer_of_predict(student, session):
    rng = np.random.default_rng(1)
    for seconds in LENGTHS_S:
        waveform_N = recording(rng, seconds)
        logits_BC, probabilities_BC = session.run(None, padded([waveform_N]))
        assert logits_BC.shape == probabilities_BC.shape == (1, 4)
        np.testing.assert_allclose(probabilities_BC[0], expected(student, waveform_N), atol=1e-4, err_msg=f"{seconds} s")
        shares_BC = np.exp(logits_BC) / np.exp(logits_BC).sum(1, keepdims=True)
        np.testing.assert_allclose(shares_BC, probabilities_BC, atol=1e-6)


def test_and_in_one_batch(student, session):
    waveforms = [recording(np.random.default_rng(2), seconds) for seconds in LENGTHS_S]
    _, probabilities_BC = session.run(None, padded(waveforms))
    for waveform_N, got_C in zip(waveforms, probabilities_BC, strict=True):
        np.testing.assert_allclose(got_C, expected(student, waveform_N), atol=1e-4)


@pytest.mark.slow
def test_a_thousand_recordings(student, session):
    rng, left = np.random.default_rng(3), 1000
    while left:
        size = min(int(rng.integers(1, 33)), left)
        waveforms = [recording(rng, 0.02 * 3000 ** rng.random()) for _ in range(size)]  # 0.02 to 60 s
        _, probabilities_BC = session.run(None, padded(waveforms))
        for waveform_N, got_C in zip(waveforms, probabilities_BC, strict=True):
            np.testing.assert_allclose(got_C, expected(student, waveform_N), atol=1e-4, err_msg=f"{len(waveform_N)} samples")
        left -= size


def test_logits_of_one_window_are_the_networks(student, session):
    waveform_N = recording(np.random.default_rng(4), 2.0)
    audio = torch.from_numpy(audio_features(waveform_N, RATE, student.features).astype(np.float32))[None]
    batch = Batch(audio, torch.tensor([audio.shape[1]]), None, None, torch.zeros(1), np.zeros(1, int))
    with torch.inference_mode():
        expected_BC = student.network(batch).logits_BC.numpy()
    np.testing.assert_allclose(session.run(None, padded([waveform_N]))[0], expected_BC, atol=1e-4)


GARBAGE = {"ones": 1.0, "loud": 1e9, "nan": np.nan, "inf": -np.inf}


@pytest.mark.parametrize("garbage", GARBAGE)
def test_what_lies_behind_the_lengths_moves_no_bit(session, garbage):
    waveforms = [recording(np.random.default_rng(5), seconds) for seconds in (0.3, 6.0, 0.01, 1.0)]
    waveforms.append(np.zeros(0, np.float32))
    clean = session.run(None, padded(waveforms, longer=700))
    filled = session.run(None, padded(waveforms, GARBAGE[garbage], longer=700))
    assert all(a.tobytes() == b.tobytes() for a, b in zip(clean, filled, strict=True))
    assert np.isfinite(clean[0]).all()
    for waveform_N, got_C in zip(waveforms, clean[1], strict=True):
        np.testing.assert_allclose(session.run(None, padded([waveform_N]))[1][0], got_C, atol=1e-5)


def test_damage_in_one_recording_stays_there(session):
    waveforms = [recording(np.random.default_rng(6), seconds) for seconds in (1.0, 12.0, 1.0)]
    whole_BC = session.run(None, padded(waveforms))[1]
    waveforms[1][100_000] = np.nan
    damaged_BC = session.run(None, padded(waveforms))[1]
    assert np.isnan(damaged_BC[1]).all()
    np.testing.assert_allclose(damaged_BC[[0, 2]], whole_BC[[0, 2]], atol=1e-6)


def test_lengths_out_of_range_are_cut(session):
    waveform_N = recording(np.random.default_rng(7), 1.0)
    given = padded([waveform_N])
    answer = session.run(None, given)[1]
    assert session.run(None, given | {"lengths": np.array([10**9])})[1].tobytes() == answer.tobytes()
    nothing = session.run(None, given | {"lengths": np.array([0])})[1]
    assert session.run(None, given | {"lengths": np.array([-5])})[1].tobytes() == nothing.tobytes()


@pytest.mark.parametrize("settings", [{"sample_rate": 8_000}, {"frame_ms": 25, "hop_ms": 10}, {"sample_rate": 22_050}])
def test_other_recipes(tmp_path, settings):
    student = saved(tmp_path, **settings)
    rate = student.features.sample_rate
    session = session_of(student, tmp_path)
    for seconds in (0.2, 11.0):
        waveform_N = recording(np.random.default_rng(8), seconds)
        answer_WC = predict_windows(student, waveform_N, rate)[1]
        np.testing.assert_allclose(session.run(None, padded([waveform_N]))[1][0], answer_WC.mean(0), atol=1e-4)


@pytest.mark.parametrize("encoder", [name for name in exporting() if name != "conv_gru"])
def test_other_encoders(tmp_path, encoder):
    student = saved(tmp_path, encoder=encoder)
    session = session_of(student, tmp_path)
    waveforms = [recording(np.random.default_rng(9), seconds) for seconds in LENGTHS_S]
    for waveform_N, got_C in zip(waveforms, session.run(None, padded(waveforms, np.nan, 700))[1], strict=True):
        np.testing.assert_allclose(got_C, expected(student, waveform_N), atol=1e-4)
        np.testing.assert_allclose(session.run(None, padded([waveform_N]))[1][0], got_C, atol=1e-5)


def test_the_file_says_what_it_needs(student, session):
    notes = {name: json.loads(note) for name, note in session.get_modelmeta().custom_metadata_map.items()}
    assert notes == {
        "class_names": [*NAMES],
        "features": asdict(student.features),
        "input": "waveform",
        "sample_rate": RATE,
        "window_frames": 125,
        "hop_frames": 62,
    }


def test_a_student_of_precomputed_features_reads_them(tmp_path):
    student = saved(tmp_path, audio=PRECOMPUTED)
    session = session_of(student, tmp_path)
    assert [(given.name, given.shape) for given in session.get_inputs()] == [("audio", ["B", "T", 20]), ("lengths", ["B"])]
    rng = np.random.default_rng(9)
    audio_BTF = rng.standard_normal((3, 300, 20)).astype(np.float32)
    filled_BTF = audio_BTF.copy()
    lengths = [300, 40, 0]
    for row_TF, noisy_TF, length in zip(audio_BTF, filled_BTF, lengths, strict=True):
        row_TF[length:], noisy_TF[length:] = 0, np.nan
    probabilities_BC = session.run(None, {"audio": audio_BTF, "lengths": np.array(lengths)})[1]
    assert session.run(None, {"audio": filled_BTF, "lengths": np.array(lengths)})[1].tobytes() == probabilities_BC.tobytes()
    first = [window_probabilities(student, audio_BTF[:1, start : start + 125], "")[0] for start in (0, 62, 124, 175)]
    np.testing.assert_allclose(probabilities_BC[0], np.mean(first, axis=0), atol=1e-5)
    np.testing.assert_allclose(probabilities_BC[1], window_probabilities(student, audio_BTF[1:2, :40], "")[0], atol=1e-5)
    np.testing.assert_allclose(probabilities_BC[2], window_probabilities(student, audio_BTF[2:, :1], "")[0], atol=1e-5)
