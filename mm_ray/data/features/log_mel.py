"""From waveforms to audio features: the recipe of FedMultimodal (KDD 2023). `video_features` has those of frames.

Shape suffixes: N samples, T audio frames, F mel bins.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional
from torchaudio.compliance.kaldi import fbank
from torchaudio.transforms import Resample

from mm_ray.config import FeatureConfig
from mm_ray.data.media.errors import MediaError

_EPSILON = 1e-5
_MOST_TAPS = 20_000_000
"""About as many numbers as a resampler's filters may have."""


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


def finite_features(waveform_N: np.ndarray, sample_rate: int, features: FeatureConfig, place: str) -> np.ndarray:
    """The `audio_features` of a recording, or an error if a network could learn nothing from them.

    Raises:
        BadMedia: `too_short` for two frames, so that nothing is left after each bin's mean is taken off, or `damaged`, with
            samples that are no numbers.

    """
    audio_TF = audio_features(waveform_N, sample_rate, features)
    if len(audio_TF) < min(2, features.max_frames):
        lasts_ms, least_ms = 1000 * len(waveform_N) / max(sample_rate, 1), features.frame_ms + features.hop_ms
        raise MediaError("too_short", place, f"lasts {lasts_ms:.0f} ms; give a recording or span of {least_ms} ms or more")
    if not np.isfinite(audio_TF).all():
        raise MediaError("damaged", place, "has samples that are no finite numbers; write it anew")
    return audio_TF


def log_mel(waveform_N: np.ndarray, sample_rate: int, features: FeatureConfig) -> np.ndarray:
    """The same before normalisation, (T, F) float32 of natural log energies, in Kaldi's definition without dither."""
    waveform = torch.from_numpy(resampled(np.ascontiguousarray(waveform_N, np.float32), sample_rate, features.sample_rate))
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


def resampled(waveform_N: np.ndarray, source: int, target: int) -> np.ndarray:
    """A float32 waveform of `source` Hz at `target` Hz; itself where they are the same."""
    if source == target or not len(waveform_N):
        return waveform_N
    return _resampler(_handy(source, target), target)(torch.from_numpy(waveform_N)).numpy()


def _handy(source: int, target: int) -> int:
    """The rate to resample from: an odd one such as 44,101 Hz, whose filters would fill gigabytes, is rounded to tens.

    999,990 Hz, which only a damaged header claims, is rounded further.
    """
    rates = [max(round(source, -digits), 10) for digits in range(4)]
    return next((rate for rate in rates if rate * target // math.gcd(rate, target) ** 2 <= _MOST_TAPS), rates[-1])


@lru_cache(maxsize=16)
def _resampler(source: int, target: int) -> Resample:
    return Resample(source, target)
