"""A data set: a list of clips, and optionally its own way to load a clip. Each data set is one module in `datasets/`."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol, cast

from mm_ray.config import DataConfig, flatten
from mm_ray.data.feature_table import SPLITS
from mm_ray.data.media.decode import Media
from mm_ray.errors import UserError, bad_value
from mm_ray.plugins import resolve
from mm_ray.types import UNLABELLED

PACKAGE = "mm_ray.data.datasets"

OPTIONAL = {
    "root": "has no recordings",
    "annotations": "has no lists of its own",
    "classes": "has its classes fixed",
    "label_column": "has labels of its own",
    "group_pattern": "has groups of its own, it reads none from paths",
    "synthetic": "has no dials",
}
"""Options of `DataConfig` that not every data set reads, and what to say where not; a section is all its fields."""


@dataclass(frozen=True)
class Clip:
    """One recording, or a segment of one."""

    id: str
    """Unique in the data set."""
    label: int
    """Index into the manifest's class names; `UNLABELLED` for a training clip whose class is not known."""
    group: str
    """Who or where it was recorded: the unit of the natural partition, in one split unless the folds are by clip."""
    splits: tuple[str, ...]
    """`train`, `dev` or `test`, one per fold."""
    source: str
    """The recording's file below `data.root`, or anything that the module's own `load` understands."""
    video_source: str = ""
    """File of the video or image, if it is another one."""
    start_s: float | None = None
    """Start of the segment in the recording, seconds; `None`: the recording's start."""
    end_s: float | None = None
    """End of the segment, seconds; `None`: the recording's end."""


@dataclass(frozen=True)
class Rejected:
    """A recording that is not used, with the reason."""

    clip_id: str
    source: str
    label: str
    """Class name, if known."""
    group: str
    reason: str
    """One of `mm_ray.data.media.errors.REASONS`."""
    detail: str


@dataclass(frozen=True)
class Manifest:
    """A data set: its name, its class names and its clips, in a fixed order."""

    name: str
    class_names: tuple[str, ...]
    clips: tuple[Clip, ...]
    rejected: tuple[Rejected, ...] = ()
    """Recordings that are rejected without decoding."""
    notes: tuple[str, ...] = ()
    """Notes for the user about the listing, one line each."""
    warnings: tuple[str, ...] = ()
    """Likely mistakes, one line each."""

    @property
    def num_folds(self) -> int:
        """Number of train/dev/test splits."""
        return len(self.clips[0].splits)


NO_LABEL = "(no label)"
"""Shown instead of an unknown class."""


def label_name(label: int, class_names: Sequence[str]) -> str:
    """The name of a clip's class; `NO_LABEL` where it is not known."""
    return NO_LABEL if label == UNLABELLED else class_names[label]


class ManifestModule(Protocol):
    """What a data set's module must define.

    Beside it, `load(clip, data) -> Media` replaces the reading of media files, and `FOLDS` names the kinds of folds that
    `data.folds` chooses from, the default first. `READS` names those of `OPTIONAL` that it reads; the others are refused.
    """

    __file__: str | None

    def read(self, data: DataConfig) -> Manifest:
        """List the clips; decodes no recording."""


def own_load(module: ManifestModule) -> Callable[[Clip, DataConfig], Media] | None:
    """The module's own way to load a clip, if it has one."""
    return cast(Callable[[Clip, DataConfig], Media] | None, getattr(module, "load", None))


def find_manifest(name: str) -> ManifestModule:
    """The data set of that name: a module of `mm_ray/data/datasets`, or your own (`mm_ray.plugins`).

    Raises:
        UserError: An unknown name, or a module without `read`.

    """
    return cast(ManifestModule, resolve("data.name", name, PACKAGE, "read"))


def read_manifest(data: DataConfig) -> Manifest:
    """The checked manifest of a data set.

    Raises:
        UserError: An unknown data set, its files are not where they should be, or it breaks the rules above.

    """
    module = find_manifest(data.name)
    kinds = getattr(module, "FOLDS", ())
    if data.folds and data.folds not in kinds:
        remedy = f"{data.name} has {', '.join(kinds)}" if kinds else f"{data.name} has one kind of folds; leave it out"
        raise bad_value("data.folds", data.folds, remedy)
    refuse_unused(data, getattr(module, "READS", tuple(OPTIONAL)))
    manifest = module.read(data)
    check_manifest(manifest)
    if data.features.window_hop_s:
        _check_window_names(manifest)
    return manifest


def window_name(clip_id: str, index: int) -> str:
    """The id of a recording's window; the first one has the recording's."""
    return f"{clip_id}@{index}" if index else clip_id


def _check_window_names(manifest: Manifest) -> None:
    """Refuse an id that a window of another clip would have."""
    ids = {clip.id for clip in manifest.clips}
    for clip_id in ids:
        found = re.fullmatch(r"(.+)@[1-9][0-9]*", clip_id, re.DOTALL)
        if found and found[1] in ids:
            why = f"with --data.features.window_hop_s that is the name of a window of {found[1]}; give it another id"
            raise UserError(f"{manifest.name}: clip {clip_id}: {why}")


def refuse_unused(data: DataConfig, used: Sequence[str]) -> None:
    """Refuse options that the data set does not read: they would have no effect.

    Raises:
        UserError: It names the first of `OPTIONAL` that is given and not among `used`.

    """
    default = flatten(asdict(DataConfig()))
    for name, value in flatten(asdict(data)).items():
        option = name.partition(".")[0]
        if option in OPTIONAL and option not in used and value != default[name]:
            what = "a feature store" if data.name == "store" else data.name
            raise bad_value(f"data.{name}", value, f"{what} {OPTIONAL[option]}; leave it out")


def check_manifest(manifest: Manifest) -> None:
    """Refuse a manifest that breaks the rules above.

    Raises:
        UserError: No clips, an id that appears twice, a label or split out of range, or clips with different numbers of folds.

    """
    if not manifest.clips:
        raise UserError(f"{manifest.name}: lists no clips; {_why_none(manifest.rejected)}")
    if len(set(manifest.class_names)) < len(manifest.class_names):
        raise UserError(f"{manifest.name}: a class name appears twice; class names must differ")
    seen: set[str] = set()
    for clip in manifest.clips:
        if problem := _problem(manifest, clip, seen):
            raise UserError(f"{manifest.name}: clip {clip.id}: {problem}")
        seen.add(clip.id)


def _why_none(rejected: tuple[Rejected, ...]) -> str:
    if not rejected:
        return "check --data.root"
    return f"all {len(rejected):,} recordings are rejected, the first, {rejected[0].clip_id}, because: {rejected[0].detail}"


def warnings_of(manifest: Manifest) -> tuple[str, ...]:
    """Likely mistakes, one line each: the manifest's own warnings, and those that every data set can have."""
    alike: dict[str, list[str]] = {}
    for name in manifest.class_names:
        alike.setdefault("".join(unicodedata.normalize("NFKC", name).casefold().split()), []).append(name)
    trained = {clip.label for clip in manifest.clips if "train" in clip.splits}
    untrained = [name for label, name in enumerate(manifest.class_names) if label not in trained]
    return (
        *manifest.warnings,
        *(f"classes {' and '.join(map(repr, names))} differ only by case or spaces" for names in alike.values() if names[1:]),
        *([f"{len(untrained)} class(es) have no training clips, such as {untrained[0]!r}"] if untrained else []),
        *(["there is only one class, so there is nothing to classify"] if len(alike) == 1 else []),
    )


def _problem(manifest: Manifest, clip: Clip, seen: set[str]) -> str:
    if clip.id in seen:
        return "its id appears twice; ids must be unique"
    if clip.label == UNLABELLED and set(clip.splits) != {"train"}:
        return "has no label; only training clips may lack one"
    if not UNLABELLED <= clip.label < len(manifest.class_names):
        return f"label {clip.label} is not an index into the {len(manifest.class_names)} class names"
    if not clip.splits or len(clip.splits) != manifest.num_folds:
        return f"has {len(clip.splits)} splits, the first clip has {manifest.num_folds}; give one per fold"
    if unknown := set(clip.splits) - set(SPLITS):
        return f"split {unknown.pop()!r} is not one of {', '.join(SPLITS)}"
    return ""
