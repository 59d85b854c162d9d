"""From waveforms to audio features: the recipe of FedMultimodal (KDD 2023). `video_features` has those of frames.

Shape suffixes: N samples, T audio frames, F mel bins.
"""

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional
from torchaudio.compliance.kaldi import fbank
from torchaudio.transforms import Resample

from mm_ray.config import FeatureConfig
from mm_ray.data.media.errors import MediaError

EPSILON = 1e-5
"""Added to a bin's standard deviation."""
PRE_EMPHASIS, LOWEST_HZ, LEAST_ENERGY = 0.97, 20.0, 2.0**-23
"""Kaldi's defaults; torchaudio's logarithm is taken of no less energy."""
BLOCK_S = 10.0
"""About as much of a long recording is in memory at a time."""
_ZERO_CROSSINGS = 7
"""A little more than the resampler's filter has on each side, in samples of the lower rate."""
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
    return normalized(log_mel(waveform_N, sample_rate, features))


def finite_features(waveform_N: np.ndarray, sample_rate: int, features: FeatureConfig, place: str) -> np.ndarray:
    """The `audio_features` of a recording, or an error if a network could learn nothing from them.

    Raises:
        MediaError: `too_short` for two frames, so that nothing is left after each bin's mean is taken off, or `damaged`, with
            samples that are not finite.

    """
    audio_TF = audio_features(waveform_N, sample_rate, features)
    check_frames(audio_TF, len(waveform_N) / max(sample_rate, 1), features, place)
    return audio_TF


def check_frames(audio_TF: np.ndarray, seconds: float, features: FeatureConfig, place: str) -> None:
    """Refuse the features of a recording of some seconds if a network could learn nothing from them; raises as above."""
    if len(audio_TF) < min(2, features.max_frames):
        raise too_short(seconds, features, place)
    check_finite(audio_TF, place)


def too_short(seconds: float, features: FeatureConfig, place: str) -> MediaError:
    """The error of a recording of too few seconds."""
    lasts_ms, least_ms = 1000 * seconds, features.frame_ms + features.hop_ms
    return MediaError("too_short", place, f"lasts {lasts_ms:.0f} ms; give a recording or segment of {least_ms} ms or more")


def check_finite(values: np.ndarray, place: str) -> None:
    """Refuse samples or features of a recording that are not finite (MediaError `damaged`)."""
    if not np.isfinite(values).all():
        raise MediaError("damaged", place, "has samples that are not finite; export it again")


def normalized(mel_TF: np.ndarray) -> np.ndarray:
    """Each bin with mean 0 and variance 1 over the frames, (T, F) float16."""
    deviation_F = mel_TF.std(axis=0) + EPSILON
    scaled: np.ndarray = ((mel_TF - mel_TF.mean(axis=0)) / deviation_F).astype(np.float16)
    return scaled


def log_mel(waveform_N: np.ndarray, sample_rate: int, features: FeatureConfig) -> np.ndarray:
    """The same before normalisation, (T, F) float32 of natural log energies, in Kaldi's definition without dither."""
    waveform_N = resampled(np.ascontiguousarray(waveform_N, np.float32), sample_rate, features.sample_rate)
    window, hop = frame_samples(features)
    return _whole_frames(waveform_N[: window + hop * (features.max_frames - 1)], features)


def log_mel_blocks(blocks: Iterable[np.ndarray], sample_rate: int, features: FeatureConfig) -> Iterator[np.ndarray]:
    """The same of a recording of any length, block by block and not cut off at `max_frames`.

    Args:
        blocks: The waveform in pieces, (N,) float32.
        sample_rate: Its rate, Hz.
        features: The recipe.

    Yields:
        The next frames, (T, F) float32.

    """
    window, hop = frame_samples(features)
    held_N, is_first = np.zeros(0, np.float32), True
    for block_N in _resampled_blocks(blocks, sample_rate, features.sample_rate):
        held_N = np.concatenate([held_N, block_N])
        if len(held_N) >= window:
            yield _whole_frames(held_N, features)
            held_N, is_first = held_N[hop * ((len(held_N) - window) // hop + 1) :], False
    if is_first:
        yield _whole_frames(held_N, features)


def frame_samples(features: FeatureConfig) -> tuple[int, int]:
    """Length of a frame, and shift between frames, in samples."""
    return features.sample_rate * features.frame_ms // 1000, features.sample_rate * features.hop_ms // 1000


def bins_of(hz_K: np.ndarray, features: FeatureConfig) -> np.ndarray:
    """Position of frequencies among the mel bins (K,); a whole number is a bin's centre. Kaldi's mel scale."""
    lowest, highest, mel_K = (1127 * np.log1p(hz / 700) for hz in (LOWEST_HZ, features.sample_rate / 2, hz_K))
    bins_K: np.ndarray = (mel_K - lowest) / (highest - lowest) * (features.num_mels + 1) - 1
    return bins_K


def _whole_frames(waveform_N: np.ndarray, features: FeatureConfig) -> np.ndarray:
    waveform = torch.from_numpy(waveform_N)
    waveform = functional.pad(waveform, (0, max(frame_samples(features)[0] - len(waveform), 0)))
    return fbank(
        waveform[None],
        sample_frequency=float(features.sample_rate),
        num_mel_bins=features.num_mels,
        frame_length=float(features.frame_ms),
        frame_shift=float(features.hop_ms),
        window_type="hamming",
        preemphasis_coefficient=PRE_EMPHASIS,
        low_freq=LOWEST_HZ,
        dither=0.0,
    ).numpy()


def resampled(waveform_N: np.ndarray, source: int, target: int) -> np.ndarray:
    """A float32 waveform of `source` Hz at `target` Hz; itself where they are the same."""
    if source == target or not len(waveform_N):
        return waveform_N
    return _resampler(_handy(source, target), target)(torch.from_numpy(waveform_N)).numpy()


def _resampled_blocks(blocks: Iterable[np.ndarray], source: int, target: int) -> Iterator[np.ndarray]:
    """What `resampled` makes of the whole waveform, in pieces: each is resampled with what lies around it.

    A piece begins where a sample of the source and one of the target coincide: every `source / gcd` samples.
    """
    pieces = (
        piece
        for block in blocks
        for piece in np.split(block, range(round(BLOCK_S * source), len(block), round(BLOCK_S * source)))
    )
    if source == target:
        yield from pieces
        return
    source = _handy(source, target)
    common = math.gcd(source, target)
    step, step_out = source // common, target // common
    around = step * math.ceil(_ZERO_CROSSINGS * max(1.0, source / target) / step + 1)
    held_N, left = np.zeros(0, np.float32), 0
    for piece_N in pieces:
        held_N = np.concatenate([held_N, piece_N])
        end = (len(held_N) - around) // step * step
        if end > left:
            yield resampled(held_N[: end + around], source, target)[left // step * step_out : end // step * step_out]
            begin = max(end - around, 0)
            held_N, left = held_N[begin:], end - begin
    yield resampled(held_N, source, target)[left // step * step_out :]


def _handy(source: int, target: int) -> int:
    """The rate to resample from: an odd one such as 44,101 Hz, whose filters would fill gigabytes, is rounded to tens.

    999,990 Hz, which only a damaged header claims, is rounded further.
    """
    rates = [max(round(source, -digits), 10) for digits in range(4)]
    return next((rate for rate in rates if rate * target // math.gcd(rate, target) ** 2 <= _MOST_TAPS), rates[-1])


@lru_cache(maxsize=16)
def _resampler(source: int, target: int) -> Resample:
    return Resample(source, target)
