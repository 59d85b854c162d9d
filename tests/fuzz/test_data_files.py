"""What users bring: lists of clips, image archives, recordings; and the store's shards."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fed.tiny import tiny_config
from fuzz.cases import CASES, judged, mutants, tiny_student

from mm_ray import predict
from mm_ray.config import DataConfig
from mm_ray.data.datasets.avdigits import _read_mnist
from mm_ray.data.feature_store_reader import read_store
from mm_ray.data.load import load_data
from mm_ray.data.manifest import read_manifest
from mm_ray.data.prepare import make_plan, run_here, tasks_of
from mm_ray.errors import UserError

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


LEADS_NOWHERE = {
    "a\0b.wav,x,,,": "missing", "y" * 300 + ".wav,x,,,": "missing", "../../etc/passwd,x,,,": "outside_root",
    "/etc/passwd,x,,,": "outside_root", "link.wav,x,,,": "outside_root", "http://h/a.wav,x,,,": "missing",
    "s3://b/x.wav,x,,,": "missing", "~/.bashrc,x,,,": "missing", "0.wav/x,x,,,": "missing", ".,x,,,": "missing",
    "/,x,,,": "outside_root", "0.wav,x,nan,,": "bad_row", "0.wav,x,,nan,": "bad_row", "0.wav,x,inf,,": "bad_row",
    "0.wav,x,-inf,inf,": "bad_row", "0.wav,x,1e300,,": "span_outside", "0.wav,x,0,1e-300,": "empty_audio",
    "0.wav,x,,,a\0b.png": "missing", "0.wav,x,,,../x.png": "outside_root", "0.wav,x,,,zz.png": "missing",
    "0.wav,x,,,.": "missing", "0.wav,x,9,1,": "bad_row",
}  # fmt: skip
"""A row of a list, and why it is rejected."""


def test_rows_that_lead_nowhere_are_told_and_the_others_kept(tmp_path, shared_data):
    assert len(LEADS_NOWHERE) == CASES["rows that lead nowhere"]
    root, sound = tmp_path / "root", shared_data / "fsdd/recordings/0_george_0.wav"
    root.mkdir()
    shutil.copyfile(sound, root / "0.wav")
    shutil.copyfile(shared_data / "fsdd/recordings/0_george_1.wav", root / "good.wav")
    (root / "link.wav").symlink_to(sound)
    for number, (row, reason) in enumerate(LEADS_NOWHERE.items()):
        (root / "manifest.csv").write_text(f"path,label,start,end,image\n{row}\ngood.wav,x,,,\n")
        plan = make_plan(DataConfig(name="csv", root=str(root)), str(tmp_path / str(number)))
        (outcomes,) = run_here(tasks_of(plan, 8, 1), lambda clips: None)
        rejected = [*plan.rejected, *(outcome.rejected for outcome in outcomes if outcome.rejected)]
        assert [line.reason for line in rejected] == [reason], row
        assert len(outcomes) - len(rejected) + len(plan.rejected) == 1


def test_a_long_list_of_classes_is_no_file(tmp_path):
    (tmp_path / "manifest.csv").write_text(CSV)
    names = ",".join(["yes"] * 200)  # longer than the name of any file
    assert read_manifest(DataConfig(name="csv", root=str(tmp_path), classes=names)).class_names == ("yes",)


def test_images_that_lack_a_digit(tmp_path, shared_data):
    for folder in ("fsdd/recordings", "mnist10k"):
        (tmp_path / folder).mkdir(parents=True)
    for speaker in "abc":
        for digit in range(10):
            shutil.copyfile(
                shared_data / "fsdd/recordings/0_george_0.wav", tmp_path / f"fsdd/recordings/{digit}_{speaker}_0.wav"
            )
    np.savez(tmp_path / "mnist10k/mnist10k.npz", images=np.zeros((60, 28, 28), np.uint8), labels=np.arange(60) % 9)
    with pytest.raises(UserError, match="has fewer images of 9 than there are speakers"):
        read_manifest(DataConfig(name="avdigits", root=str(tmp_path)))


def test_lists_made_worse(tmp_path):
    share, tables, annotations = (CASES["lists"] - len(ODD_CSV)) // 2, 0, 0
    path = tmp_path / "manifest.csv"
    for data in (*mutants(CSV.encode(), share, seed=1), *ODD_CSV):
        path.write_bytes(data)
        tables += judged(lambda: read_manifest(DataConfig(name="csv", root=str(tmp_path))), path)
    path = tmp_path / "activity_net.v1-3.min.json"
    for name in ("v0", "v1", "v2", "v3"):
        (tmp_path / f"v_{name}.mp4").touch()
    for data in mutants(json.dumps(ACTIVITYNET).encode(), share, seed=2):
        path.write_bytes(data)
        annotations += judged(lambda: read_manifest(DataConfig(name="activitynet", root=str(tmp_path))), path)
    assert 0 < tables < share + len(ODD_CSV)
    assert 0 < annotations < share


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


def test_a_shard_of_another_is_refused(tmp_path):
    """Good Parquet, and something else in it: types, numbers and settings that do not go together."""
    load_data(tiny_config().data, str(tmp_path))
    (store,) = [path.parent for path in tmp_path.rglob("rejected.parquet")]
    shard = next(store.glob("part-*.parquet"))
    whole, table, count = shard.read_bytes(), pq.read_table(shard), 0
    settings = json.loads(table.schema.metadata[b"mm_ray"])

    def refused(changed, described=settings):
        pq.write_table(changed.replace_schema_metadata({"mm_ray": json.dumps(described)}), shard)
        assert not judged(lambda: read_store(store, 0), shard)

    for name in ("row", "clip_id", "label", "splits", "audio", "audio_frames", "video", "video_frames"):
        place, old, rows = table.schema.get_field_index(name), table[name].type, len(table)
        columns = [pa.array([value] * rows) for value in (1.5, b"x", ["never"], [1], {"a": 1})]
        if name in ("label", "audio_frames", "video_frames"):
            columns += [pa.array([value] * rows, old) for value in (-7, 10**6, 2**31 - 1)]
        if name != "video_frames":
            columns.append(pa.array([None] * rows, old))
        for column in columns:
            refused(table.set_column(place, name, column))
        refused(table.remove_column(place))
        count += len(columns) + 1
    for name in ("num_folds", "class_names", "features", "audio_features", "video_features", "fingerprint", "format"):
        for value in (None, -1, [], {}, "x" * 9, 7):
            refused(table, settings | {name: value})
            count += 1
    for name, value in (("num_mels", 10), ("num_mels", "20"), ("hop_ms", 0), ("fps", None), ("code", "os")):
        refused(table, settings | {"features": settings["features"] | {name: value}})
        count += 1
    assert count == CASES["shards of others"]
    shard.write_bytes(whole)
    shutil.copyfile(shard, store / "part-copy.parquet")
    with pytest.raises(UserError, match="twice; was a shard copied"):
        read_store(store, 0)


def test_an_image_archive_made_worse(tmp_path):
    path = tmp_path / "mnist10k.npz"
    np.savez_compressed(path, images=np.zeros((30, 28, 28), np.uint8), labels=np.arange(30) % 10)
    whole, good = path.read_bytes(), 0
    for number, damaged in enumerate(mutants(whole, CASES["images"], seed=4)):
        place = tmp_path / f"{number}.npz"
        place.write_bytes(damaged)
        good += judged(lambda place=place: _read_mnist(place), place)
    assert 0 < good < CASES["images"]


@pytest.fixture
def student(tmp_path):
    return tiny_student(tmp_path)


def test_recordings_made_worse(tmp_path, student, shared_data, capsys):
    files = []
    for source in (shared_data / "fsdd/recordings/0_george_0.wav", *sorted((shared_data / "media").glob("*"))[:3]):
        whole = source.read_bytes()[:200_000]
        for data in mutants(whole, CASES["recordings"] // 4, seed=5):
            files.append(tmp_path / f"{len(files)}{source.suffix}")
            files[-1].write_bytes(data)
    before = [file.read_bytes() for file in files]
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="2"):
        predict.main([str(student), *map(str, files), str(tmp_path / "empty"), str(tmp_path / "none.wav")])
    said = capsys.readouterr()
    answers, errors = said.out.splitlines(), [line for line in said.err.splitlines() if not line.startswith("warning: ")]
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
