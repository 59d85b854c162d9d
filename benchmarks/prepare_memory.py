"""Peak memory of one clip: `python -m benchmarks.prepare_memory FOLDER SECONDS` writes such a film and extracts it.

The film is H.264 and AAC with a key frame every 250 frames, as encoders make them. What counts is the peak of the
process above what it had after a clip of two seconds.
"""

import json
import sys
import time
from pathlib import Path

from benchmarks.prepare_set import write_clip
from mm_ray.config import DataConfig
from mm_ray.data.feature_row import extract, one_torch_thread
from mm_ray.data.manifest import Clip, find_manifest

FPS = 10


def status_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def film(folder: Path, seconds: int) -> Path:
    path = folder / f"{seconds}s.mp4"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_clip(path.with_name(f".{path.name}"), seconds, seed=seconds, form="mp4", fps=FPS)
        path.with_name(f".{path.name}").rename(path)
    return path


def extract_film(path: Path) -> float:
    """Seconds that it took."""
    start = time.perf_counter()
    with one_torch_thread():
        clip = Clip(path.name, 0, path.name, ("train",), path.name)
        extract(find_manifest("folder"), 0, clip, DataConfig(name="folder", root=str(path.parent)))
    return time.perf_counter() - start


def main(folder: str, seconds: str) -> None:
    path = film(Path(folder), int(seconds))
    extract_film(film(Path(folder), 2))
    before = status_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    took = extract_film(path)
    print(json.dumps({"film_s": int(seconds), "peak_mb": round(status_mb("VmHWM") - before, 1), "seconds": round(took, 3)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
