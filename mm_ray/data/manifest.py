"""What a data set is: a list of clips and a way to load one. A data set is one module in `mm_ray/data/manifests`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from mm_ray.config import DataConfig
from mm_ray.data.media import Media
from mm_ray.data.table import SPLITS
from mm_ray.errors import UserError, bad_value
from mm_ray.names import resolve


@dataclass(frozen=True)
class Clip:
    """One recording."""

    id: str
    """Unique in the data set."""
    label: int
    """Index into the manifest's class names."""
    group: str
    """Who or where it was recorded: the unit of the natural partition, which never crosses a split."""
    splits: tuple[str, ...]
    """`train`, `dev` or `test`, one per fold."""
    source: str
    """Where the recording is: a path (up to a `#`), or whatever the module's `load` understands."""

    @property
    def path(self) -> Path:
        """The recording's file, if `source` is one: its size and time decide whether stored features are still good."""
        return Path(self.source.partition("#")[0])


@dataclass(frozen=True)
class Manifest:
    """A data set: its name, its class names and its clips, in a fixed order."""

    name: str
    class_names: tuple[str, ...]
    clips: tuple[Clip, ...]

    @property
    def num_folds(self) -> int:
        """Number of train/dev/test splits."""
        return len(self.clips[0].splits)


class ManifestModule(Protocol):
    """What a module must have to be a data set."""

    __file__: str | None

    def read(self, data: DataConfig) -> Manifest:
        """List the clips; reads no recording."""

    def load(self, clip: Clip, data: DataConfig) -> Media:
        """Load one clip's recording."""


def find_manifest(name: str) -> ManifestModule:
    """The data set of that name: a module of `mm_ray/data/manifests`, or anything importable by its dotted name.

    Raises:
        UserError: An unknown name, or a module without `read` and `load`.

    """
    module = resolve("data.name", name, "mm_ray.data.manifests")
    if missing := [part for part in ("read", "load") if not hasattr(module, part)]:
        raise bad_value("data.name", name, f"the module has no {' and no '.join(missing)}; docs/data.md shows an example")
    return cast(ManifestModule, module)


def check_manifest(manifest: Manifest) -> None:
    """Refuse a manifest that breaks the rules above.

    Raises:
        UserError: No clips, an id that comes twice, a label or split out of range, or clips with different numbers of folds.

    """
    if not manifest.clips:
        raise UserError(f"{manifest.name}: lists no clips; check data.root")
    seen: set[str] = set()
    for clip in manifest.clips:
        if problem := _problem(manifest, clip, seen):
            raise UserError(f"{manifest.name}: clip {clip.id}: {problem}")
        seen.add(clip.id)


def _problem(manifest: Manifest, clip: Clip, seen: set[str]) -> str:
    if clip.id in seen:
        return "its id comes twice; ids must be unique"
    if not 0 <= clip.label < len(manifest.class_names):
        return f"label {clip.label} is no index into the {len(manifest.class_names)} class names"
    if not clip.splits or len(clip.splits) != manifest.num_folds:
        return f"has {len(clip.splits)} splits, the first clip has {manifest.num_folds}; give one per fold"
    if unknown := set(clip.splits) - set(SPLITS):
        return f"split {unknown.pop()!r} is none of {', '.join(SPLITS)}"
    return ""
