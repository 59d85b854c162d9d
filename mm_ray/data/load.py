"""From the config to the feature table: features are computed once, stored, and read from then on."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from mm_ray.config import DataConfig, FeatureConfig
from mm_ray.data.extract import Row, extract, one_torch_thread
from mm_ray.data.manifest import PACKAGE, Manifest, ManifestModule, find_manifest, read_manifest
from mm_ray.data.normalize import by_group
from mm_ray.data.precomputed import array_file, with_precomputed
from mm_ray.data.store import FORMAT_VERSION, settings_of, write_rejected, write_shard
from mm_ray.data.store_reader import is_finished, read_store, refuse_other_features
from mm_ray.data.table import FeatureTable
from mm_ray.data.video_features import video_identity
from mm_ray.errors import bad_value
from mm_ray.names import modules_in
from mm_ray.storage import is_folder, join

Progress = Callable[[int, int], None]
"""Called with the number of clips done and their total."""


def load_data(data: DataConfig, cache: str | Path, progress: Progress | None = None) -> FeatureTable:
    """The feature table of a store, or of a data set; its features are computed if `cache` does not hold them yet.

    Args:
        data: Which data, fold and features.
        cache: Folder of the feature stores of data sets, `NAME-DIGEST/`. The digest covers the clips (and size and time of
            their files), the feature settings and the manifest module's code; the fold is not part of it.
        progress: Told of every clip while features are computed.

    Raises:
        UserError: An unknown data set, missing or broken recordings, or a fold that the data set does not have.

    """
    if (prepared := prepared_store(data)) is not None:
        if data.folds:
            raise bad_value("data.folds", data.folds, f"{prepared} has the folds that it was prepared with; leave it out")
        table = read_store(prepared, data.fold)
        refuse_other_features(prepared, table.features, as_stored(data.features))
        return _normalised(table, data.features)
    asked, module = data.features, find_manifest(data.name)
    stored = replace(data, features=as_stored(asked))
    manifest, data = with_precomputed(module, read_manifest(stored), stored)
    if not 0 <= data.fold < manifest.num_folds:
        raise bad_value("data.fold", data.fold, f"{data.name} has {manifest.num_folds} fold(s), counted from 0")
    store = store_path(module, manifest, data, cache)
    if not is_finished(store):
        write_shard(store, settings_of(manifest, data), list(_rows(module, manifest, data, progress)))
        write_rejected(store, manifest.rejected)
    return _normalised(read_store(store, data.fold), asked)


def as_stored(features: FeatureConfig) -> FeatureConfig:
    """The settings that a store has: it is normalised over groups when it is read."""
    return replace(features, normalize="none")


def _normalised(table: FeatureTable, asked: FeatureConfig) -> FeatureTable:
    return by_group(table) if asked.normalize == "group" else table


def prepared_store(data: DataConfig) -> str | None:
    """The place of the feature store that a config names, if it names one: by its path, or as an existing folder."""
    if data.name == "store" and data.root:
        return data.root
    is_own = "." in data.name or data.name.replace("-", "_") in modules_in(PACKAGE)
    return data.name if not is_own and is_folder(data.name) else None


def store_path(module: ManifestModule, manifest: Manifest, data: DataConfig, cache: str | Path) -> Path:
    """Where the features of a manifest are stored."""
    code = Path(str(module.__file__)).read_text()
    clips = [(asdict(clip), _stamp(clip.source, data), _stamp(clip.video_source, data)) for clip in manifest.clips]
    identity = [FORMAT_VERSION, manifest.name, manifest.class_names, asdict(data.features), video_identity(data), clips, code]
    digest = hashlib.blake2b(json.dumps(identity).encode(), digest_size=6).hexdigest()
    return Path(cache) / f"{manifest.name}-{digest}"


def _stamp(source: str, data: DataConfig) -> tuple[int, int] | None:
    try:
        stat = os.stat(join(data.root, array_file(source)))
    except (OSError, ValueError):  # a source need not be a path
        return None
    return stat.st_size, stat.st_mtime_ns


def _rows(module: ManifestModule, manifest: Manifest, data: DataConfig, progress: Progress | None) -> Iterator[Row]:
    with one_torch_thread():
        for number, clip in enumerate(manifest.clips):
            yield extract(module, number, clip, data)
            if progress is not None:
                progress(number + 1, len(manifest.clips))
