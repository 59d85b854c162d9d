"""From the config to the feature table: features are computed once, stored, and read from then on."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from mm_ray.config import DataConfig
from mm_ray.data.extract import Row, extract, one_torch_thread
from mm_ray.data.manifest import PACKAGE, Manifest, ManifestModule, check_manifest, find_manifest
from mm_ray.data.store import FORMAT_VERSION, settings_of, write_rejected, write_shard
from mm_ray.data.store_reader import is_finished, read_store, refuse_other_features
from mm_ray.data.table import FeatureTable
from mm_ray.data.video_features import video_identity
from mm_ray.errors import bad_value
from mm_ray.plugins import find_file, modules_in, source_of
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
        table = read_store(prepared, data.fold)
        refuse_other_features(prepared, table.features, data.features)
        return table
    module = find_manifest(data.name)
    manifest = module.read(data)
    check_manifest(manifest)
    if not 0 <= data.fold < manifest.num_folds:
        raise bad_value("data.fold", data.fold, f"{data.name} has {manifest.num_folds} fold(s), counted from 0")
    store = store_path(module, manifest, data, cache)
    if not is_finished(store):
        write_shard(store, settings_of(manifest, data), list(_rows(module, manifest, data, progress)))
        write_rejected(store, [])
    return read_store(store, data.fold)


def prepared_store(data: DataConfig) -> str | None:
    """The place of the feature store that a config names, if it names one: by its path, or as an existing folder."""
    if data.name == "store" and data.root:
        return data.root
    names_code = "." in data.name or data.name.replace("-", "_") in modules_in(PACKAGE) or find_file(f"{data.name}.py")
    return data.name if not names_code and is_folder(data.name) else None


def store_path(module: ManifestModule, manifest: Manifest, data: DataConfig, cache: str | Path) -> Path:
    """Where the features of a manifest are stored."""
    code = source_of(module).decode()
    clips = [(asdict(clip), _stamp(clip.source, data), _stamp(clip.video_source, data)) for clip in manifest.clips]
    identity = [FORMAT_VERSION, manifest.name, manifest.class_names, asdict(data.features), video_identity(data), clips, code]
    digest = hashlib.blake2b(json.dumps(identity).encode(), digest_size=6).hexdigest()
    return Path(cache) / f"{manifest.name}-{digest}"


def _stamp(source: str, data: DataConfig) -> tuple[int, int] | None:
    try:
        stat = os.stat(join(data.root, source))
    except (OSError, ValueError):  # a source need not be a path
        return None
    return stat.st_size, stat.st_mtime_ns


def _rows(module: ManifestModule, manifest: Manifest, data: DataConfig, progress: Progress | None) -> Iterator[Row]:
    with one_torch_thread():
        for number, clip in enumerate(manifest.clips):
            yield extract(module, number, clip, data)
            if progress is not None:
                progress(number + 1, len(manifest.clips))
