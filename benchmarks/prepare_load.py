"""From a store of UCF101's size to the first batch on actors: `python -m benchmarks.prepare_load FOLDER CLIPS ACTORS`.

Each clip has 500 x 80 and 10 x 1280 float16 (noise, which zstd cannot make smaller: the worst case for reading).
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray

from mm_ray.config import DataConfig, FeatureConfig
from mm_ray.data.batching import gather
from mm_ray.data.feature_row import Row
from mm_ray.data.feature_store import settings_of, write_rejected, write_shard
from mm_ray.data.feature_store_reader import is_finished
from mm_ray.data.feature_table import FeatureTable
from mm_ray.data.load import load_data
from mm_ray.data.manifest import Clip, Manifest
from mm_ray.runtime.cluster import connect

NUM_CLASSES, SHARD_CLIPS, BATCH = 51, 64, 16
AUDIO, VIDEO = (500, 80), (10, 1280)


def write_store(store: Path, num_clips: int) -> None:
    clips = tuple(
        Clip(f"c{i:05d}", i % NUM_CLASSES, f"g{i // 4}", (("train", "dev", "test")[i % 5 // 3],), f"c{i:05d}.avi")
        for i in range(num_clips)
    )
    names = tuple(f"class{i}" for i in range(NUM_CLASSES))
    settings = settings_of(Manifest("ucf101_sized", names, clips), DataConfig(features=FeatureConfig()))
    for first in range(0, num_clips, SHARD_CLIPS):
        rng, chosen = np.random.default_rng(first), range(first, min(first + SHARD_CLIPS, num_clips))
        write_shard(store, settings, [Row(i, clips[i], _noise(rng, AUDIO), _noise(rng, VIDEO), 10.0, ()) for i in chosen])
    write_rejected(store, [])


def _noise(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.standard_normal(shape, np.float32).astype(np.float16)


@ray.remote
class Reader:
    """As a client actor: it is made with the table, and gathers a batch."""

    def __init__(self, before: float, table: FeatureTable) -> None:
        self._table, self._ready = table, time.time() - before

    def first_batch(self) -> dict[str, Any]:
        table, private = self._table, _private_mb()
        start = time.perf_counter()
        batch = gather(table, table.rows("train")[:BATCH], ("audio", "video"))
        arrays = [a for a in vars(table).values() if isinstance(a, np.ndarray)]
        return {
            "batch_s": time.perf_counter() - start,
            "from_put_to_table_s": self._ready,
            "bytes_copied": sum(array.nbytes for array in arrays if not _lies_in_shared_memory(array)),
            "bytes_shared": sum(array.nbytes for array in arrays if _lies_in_shared_memory(array)),
            "private_mb": private,
            "shape": [*batch.audio_BTF.shape, *batch.video_BSD.shape[1:]],  # type: ignore[union-attr],
        }

    def empty(self) -> float:
        return _private_mb()


def _private_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


def _lies_in_shared_memory(array: np.ndarray) -> bool:
    """Whether its first and last byte are in a mapping of the object store's file."""
    first = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(part, 16) for part in line.split()[0].split("-"))
        if begin <= first < end:
            return "plasma" in line and first + array.nbytes <= end
    return False


def main(folder: str, num_clips: str, num_actors: str) -> None:
    store = Path(folder)
    if not is_finished(store):
        write_store(store, int(num_clips))
    connect("")
    plain = Reader.remote(time.time(), None)  # type: ignore[attr-defined]
    without_mb = ray.get(plain.empty.remote())
    start = time.perf_counter()
    table = load_data(DataConfig(name=str(store)), "unused")
    read_s = time.perf_counter() - start
    ref = ray.put(table)
    put_s = time.perf_counter() - start - read_s
    actors = [Reader.remote(time.time(), ref) for _ in range(int(num_actors))]  # type: ignore[attr-defined]
    found = ray.get([actor.first_batch.remote() for actor in actors])
    total_s = time.perf_counter() - start
    megabytes = (table.audio_flat_XF.nbytes + table.video_flat_XD.nbytes) / 1e6  # type: ignore[union-attr]
    print(
        json.dumps(
            {
                "clips": table.num_clips,
                "features_mb": round(megabytes, 1),
                "read_s": round(read_s, 2),
                "put_s": round(put_s, 2),
                "to_first_batch_s": round(total_s, 2),
                "actors": found,
                "private_mb_of_an_actor_without_table": without_mb,
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
