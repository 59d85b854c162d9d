"""Audio features from a frozen pretrained encoder: `transformers:NAME_OR_PATH` or `torchaudio:PIPELINE`.

The encoder's last hidden states are the frames, (T, D), as they are: they are neither centred nor scaled. transformers has
wav2vec 2.0, HuBERT, WavLM, Whisper (its encoder) and AST, and is an extra (`mm-ray[pretrained]`); torchaudio's pipelines are
wav2vec 2.0, HuBERT and WavLM. Weights come from a folder or from the library's own cache; nothing is downloaded here.

Shape suffixes: N samples, T frames, D hidden size.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pickle import UnpicklingError
from threading import Lock
from typing import Any

import numpy as np
import torch

from mm_ray.config import FeatureConfig
from mm_ray.data.features.log_mel import resampled
from mm_ray.devices import encoder_device
from mm_ray.errors import bad_value, in_one_line

FIELD = "data.features.audio"
SHORTEST_N = 1_000
"""Samples to which a shorter clip is padded: convolutions need some hundreds."""
_LOADING = Lock()
"""Predictions run in threads, and transformers is not to be imported in two of them at once."""
FAULTS = (OSError, ValueError, RuntimeError, TypeError, LookupError, AttributeError, ImportError, UnpicklingError)
"""What loading a damaged or foreign model raises."""


@dataclass(frozen=True)
class PretrainedAudio:
    """A loaded encoder."""

    sample_rate: int
    encode: Callable[[np.ndarray], torch.Tensor]
    """Of a waveform (N,) at this rate: hidden states (T, D)."""
    digest: str
    """Of its weights and its preprocessing."""


def pretrained_features(waveform_N: np.ndarray, sample_rate: int, features: FeatureConfig) -> np.ndarray:
    """Hidden states of a mono waveform's first `features.audio_s` seconds, at most `max_frames`, (T, D) float16.

    Raises:
        UserError: The encoder or its weights are not there.

    """
    encoder = load_encoder(features.audio, encoder_device())
    waveform_N = resampled(np.ascontiguousarray(waveform_N, np.float32), sample_rate, encoder.sample_rate)
    waveform_N = waveform_N[: round(features.audio_s * encoder.sample_rate)]
    waveform_N = np.pad(waveform_N, (0, max(SHORTEST_N - len(waveform_N), 0)))
    with torch.inference_mode(), np.errstate(over="ignore"):
        hidden_TD: np.ndarray = encoder.encode(waveform_N)[: features.max_frames].cpu().numpy().astype(np.float16)
    return hidden_TD


def load_encoder(name: str, device: str = "cpu") -> PretrainedAudio:
    """The encoder of a name such as `transformers:./wavlm` or `torchaudio:HUBERT_BASE`; a process loads it once.

    Raises:
        UserError: It or its weights are not there.

    """
    with _LOADING:
        return _loaded(name, device)


@lru_cache(maxsize=1)
def _loaded(name: str, device: str) -> PretrainedAudio:
    library, _, place = name.partition(":")
    return _of_torchaudio(name, place, device) if library == "torchaudio" else _of_transformers(name, device)


def _of_transformers(name: str, device: str) -> PretrainedAudio:
    extractor, model = load_transformers(FIELD, name, "AutoFeatureExtractor")
    encoder = (model.get_encoder() if model.config.is_encoder_decoder else model).eval().requires_grad_(False).to(device)
    rate = int(extractor.sampling_rate)

    def encode(waveform_N: np.ndarray) -> torch.Tensor:
        given = extractor(waveform_N, sampling_rate=rate, return_tensors="pt").to(device)
        hidden_TD: torch.Tensor = encoder(**given).last_hidden_state[0]
        return _own_steps(hidden_TD, len(waveform_N) / rate, model, extractor)

    return PretrainedAudio(rate, encode, digest_of(encoder, description_of(model.config, extractor)))


def _own_steps(hidden_TD: torch.Tensor, seconds: float, model: Any, extractor: Any) -> torch.Tensor:
    """The steps of the clip itself, in time: some extractors pad every clip to the same length."""
    if model.config.model_type == "whisper":
        return hidden_TD[: math.ceil(seconds / extractor.chunk_length * len(hidden_TD))]
    if model.config.model_type == "audio-spectrogram-transformer":  # two tokens, then patches: bins outside, time inside
        bins, steps = model.embeddings.get_shape(model.config)
        hidden_TD = hidden_TD[2:].unflatten(0, (bins, steps)).mean(0)
        return hidden_TD[: max(math.ceil(100 * seconds / model.config.time_stride), 1)]  # frames are 10 ms apart
    return hidden_TD


def _of_torchaudio(name: str, place: str, device: str) -> PretrainedAudio:
    import torchaudio

    known = [n for n in dir(torchaudio.pipelines) if isinstance(getattr(torchaudio.pipelines, n), _bundle_class())]
    if place not in known:
        raise bad_value(FIELD, name, f"torchaudio has no such pipeline of speech encoders; it has {', '.join(known)}")
    bundle = getattr(torchaudio.pipelines, place)
    file = os.path.join(torch.hub.get_dir(), "checkpoints", os.path.basename(bundle._path))
    if not os.path.isfile(file):
        remedy = f"python -c 'import torchaudio; torchaudio.pipelines.{place}.get_model()' downloads it once"
        raise bad_value(FIELD, name, f"torchaudio's cache has no {file}; {remedy}")
    try:
        model = bundle.get_model(dl_kwargs={"progress": False, "weights_only": True}).eval().requires_grad_(False).to(device)
    except FAULTS as error:
        raise bad_value(FIELD, name, f"{file} cannot be loaded ({in_one_line(error)}); remove it and get it again") from error

    def encode(waveform_N: np.ndarray) -> torch.Tensor:
        layers, _ = model.extract_features(torch.from_numpy(waveform_N)[None].to(device))
        hidden_TD: torch.Tensor = layers[-1][0]
        return hidden_TD

    return PretrainedAudio(int(bundle.sample_rate), encode, digest_of(model, ""))


def _bundle_class() -> Any:
    from torchaudio.pipelines import Wav2Vec2Bundle

    return Wav2Vec2Bundle


def load_transformers(field: str, name: str, processor: str) -> tuple[Any, Any]:
    """A model of transformers and what prepares its inputs, from a folder or the library's cache.

    Args:
        field: The field of the config that names it.
        name: `transformers:NAME_OR_PATH`.
        processor: The library's class that loads the preprocessing.

    Raises:
        UserError: The library or the model is not there.

    """
    transformers, place = _import_transformers(field, name), name.partition(":")[2]
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        prepares = getattr(transformers, processor).from_pretrained(place, **options)
        return prepares, transformers.AutoModel.from_pretrained(place, **options)
    except FAULTS as error:
        if os.path.isdir(place):
            raise bad_value(field, name, f"the folder holds no such model ({in_one_line(error)})") from error
        problem = "is no folder, and the cache of transformers has no model of this name"
        raise bad_value(field, name, f"{problem}; give a folder, or download it once: hf download {place}") from error


def _import_transformers(field: str, name: str) -> Any:
    try:
        import transformers
    except ImportError as error:
        remedy = f"needs transformers; pip install 'mm-ray[pretrained]' ({in_one_line(error)})"
        raise bad_value(field, name, remedy) from error
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def description_of(*settings: Any) -> str:
    """Settings of transformers, without the place and the version that they were read with."""
    passing = ("_name_or_path", "transformers_version")
    plain = [{k: v for k, v in each.to_dict().items() if k not in passing} for each in settings]
    return json.dumps(plain, sort_keys=True, default=str)


def digest_of(model: torch.nn.Module, description: str) -> str:
    """Sixteen hex digits of a model's tensors and of its settings."""
    state = hashlib.blake2b(description.encode(), digest_size=8)
    for tensor_name, tensor in sorted(model.state_dict().items()):
        state.update(tensor_name.encode())
        state.update(np.ascontiguousarray(tensor.cpu().float().numpy()).data)
    return state.hexdigest()
