"""From waveforms and frames to features: the recipe of FedMultimodal (KDD 2023) for audio, small grey frames for video.

Shape suffixes: N samples, T audio frames, F mel bins, S video frames, H height, W width, D video features.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional
from torchaudio.compliance.kaldi import fbank
from torchaudio.transforms import Resample

from mm_ray.config import FeatureConfig
from mm_ray.data.sight import Size

_EPSILON = 1e-5
_MOST_TAPS = 20_000_000
"""About as many numbers as a resampler's filters may have."""
_GREY_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)
"""Luma of ITU-R BT.601."""


def audio_features(waveform_N: np.ndarray, sample_rate: int, features: FeatureConfig) -> np.ndarray:
    """Log-mel filterbank of a mono waveform, (T, F) float16, each bin with mean 0 and variance 1 over the clip.

    Args:
        waveform_N: Mono samples in [-1, 1], float32.
        sample_rate: Its rate, Hz; it is resampled to `features.sample_rate`.
        features: The recipe. A clip shorter than one window is padded with zeros to one frame; frames after
            `max_frames` are cut off.

    """
    mel_TF = log_mel(waveform_N, sample_rate, features)
    deviation_F = mel_TF.std(axis=0) + _EPSILON
    return ((mel_TF - mel_TF.mean(axis=0)) / deviation_F).astype(np.float16)


def log_mel(waveform_N: np.ndarray, sample_rate: int, features: FeatureConfig) -> np.ndarray:
    """The same before normalisation, (T, F) float32 of natural log energies, in Kaldi's definition without dither."""
    waveform = torch.from_numpy(np.ascontiguousarray(waveform_N, np.float32))
    if sample_rate != features.sample_rate:
        waveform = _resampler(_handy(sample_rate, features.sample_rate), features.sample_rate)(waveform)
    window, hop = (features.sample_rate * ms // 1000 for ms in (features.frame_ms, features.hop_ms))
    waveform = functional.pad(waveform, (0, max(window - len(waveform), 0)))
    waveform = waveform[: window + hop * (features.max_frames - 1)]
    return fbank(
        waveform[None],
        sample_frequency=float(features.sample_rate),
        num_mel_bins=features.num_mels,
        frame_length=float(features.frame_ms),
        frame_shift=float(features.hop_ms),
        window_type="hamming",
        dither=0.0,
    ).numpy()


def _handy(source: int, target: int) -> int:
    """The rate to resample from: an odd one such as 44,101 Hz, whose filters would fill gigabytes, is rounded to tens."""
    divisor = math.gcd(source, target)
    return source if source * target // divisor**2 <= _MOST_TAPS else max(round(source, -1), 10)


@lru_cache(maxsize=16)
def _resampler(source: int, target: int) -> Resample:
    return Resample(source, target)


def frame_size(features: FeatureConfig) -> Size:
    """Width and height at which video frames are decoded, from those of the video."""
    side = features.video_size
    return lambda width, height: (side, side)


def video_features(frames: np.ndarray, features: FeatureConfig) -> np.ndarray:
    """Small frames, (S, D) float16, with mean 0 and variance 1 over the clip.

    Args:
        frames: uint8, grey (S, H, W) or RGB (S, H, W, 3). At most `max_video_frames` are taken, evenly spaced.
        features: The recipe; D = `video_size` squared, times three in colour (row, column, colour).

    """
    frames = frames[_evenly_spaced(len(frames), features.max_video_frames)]
    scaled_SHWC = (_grey(frames)[..., None] if features.video_color == "grey" else _rgb(frames)).astype(np.float32)
    size = (features.video_size, features.video_size)
    small = functional.interpolate(torch.from_numpy(scaled_SHWC).permute(0, 3, 1, 2), size=size, mode="area")
    small_SD = small.permute(0, 2, 3, 1).reshape(len(small), -1).numpy()
    return ((small_SD - small_SD.mean()) / (small_SD.std() + _EPSILON)).astype(np.float16)


def _evenly_spaced(count: int, at_most: int) -> np.ndarray:
    wanted = min(count, at_most)
    return np.arange(wanted) * count // wanted if wanted else np.arange(0)


def _grey(frames: np.ndarray) -> np.ndarray:
    scaled = frames.astype(np.float32) / 255.0
    return scaled @ _GREY_WEIGHTS if frames.ndim == 4 else scaled


def _rgb(frames: np.ndarray) -> np.ndarray:
    scaled = frames.astype(np.float32) / 255.0
    return scaled if frames.ndim == 4 else np.repeat(scaled[..., None], 3, axis=-1)
