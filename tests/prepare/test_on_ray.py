"""On Ray: the same store as in one process, and a decoder that dies takes one clip with it."""

import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from media_files import tone, write_film, write_wav

from mm_ray.config import DataConfig
from mm_ray.data.load import load_data
from mm_ray.errors import UserError
from mm_ray.prepare.__main__ import main

KILLER = """
import os
from mm_ray.data.feature_row import read_clip
from mm_ray.data.datasets.folder import read

def load(clip, data):
    if clip.id.endswith("/3.wav"):
        os.kill(os.getpid(), 9)
    return read_clip(clip, data)
"""


def table(store):
    return load_data(DataConfig(name=str(store)), "unused")


def test_ray_and_one_process_write_the_same_store(tmp_path, local_ray):
    for label in ("a", "b"):
        for index in range(6):
            write_film(tmp_path / "root" / label / f"{index}.mp4", seconds=1, hz=300 + 50 * index + ord(label))
        (tmp_path / "root" / label / "bad.mp4").write_bytes(label.encode() * 1000)
    flags = ["--max-rejected", "0.2", "--shard-clips", "2"]
    main(["folder", str(tmp_path / "root"), "--out", str(tmp_path / "serial"), "--serial", *flags])
    main(["folder", str(tmp_path / "root"), "--out", str(tmp_path / "ray"), *flags])
    assert table(tmp_path / "ray").fingerprint == table(tmp_path / "serial").fingerprint
    assert len(list((tmp_path / "ray").glob("part-*"))) > 2
    lines = [sorted(pq.read_table(tmp_path / name / "rejected.parquet").to_pylist(), key=str) for name in ("ray", "serial")]
    assert lines[0] == lines[1]


def test_a_mistake_in_a_worker_is_one_line(tmp_path, local_ray):
    write_film(tmp_path / "root" / "a" / "0.mp4", seconds=1)
    flags = ["--out", str(tmp_path / "store"), "--data.features.video", "numpy:asarray"]
    with pytest.raises(UserError, match=r"^--data.features.video numpy:asarray: returned shape \(1, 48, 64, 3\)") as caught:
        main(["folder", str(tmp_path / "root"), *flags])
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_clip_that_kills_its_process_is_rejected_alone(tmp_path):
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "killer.py").write_text(KILLER)
    for index in range(24):
        write_wav(tmp_path / "root" / "ab"[index % 2] / f"{index}.wav", tone(300 + 50 * index, 1, 8000), 8000)
    command = [sys.executable, "-m", "mm_ray.prepare", "lab.killer", str(tmp_path / "root"), "--out", str(tmp_path / "store")]
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"} | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([*command, "--max-rejected", "0.2"], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    lines = pq.read_table(tmp_path / "store" / "rejected.parquet").to_pylist()
    assert [(line["clip_id"], line["reason"]) for line in lines] == [("b/3.wav", "crashed")]
    assert table(tmp_path / "store").num_clips == 23
