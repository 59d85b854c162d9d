"""The audio features of a student in plain numpy. The model card quotes this file; it must need nothing else.

The same recipe as `mm_ray.data.features.log_mel`, which is faster; tests/tune/test_export.py holds the two together.
"""

import math
from typing import Any

import numpy as np


def audio_features(waveform: np.ndarray, rate: int, settings: dict[str, Any]) -> np.ndarray:
    """Normalised log-mel frames (T, F), float32.

    Args:
        waveform: Mono samples in [-1, 1], (N,); of several channels take the mean.
        rate: Its sample rate, Hz.
        settings: `features` of student.json.

    """
    target, bins = settings["sample_rate"], settings["num_mels"]
    length, shift = target * settings["frame_ms"] // 1000, target * settings["hop_ms"] // 1000
    samples = resample(waveform.astype(float), rate, target)
    samples = np.pad(samples, (0, max(length - len(samples), 0)))[: length + shift * (settings["max_frames"] - 1)]
    frames = np.lib.stride_tricks.sliding_window_view(samples, length)[::shift]
    frames = frames - frames.mean(1, keepdims=True)
    frames = frames - 0.97 * np.concatenate([frames[:, :1], frames[:, :-1]], 1)
    frames = frames * (0.54 - 0.46 * np.cos(2 * np.pi * np.arange(length) / (length - 1)))
    size = 2 ** math.ceil(math.log2(length))
    power = np.abs(np.fft.rfft(frames, size)) ** 2
    energy = power @ mel_filters(np.arange(size // 2 + 1) * target / size, target, bins)
    log_mel = np.log(np.maximum(energy, 2.0**-23))
    normalised = (log_mel - log_mel.mean(0)) / (log_mel.std(0) + 1e-5)
    return normalised.astype(np.float16).astype(np.float32)


def mel_filters(frequencies: np.ndarray, rate: int, bins: int) -> np.ndarray:
    """Triangles (frequencies, bins), evenly spaced and linear in mel, from 20 Hz to half the rate."""
    low, high = 1127 * np.log1p(np.array([20, rate / 2]) / 700)
    edges = np.linspace(low, high, bins + 2)
    mel = 1127 * np.log1p(frequencies[:, None] / 700)
    up = (mel - edges[:-2]) / (edges[1:-1] - edges[:-2])
    down = (edges[2:] - mel) / (edges[2:] - edges[1:-1])
    return np.maximum(np.minimum(up, down), 0)


def resample(samples: np.ndarray, rate: int, target: int) -> np.ndarray:
    """Interpolation by a sinc of six zero crossings a side under a Hann window, cut off at 0.99 of the lower rate."""
    if rate == target:
        return samples
    rounded = [max(round(rate, -digits), 10) for digits in range(4)]  # 44,101 Hz is taken for 44,100 Hz
    rate = next((r for r in rounded if r * target // math.gcd(r, target) ** 2 <= 20_000_000), rounded[-1])
    cutoff = 0.99 * min(rate, target) / rate
    centre = np.arange(math.ceil(len(samples) * target / rate)) * rate / target
    reach = math.ceil(6 / cutoff)
    around = np.floor(centre).astype(int)[:, None] + np.arange(-reach, reach + 2)
    distance = np.clip((around - centre[:, None]) * cutoff, -6, 6)
    weights = cutoff * np.sinc(distance) * np.cos(np.pi * distance / 12) ** 2
    padded = np.pad(samples, (reach, reach + 2))
    return (weights * padded[np.minimum(around + reach, len(padded) - 1)]).sum(1)
