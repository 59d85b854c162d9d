"""From the config to the feature table: features are computed once, stored, and read from then on."""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from mm_ray.config import DataConfig, FeatureConfig
from mm_ray.data.audio_features import audio_identity
from mm_ray.data.dataset_helpers import hold_out
from mm_ray.data.feature_store import FORMAT_VERSION, digest, write_rejected
from mm_ray.data.feature_store_reader import is_finished, read_store, refuse_other_features
from mm_ray.data.feature_table import SPLITS, FeatureTable
from mm_ray.data.file_stamps import file_stamps, root_identity
from mm_ray.data.manifest import PACKAGE, Manifest, ManifestModule, find_manifest, read_manifest, refuse_unused, warnings_of
from mm_ray.data.normalize import by_group
from mm_ray.data.precomputed import with_precomputed
from mm_ray.data.prepare import SHARD_CLIPS, PreparePlan, plan_store, run_here, tasks_of
from mm_ray.data.video_features import refuse_unused_weights, video_identity
from mm_ray.errors import bad_value
from mm_ray.plugins import find_file, modules_in, source_of
from mm_ray.storage import is_folder
from mm_ray.types import UNLABELLED

log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]
"""Called with the number of clips done and their total."""


def load_data(data: DataConfig, cache: str | Path, progress: Progress | None = None) -> FeatureTable:
    """The feature table of a store, or of a data set; its features are computed if `cache` does not hold them yet.

    Args:
        data: Which data, fold and features.
        cache: Folder of the feature stores of data sets, `NAME-DIGEST/`. The digest covers the root, the clips, size, time
            and (of small ones) contents of their files, the feature settings and the manifest module's code; not the fold.
        progress: Called for every clip while features are computed; a call that was stopped is gone on with.

    Raises:
        UserError: An unknown data set, missing or broken recordings, or a fold that the data set does not have.

    """
    if (prepared := prepared_store(data)) is not None:
        if data.folds:
            raise bad_value("data.folds", data.folds, f"{prepared} has the folds that it was prepared with; leave it out")
        table = read_store(prepared, data.fold)
        refuse_unused(replace(data, name="store"), ("root",))
        refuse_unused_weights(data)
        refuse_other_features(prepared, table.features, as_stored(data.features))
        return _as_asked(table, data)
    asked, module = data, find_manifest(data.name)
    stored = replace(data, features=as_stored(data.features))
    manifest, data = with_precomputed(module, read_manifest(stored), stored)
    if not 0 <= data.fold < manifest.num_folds:
        raise bad_value("data.fold", data.fold, f"{data.name} has {manifest.num_folds} fold(s), counted from 0")
    store = store_path(module, manifest, data, cache)
    if not is_finished(store):
        for warning in warnings_of(manifest):
            log.warning("%s: %s", data.name, warning)
        _compute(plan_store(manifest, data, store), progress)
    return _as_asked(read_store(store, data.fold), asked)


def as_stored(features: FeatureConfig) -> FeatureConfig:
    """The settings that a store has: it is normalised over groups when it is read."""
    return replace(features, normalize="none")


def _as_asked(table: FeatureTable, data: DataConfig) -> FeatureTable:
    """What a run makes of a stored table: features normalised, clips for dev taken from the training clips."""
    normalised = by_group(table) if data.features.normalize == "group" else table
    return with_dev_from_train(normalised, data.dev_from_train)


def with_dev_from_train(table: FeatureTable, fraction: float) -> FeatureTable:
    """The table with a fraction of each class's training groups as dev split, by a digest of their names; 0 leaves it.

    Raises:
        UserError: The table has dev clips, or no class has three groups to take one from.

    """
    if not fraction:
        return table
    if num_dev := len(table.rows("dev")):
        raise bad_value("data.dev_from_train", fraction, f"the data has {num_dev:,} dev clips of its own; leave it out")
    rows, groups = table.rows("train"), np.array(table.group_names)
    labels_R, groups_R = table.labels_N[rows], groups[table.groups_N[rows]]
    usable_R = ~np.isin(groups_R, groups_R[labels_R == UNLABELLED])  # dev clips need their class
    by_class = {label: groups_R[usable_R & (labels_R == label)].tolist() for label in np.unique(labels_R)}
    splits = hold_out(by_class, dev=fraction, test=0.0)
    moved = rows[[splits.get(group) == "dev" for group in groups_R]]
    if not len(moved):
        problem = "no class has three groups of training clips to take one from; give some clips the split dev"
        raise bad_value("data.dev_from_train", fraction, problem)
    splits_N = table.splits_N.copy()
    splits_N[moved] = SPLITS.index("dev")
    num_groups = len(np.unique(table.groups_N[moved])), len(np.unique(table.groups_N[rows]))
    log.warning(
        "--data.dev_from_train %g: %s of %s training clips (%s of %s groups) are the dev split now",
        fraction, *(f"{n:,}" for n in (len(moved), len(rows), *num_groups)),
    )  # fmt: skip
    identity = digest([f"{table.fingerprint}/dev_from_train".encode(), moved.astype("<i8").tobytes()])
    return replace(table, splits_N=splits_N, fingerprint=identity)


def prepared_store(data: DataConfig) -> str | None:
    """The place of the feature store that a config names, if it names one: by its path, or as an existing folder."""
    if data.name == "store" and data.root:
        return data.root
    names_code = "." in data.name or data.name.replace("-", "_") in modules_in(PACKAGE) or find_file(f"{data.name}.py")
    return data.name if not names_code and is_folder(data.name) else None


def store_path(module: ManifestModule, manifest: Manifest, data: DataConfig, cache: str | Path) -> Path:
    """Where the features of a manifest are stored."""
    code = source_of(module).decode()
    stamps = file_stamps((name for clip in manifest.clips for name in (clip.source, clip.video_source)), data)
    clips = [(asdict(clip), stamps.get(clip.source), stamps.get(clip.video_source)) for clip in manifest.clips]
    of_features = [FORMAT_VERSION, asdict(data.features), video_identity(data), *filter(None, [audio_identity(data.features)])]
    identity = [*of_features, manifest.name, manifest.class_names, root_identity(data.root), clips, code]
    short = hashlib.blake2b(json.dumps(identity).encode(), digest_size=6).hexdigest()
    place = Path(cache) / f"{manifest.name}-{short}"
    if data.root and not (stamps and all(stamp.shows_changes for stamp in stamps.values())):
        log.warning("--data.root %s: changed recordings cannot be detected there; then remove %s", data.root, place)
    return place


def _compute(plan: PreparePlan, progress: Progress | None) -> None:
    """Compute the features that the store lacks; a recording that cannot be used is an error here."""
    done = len(plan.stored)

    def tick(clips: int) -> None:
        nonlocal done
        done += clips
        if progress is not None:
            progress(done, len(plan.manifest.clips))

    for _ in run_here(tasks_of(plan, SHARD_CLIPS, 1, strict=True), tick):
        pass
    write_rejected(plan.store, plan.rejected)
