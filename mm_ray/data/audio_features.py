"""From a waveform to audio features, by what `data.features.audio` names: log-mel, a pretrained encoder, or a function.

Shape suffixes: N samples, T audio frames, F audio bins.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from mm_ray.config import FeatureConfig
from mm_ray.data.features.log_mel import check_finite, finite_features, resampled, too_short
from mm_ray.data.features.pretrained_audio import load_encoder, pretrained_features
from mm_ray.errors import bad_value
from mm_ray.plugins import code_digest, in_user_code, load

FIELD = "data.features.audio"
OwnFunction = Callable[[np.ndarray, int], np.ndarray]
"""`module:function` of the user's: mono samples (N,) float32 in [-1, 1] and their rate in Hz, to (T, F) numbers."""


def compute_audio(waveform_N: np.ndarray, sample_rate: int, features: FeatureConfig, place: str) -> np.ndarray:
    """Features of a mono waveform's first `features.audio_s` seconds, at most `max_frames`, (T, F) float16.

    Args:
        waveform_N: Samples in [-1, 1], float32.
        sample_rate: Its rate, Hz.
        features: The recipe.
        place: Names the recording in errors.

    Raises:
        MediaError: The recording is too short, or not finite.
        UserError: An encoder or its weights are not there, or the user's own function fails or returns something else.

    """
    if features.is_pretrained_audio:
        return pretrained_features(waveform_N, sample_rate, features)
    if features.is_own_audio:
        return _own_features(waveform_N, sample_rate, features, place)
    return finite_features(waveform_N, sample_rate, features, place)


def audio_identity(features: FeatureConfig) -> str:
    """What decides the audio features beside the settings: a digest of weights or of the user's own code, else nothing.

    Raises:
        UserError: The encoder, its weights or the function are not there.

    """
    if features.is_own_audio:
        return f"{features.audio} {find_function(features.audio)[1]}"
    return load_encoder(features.audio).digest if features.is_pretrained_audio else ""


@lru_cache(maxsize=4)
def find_function(name: str, field: str = FIELD) -> tuple[OwnFunction, str]:
    """The user's own function of that name, and the digest of its module.

    Args:
        name: `mine.py:function` or `package.module:function`.
        field: What names it, for errors.

    Raises:
        UserError: It does not import, or the module has no such function.

    """
    module_name, _, function_name = name.partition(":")
    module = load(field, module_name)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise bad_value(field, name, f"{module_name} has no function {function_name or 'named'}; give mine.py:function")
    return function, code_digest(module)


def _own_features(waveform_N: np.ndarray, sample_rate: int, features: FeatureConfig, place: str) -> np.ndarray:
    name, rate = features.audio, features.sample_rate
    check_finite(waveform_N, place)
    seconds = len(waveform_N) / max(sample_rate, 1)
    if round(1000 * seconds) < features.frame_ms + features.hop_ms * (features.max_frames > 1):
        raise too_short(seconds, features, place)
    waveform_N = resampled(np.ascontiguousarray(waveform_N, np.float32), sample_rate, rate)
    waveform_N = waveform_N[: round(features.audio_s * rate)].copy()  # a function may change it; windows overlap
    function = find_function(name)[0]
    values = in_user_code(FIELD, name, "fails", lambda: np.asarray(function(waveform_N, rate)))
    if values.ndim != 2 or not values.size:
        raise bad_value(FIELD, name, f"returned shape {values.shape} for {len(waveform_N)} samples; return (T, F)")
    with np.errstate(over="ignore"):
        features_TF: np.ndarray = values[: features.max_frames].astype(np.float16)
    if not np.isfinite(features_TF).all():
        raise bad_value(FIELD, name, "returned numbers that are not finite as float16 (up to 65,504); scale them")
    return features_TF
