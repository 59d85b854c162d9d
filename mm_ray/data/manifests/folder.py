"""A folder of recordings: `ROOT/CLASS/...` or, with the splits given, `ROOT/train|dev|test/CLASS/...`.

A subfolder of the class (`ROOT/CLASS/SPEAKER/a.mp4`) is the clip's group, which never crosses a split; without one each clip
is its own. Where no splits are given, a fifth of each class's groups is for test and a fifth for dev, by a digest of their
names.
"""

from collections import defaultdict

from mm_ray.config import DataConfig
from mm_ray.data.listing import SPLIT_NAMES, files_below, hold_out, wanted_classes
from mm_ray.data.manifest import Clip, Manifest, Rejected
from mm_ray.errors import bad_value
from mm_ray.storage import leaves_root


def read(data: DataConfig) -> Manifest:
    """List the files under `data.root` by their folders.

    Raises:
        UserError: No such folder, or no file in a subfolder.

    """
    names = files_below(data.root)
    given = _gives_splits(names)
    placed = {name: folders for name in names if (folders := name.split("/")[given:-1])}
    if not placed:
        problem = f"holds {len(names)} recordings, none in a folder of its class"
        raise bad_value("data.root", data.root, f"{problem}; expected ROOT/CLASS/*.mp4|wav|..., or list them for csv")
    class_names = wanted_classes(data, (folders[0] for folders in placed.values()))
    used = {name: folders for name, folders in placed.items() if folders[0] in class_names}
    groups = {name: "/".join(folders[1:]) or name.rpartition(".")[0] or name for name, folders in used.items()}
    splits = {name: SPLIT_NAMES[name.split("/")[0]] for name in used} if given else _held_out(used, groups)
    clips = [Clip(name, class_names.index(used[name][0]), groups[name], (splits[name],), name) for name in used]
    rejected = [_stray(data, name) for name in names if name not in placed]
    return Manifest("folder", class_names, tuple(clips), tuple(rejected))


def _stray(data: DataConfig, name: str) -> Rejected:
    if leaves_root(data.root, name):
        return Rejected(name, name, "", "", "outside_root", "a link that leaves ROOT")
    return Rejected(name, name, "", "", "no_class", "lies in no class folder")


def _gives_splits(names: list[str]) -> bool:
    tops = {name.split("/")[0] for name in names if "/" in name}
    return "train" in tops and tops <= set(SPLIT_NAMES)


def _held_out(used: dict[str, list[str]], groups: dict[str, str]) -> dict[str, str]:
    by_class: defaultdict[str, list[str]] = defaultdict(list)
    for name, folders in used.items():
        by_class[folders[0]].append(groups[name])
    splits = hold_out(by_class)
    return {name: splits[groups[name]] for name in used}
