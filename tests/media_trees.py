"""Miniature trees of data sets with their real naming; a name of `mm_ray/data/manifests` -> who builds it."""

from media_files import write_film


def folder(root):
    """Two classes, five groups each, which are subfolders."""
    for label in ("cat", "dog"):
        for group in range(5):
            write_film(root / label / f"{label}{group}" / "a.mp4", seconds=1.2, hz=300 + 40 * group)
    return {"root": str(root)}


TREES = {"folder": folder}
"""Each gives the fields of `DataConfig` that find what it built."""
