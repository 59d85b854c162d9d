"""A recording of any length, cut into windows: the same frames block by block as at once, and the windows where they belong."""

import math

import numpy as np
import pytest
import torch

from mm_ray.classifier import AudioClassifier
from mm_ray.config import FeatureConfig, ModelConfig
from mm_ray.data.features.log_mel import audio_features, log_mel, log_mel_blocks
from mm_ray.data.windows import Windows, cut_windows, windows_in_frames
from mm_ray.errors import UserError
from mm_ray.evaluate.windows import _cut_samples, predict_windows
from mm_ray.models.network import PARTS, init_part
from mm_ray.models.student import load_student, save_student
from mm_ray.types import Shapes

NAMES = ("a", "b", "c")


def noise(rate, seconds):
    """Noise whose colour changes over time."""
    rng, num = np.random.default_rng(0), round(rate * seconds)
    return (0.1 * rng.standard_normal(num) + 0.3 * np.sin(np.cumsum(np.linspace(0.02, 1.5, num)))).astype(np.float32)


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    folder = tmp_path_factory.mktemp("student")
    features, model = FeatureConfig(num_mels=20, max_frames=50), ModelConfig(conv_channels=(4, 4, 8), hidden=8)
    shapes, generator = Shapes(20, 0, 3), torch.Generator().manual_seed(0)
    params = {part: init_part(part, model, shapes, generator) for part in PARTS["audio"]}
    return load_student(save_student(folder, params, model, shapes, NAMES, features))


@pytest.mark.parametrize("rate", [16_000, 8_000, 44_100, 22_050, 11_025, 48_000, 44_101, 96_000])
@pytest.mark.parametrize("size", [777, 60_000])
def test_frames_of_blocks_are_those_of_the_whole(rate, size):
    waveform_N = noise(rate, 2.9)
    features = FeatureConfig(max_frames=10_000)
    blocks = [waveform_N[start : start + size] for start in range(0, len(waveform_N), size)]
    got_TF = np.concatenate(list(log_mel_blocks(blocks, rate, features)))
    whole_TF = log_mel(waveform_N, rate, features)
    assert got_TF.shape == whole_TF.shape
    np.testing.assert_allclose(got_TF, whole_TF, atol=2e-3)


def test_a_waveform_in_one_piece_is_worked_on_in_blocks():
    waveform_N, features = noise(8_000, 35), FeatureConfig(max_frames=10_000)
    blocks = list(log_mel_blocks([waveform_N], 8_000, features))
    assert max(map(len, blocks)) < 520
    np.testing.assert_allclose(np.concatenate(blocks), log_mel(waveform_N, 8_000, features), atol=2e-3)


def starts(num_frames, size, hop, block=3):
    frames_T1 = np.arange(num_frames)[:, None]
    blocks = [frames_T1[start : start + block] for start in range(0, num_frames, block)]
    found = list(cut_windows(blocks, Windows(size, hop)))
    for begin, window_TF in found:
        assert window_TF[:, 0].tolist() == list(range(begin, min(begin + size, num_frames)))
    return [begin for begin, _ in found]


@pytest.mark.parametrize("block", [1, 3, 100])
def test_windows_a_hop_apart_and_the_last_one_at_the_end(block):
    assert starts(4, 10, 5, block) == [0]
    assert starts(10, 10, 5, block) == [0]
    assert starts(11, 10, 5, block) == [0, 1]
    assert starts(15, 10, 5, block) == [0, 5]
    assert starts(17, 10, 5, block) == [0, 5, 7]
    assert starts(31, 10, 10, block) == [0, 10, 20, 21]
    assert starts(5, 2, 1, block) == [0, 1, 2, 3]


def test_seconds_become_whole_frames():
    features = FeatureConfig()  # 500 frames of 40 ms every 20 ms: 10.02 s
    assert windows_in_frames(features) == Windows(500, 250)
    assert windows_in_frames(features, window_s=10.02) == Windows(500, 250)
    assert windows_in_frames(features, window_s=1.0, hop_s=0.5) == Windows(49, 25)
    assert windows_in_frames(features, window_s=0.06) == Windows(2, 1)


@pytest.mark.parametrize(
    ("window_s", "hop_s", "text"),
    [
        (0.05, None, r"^--window 0.05: must be 0.06 seconds or more$"),
        (float("nan"), None, r"^--window nan: must be 0.06 seconds or more$"),
        (1.0, 1.1, r"^--hop 1.1: must be between 0.02 and the window, 0.98 seconds$"),
        (None, 0.0, r"^--hop 0.0: must be between 0.02 and the window, 10 seconds$"),
    ],
)
def test_windows_that_are_none(window_s, hop_s, text):
    with pytest.raises(UserError, match=text):
        windows_in_frames(FeatureConfig(), window_s, hop_s)


def test_each_window_is_predicted_as_a_clip_of_its_own(student):
    waveform_N = noise(16_000, 3.0)  # 149 frames; a window has 50, that is 1.02 s
    times_W2, probabilities_WC = predict_windows(student, waveform_N, 16_000)
    assert times_W2.tolist() == pytest.approx(np.array([[s, s + 1.02] for s in (0, 0.5, 1.0, 1.5, 1.98)]))
    for (begin, end), got_C in zip(np.round(times_W2 * 16_000).astype(int), probabilities_WC, strict=True):
        alone_W2, alone_WC = predict_windows(student, waveform_N[begin:end], 16_000)
        assert alone_W2.tolist() == [[0, 1.02]]
        np.testing.assert_allclose(alone_WC[0], got_C, atol=1e-5)
    assert not np.allclose(probabilities_WC[0], probabilities_WC[-1], atol=1e-3)


def test_a_short_recording_is_one_window_of_its_own_length(student):
    times_W2, probabilities_WC = predict_windows(student, noise(16_000, 0.5), 16_000)
    assert times_W2.tolist() == [[0, 0.5]]
    assert probabilities_WC.sum() == pytest.approx(1)
    assert len(audio_features(noise(16_000, 0.5), 16_000, student.features)) == 24


def test_what_has_no_answer(student):
    with pytest.raises(UserError, match=r"^waveform: lasts 50 ms; give a recording or segment of 60 ms or more$"):
        predict_windows(student, noise(16_000, 0.05), 16_000)
    broken_N = noise(16_000, 3)
    broken_N[40_000] = np.nan
    with pytest.raises(UserError, match=r"^waveform: has samples that are not finite; export it again$"):
        predict_windows(student, broken_N, 16_000)


def test_long_samples_given_in_python_are_heard_to_their_end(student):
    waveform_N = noise(16_000, 3.0)
    expected_C = predict_windows(student, waveform_N, 16_000)[1].mean(0)
    answer = AudioClassifier(student).predict(np.stack([waveform_N, waveform_N]), 16_000)
    assert list(answer.probabilities.values()) == pytest.approx(expected_C.tolist(), abs=1e-6)
    assert answer.probability == max(answer.probabilities.values()) == answer.probabilities[answer.label]


@pytest.mark.parametrize("num_samples", [0, 7, 30, 31, 1_000, 1_234])
@pytest.mark.parametrize("block", [3, 100, 5_000])
def test_samples_are_cut_into_windows_of_frames_while_they_come(num_samples, block):
    """Frames of 10.5 samples every 4.5, windows of 20 frames every 7: 96 samples."""
    windows, waveform_N = Windows(20, 7), np.arange(num_samples, dtype=np.float32)
    blocks = [waveform_N[i : i + block] for i in range(0, num_samples, block)]
    num_frames = max(1 + math.floor((num_samples - 10.5) / 4.5), 1)
    expected = [(start, start + len(numbers)) for start, numbers in cut_windows([np.zeros((num_frames, 1))], windows)]
    found = list(_cut_samples(blocks, 10.5, 4.5, windows))
    assert [(first, stop) for first, stop, _ in found] == expected
    for first, stop, window_N in found:
        assert window_N.tolist() == waveform_N[round(first * 4.5) : round((stop - 1) * 4.5 + 10.5)].tolist()
        assert len(window_N.base) <= 96 + 2 * 5 + block  # no more is held
