"""What users bring: lists of clips, image archives, recordings; and the store's shards."""

import json
import shutil

import numpy as np
import pytest
from fed.tiny import tiny_config
from fuzz.cases import CASES, judged, mutants

from mm_ray import predict
from mm_ray.config import DataConfig
from mm_ray.data.load import load_data
from mm_ray.data.manifest import read_manifest
from mm_ray.data.manifests.avdigits import _read_mnist
from mm_ray.data.store_reader import read_store
from mm_ray.models.network import PARTS, init_part
from mm_ray.models.student import save_student
from mm_ray.seeding import torch_stream
from mm_ray.types import Shapes

CSV = "id,path,label,group,split,start,end\na,a.wav,yes,g1,train,0,1\nb,b.wav,no,g2,dev,,\nc,c.wav,yes,g3,test,0.5,2.5\n"
ACTIVITYNET = {
    "database": {
        f"v{i}": {"subset": subset, "annotations": [{"label": label, "segment": [0.0, 2.5]}]}
        for i, (subset, label) in enumerate([("training", "a"), ("training", "b"), ("training", "a"), ("validation", "b")])
    }
}
ODD_CSV = (
    b"", b"\n", b"label\n", b"path,label\n", b"path,label\n\x00,\x00\n", b'path,label\n"a.wav,x\n', b"path,label\na.wav\n",
    b"path,label\na.wav,x,y,z\n", b"path,label,split\na.wav,x,never\n", b"path,path,label\na,b,c\n", b"\xff\xfe",
    b"path;label\na;b\n",     b"path,label,start\na.wav,x,nan\n", b"path,label,start\na.wav,x,inf\n",
    b"path,label\n" + b"x" * 200_000 + b",x\n",
    b"path,label\r\na.wav,x\rb.wav,y\n",
)  # fmt: skip


def test_lists_made_worse(tmp_path):
    share = (CASES["lists"] - len(ODD_CSV)) // 2
    path = tmp_path / "manifest.csv"
    for data in (*mutants(CSV.encode(), share, seed=1), *ODD_CSV):
        path.write_bytes(data)
        judged(lambda: read_manifest(DataConfig(name="csv", root=str(tmp_path))), path)
    path = tmp_path / "activity_net.v1-3.min.json"
    for name in ("v0", "v1", "v2", "v3"):
        (tmp_path / f"v_{name}.mp4").touch()
    for data in mutants(json.dumps(ACTIVITYNET).encode(), share, seed=2):
        path.write_bytes(data)
        judged(lambda: read_manifest(DataConfig(name="activitynet", root=str(tmp_path))), path)


def test_a_shard_made_worse_is_never_taken_for_another(tmp_path):
    data = tiny_config().data
    table = load_data(data, str(tmp_path))
    (store,) = [path.parent for path in tmp_path.rglob("rejected.parquet")]
    shard = next(store.glob("part-*.parquet"))
    whole = shard.read_bytes()

    def read():
        again = read_store(store, 0)
        assert np.array_equal(again.audio_flat_XF, table.audio_flat_XF, equal_nan=True)
        assert list(again.labels_N) == list(table.labels_N)

    for damaged in mutants(whole, CASES["shards"], seed=3):
        shard.write_bytes(damaged)
        judged(read, shard)


def test_an_image_archive_made_worse(tmp_path):
    path = tmp_path / "mnist10k.npz"
    np.savez_compressed(path, images=np.zeros((30, 28, 28), np.uint8), labels=np.arange(30) % 10)
    whole = path.read_bytes()
    for number, damaged in enumerate(mutants(whole, CASES["images"], seed=4)):
        place = tmp_path / f"{number}.npz"
        place.write_bytes(damaged)
        judged(lambda place=place: _read_mnist(place), place)


@pytest.fixture
def student(tmp_path):
    config, shapes = tiny_config(), Shapes(20, 0, 4)
    params = {part: init_part(part, config.model, shapes, torch_stream(0, part)) for part in PARTS["audio"]}
    return save_student(tmp_path, params, config.model, shapes, ("a", "b", "c", "d"), config.data.features)


def test_recordings_made_worse(tmp_path, student, shared_data, capsys):
    files = []
    for source in (shared_data / "fsdd/recordings/0_george_0.wav", *sorted((shared_data / "media").glob("*"))[:3]):
        whole = source.read_bytes()[:200_000]
        for data in mutants(whole, CASES["recordings"] // 4, seed=5):
            files.append(tmp_path / f"{len(files)}{source.suffix}")
            files[-1].write_bytes(data)
    before = [file.read_bytes() for file in files]
    with pytest.raises(SystemExit, match="2"):
        predict.main([str(student), *map(str, files), str(tmp_path), str(tmp_path / "none.wav")])
    said = capsys.readouterr()
    answers, errors = said.out.splitlines(), said.err.splitlines()
    assert len(answers) + len(errors) == len(files) + 2, "one line each"
    assert all(line.startswith("error: ") for line in errors)
    assert 0 < len(answers) < len(files)
    assert [file.read_bytes() for file in files] == before


def test_one_good_recording_among_bad_ones_is_heard(tmp_path, student, shared_data, capsys):
    good = tmp_path / "good.wav"
    shutil.copyfile(shared_data / "fsdd/recordings/0_george_0.wav", good)
    bad = tmp_path / "bad.wav"
    bad.write_bytes(good.read_bytes()[:100])
    with pytest.raises(SystemExit, match="2"):
        predict.main([str(student), str(bad), str(good)])
    said = capsys.readouterr()
    assert (said.out.count("\n"), said.err.count("\n")) == (1, 1)
