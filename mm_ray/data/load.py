"""From the config to the feature table: features are computed once, stored, and read from then on."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from mm_ray.config import DataConfig
from mm_ray.data.features import audio_features, video_features
from mm_ray.data.manifest import Clip, Manifest, ManifestModule, check_manifest, find_manifest
from mm_ray.data.store import FORMAT_VERSION, read_store, write_store
from mm_ray.data.table import FeatureTable
from mm_ray.errors import bad_value

Progress = Callable[[int, int], None]
"""Called with the number of clips done and their total."""


def load_data(data: DataConfig, cache: str | Path, progress: Progress | None = None) -> FeatureTable:
    """The feature table of a data set; its features are computed if `cache` does not hold them yet.

    Args:
        data: Which data, fold and features.
        cache: Folder of the feature stores, `NAME-DIGEST.parquet`. The digest covers the clips (and size and time of their
            files), the feature settings and the manifest module's code; the fold is not part of it.
        progress: Told of every clip while features are computed.

    Raises:
        UserError: An unknown data set, missing or broken recordings, or a fold that the data set does not have.

    """
    module = find_manifest(data.name)
    manifest = module.read(data)
    check_manifest(manifest)
    if not 0 <= data.fold < manifest.num_folds:
        raise bad_value("data.fold", data.fold, f"{data.name} has {manifest.num_folds} fold(s), counted from 0")
    path = store_path(module, manifest, data, cache)
    if not path.exists():
        write_store(path, manifest, data.features, *_extract(module, manifest, data, progress))
    return read_store(path, data.fold)


def store_path(module: ManifestModule, manifest: Manifest, data: DataConfig, cache: str | Path) -> Path:
    """Where the features of a manifest are stored."""
    code = Path(str(module.__file__)).read_text()
    clips = [(asdict(clip), _stamp(clip.path)) for clip in manifest.clips]
    identity = [FORMAT_VERSION, manifest.name, manifest.class_names, asdict(data.features), clips, code]
    digest = hashlib.blake2b(json.dumps(identity).encode(), digest_size=6).hexdigest()
    return Path(cache) / f"{manifest.name}-{digest}.parquet"


def clip_features(module: ManifestModule, clip: Clip, data: DataConfig) -> tuple[np.ndarray, np.ndarray | None]:
    """Audio (T, F) and video (S, D) features of one clip, float16; video is `None` where the clip has none."""
    media = module.load(clip, data)
    audio_TF = audio_features(media.waveform_N, media.sample_rate, data.features)
    return audio_TF, None if media.frames is None else video_features(media.frames, data.features)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except (OSError, ValueError):  # a source need not be a path
        return None
    return stat.st_size, stat.st_mtime_ns


def _extract(
    module: ManifestModule, manifest: Manifest, data: DataConfig, progress: Progress | None
) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
    audio, video = [], []
    with _one_torch_thread():
        for done, clip in enumerate(manifest.clips, start=1):
            audio_TF, video_SD = clip_features(module, clip, data)
            audio.append(audio_TF)
            video.append(video_SD)
            if progress is not None:
                progress(done, len(manifest.clips))
    return audio, video


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Clips are too short to share among threads: the hand-over costs more than the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
