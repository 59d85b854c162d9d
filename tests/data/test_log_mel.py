import numpy as np
import pytest
import torch

from mm_ray.config import FeatureConfig
from mm_ray.data.features.log_mel import audio_features, log_mel

FEATURES = FeatureConfig()


def sine(hz, seconds=1.0, rate=16_000):
    return np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate).astype(np.float32)


def mel(hz):
    return 1127 * np.log(1 + hz / 700)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 44_101])
@pytest.mark.parametrize("hz", [500, 1000, 2500])
def test_a_sine_peaks_in_its_mel_bin(hz, rate):
    mel_TF = log_mel(sine(hz, rate=rate), rate, FEATURES)
    spacing = (mel(8000) - mel(20)) / 81  # Kaldi's filters reach from 20 Hz to half the sample rate
    expected = (mel(hz) - mel(20)) / spacing - 1
    assert abs(mel_TF[5:-5].mean(axis=0).argmax() - expected) <= 1


def test_shape_is_windows_of_40_ms_every_20_ms():
    audio_TF = audio_features(sine(440), 16_000, FEATURES)
    assert audio_TF.shape == (1 + (16_000 - 640) // 320, 80)
    assert audio_TF.dtype == np.float16


def test_each_bin_is_normalised_over_the_clip():
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    audio_TF = audio_features(noise, 16_000, FEATURES).astype(np.float32)
    np.testing.assert_allclose(audio_TF.mean(axis=0), 0, atol=2e-3)
    np.testing.assert_allclose(audio_TF.std(axis=0), 1, atol=2e-3)


@pytest.mark.parametrize("samples", [0, 1, 100, 640, 16_000])
def test_a_silent_or_tiny_clip_is_finite(samples):
    audio_TF = audio_features(np.zeros(samples, np.float32), 16_000, FEATURES)
    assert len(audio_TF) == max(1, 1 + (samples - 640) // 320)
    assert np.isfinite(audio_TF).all()


def test_a_long_clip_is_cut():
    short = FeatureConfig(max_frames=7)
    audio_TF = audio_features(sine(440, 2.0), 16_000, short)
    assert len(audio_TF) == 7
    np.testing.assert_array_equal(audio_TF, audio_features(sine(440, 2.0)[: 640 + 6 * 320], 16_000, short))


def test_no_global_rng_is_drawn_from():
    before = torch.get_rng_state()
    audio_features(sine(440), 16_000, FEATURES)
    assert torch.equal(before, torch.get_rng_state())
