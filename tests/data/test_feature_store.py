import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from media_files import tone, write_wav

from mm_ray.config import DataConfig, FeatureConfig, SyntheticConfig
from mm_ray.data import load
from mm_ray.data.feature_row import Row, extract
from mm_ray.data.feature_store import Settings, settings_of, write_rejected, write_shard
from mm_ray.data.feature_store_reader import read_store
from mm_ray.data.load import load_data, store_path
from mm_ray.data.manifest import Clip, Manifest, check_manifest, find_manifest
from mm_ray.data.media.decode import Media
from mm_ray.data.media.errors import MediaError
from mm_ray.errors import UserError

FEATURES = FeatureConfig(num_mels=4, video_size=2)
MANIFEST = Manifest(
    "toy",
    ("no", "yes"),
    (
        Clip("a", 1, "y", ("train", "test"), "a.wav"),
        Clip("b", 0, "x", ("dev", "train"), "b.wav"),
        Clip("c", 1, "y", ("test", "dev"), "c.wav"),
    ),
)
SMALL = DataConfig(synthetic=SyntheticConfig(num_classes=2, num_groups=5, clips_per_class=10))

OWN_DATA = """
import numpy as np
from mm_ray.data.manifest import Clip, Manifest
from mm_ray.data.media.decode import Media

def read(data):
    splits = ("train", "train", "dev", "test")
    return Manifest("own", ("low", "high"), tuple(Clip(f"c{i}", i % 2, "all", (splits[i],), f"c{i}") for i in range(4)))

def load(clip, data):
    return Media(np.sin(np.arange(8000) * (0.1 + clip.label)).astype(np.float32), 8000)
"""


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    audio = [rng.standard_normal((frames, 4)).astype(np.float16) for frames in (2, 4, 1)]
    video = [rng.standard_normal((2, 4)).astype(np.float16), None, rng.standard_normal((3, 4)).astype(np.float16)]
    return audio, video


def write_store(store, manifest, features, audio, video, shards=1):
    clips = zip(manifest.clips, audio, video, strict=True)
    rows = [Row(number, clip, *arrays, 1.5, ("no_video",)) for number, (clip, *arrays) in enumerate(clips)]
    for shard in range(shards):
        write_shard(store, settings_of(manifest, DataConfig(features=features)), rows[shard::shards])
    write_rejected(store, [])


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_round_trip_is_bit_equal(tmp_path, shards):
    audio, video = arrays()
    write_store(tmp_path / "deep" / "x", MANIFEST, FEATURES, audio, video, shards)
    table = read_store(tmp_path / "deep" / "x", fold=1)
    assert table.audio_flat_XF.tobytes() == np.concatenate(audio).tobytes()
    assert table.audio_offsets_N1.tolist() == [0, 2, 6, 7]
    assert table.video_flat_XD.tobytes() == np.concatenate([video[0], video[2]]).tobytes()
    assert table.video_offsets_N1.tolist() == [0, 2, 2, 5]
    assert table.labels_N.tolist() == [1, 0, 1]
    assert (table.groups_N.tolist(), table.group_names) == ([1, 0, 1], ("x", "y"))
    assert [table.rows(split).tolist() for split in ("train", "dev", "test")] == [[1], [2], [0]]
    assert table.clip_ids_N.tolist() == ["a", "b", "c"]
    assert (table.class_names, table.features) == (("no", "yes"), FEATURES)
    names = sorted(path.name[:5] for path in (tmp_path / "deep" / "x").iterdir())
    assert names == ["part-"] * shards + ["rejec"]


def test_data_without_video(tmp_path):
    audio, _ = arrays()
    write_store(tmp_path / "x", MANIFEST, FEATURES, audio, [None] * 3)
    table = read_store(tmp_path / "x", fold=0)
    assert table.video_flat_XD is None
    assert table.video_offsets_N1.tolist() == [0, 0, 0, 0]


def test_the_fingerprint_knows_contents_and_fold(tmp_path):
    audio, video = arrays()
    others = [arrays(1)[0], video], [audio, [None, *video[1:]]]
    for name, contents in zip("xyzu", ([audio, video], [audio, video], *others), strict=True):
        write_store(tmp_path / name, MANIFEST, FEATURES, *contents)
    x, y, z, u = (read_store(tmp_path / name, 0).fingerprint for name in "xyzu")
    assert x == y
    assert len({x, z, u, read_store(tmp_path / "x", 1).fingerprint}) == 4


def test_shards_do_not_matter_to_the_fingerprint(tmp_path):
    audio, video = arrays()
    for shards in (1, 2, 3):
        write_store(tmp_path / str(shards), MANIFEST, FEATURES, audio, video, shards)
    assert len({read_store(tmp_path / str(shards), 0).fingerprint for shards in (1, 2, 3)}) == 1


def test_settings_that_came_later_and_are_off_leave_the_fingerprint_of_older_stores(tmp_path):
    write_store(tmp_path, MANIFEST, FEATURES, *arrays())
    assert read_store(tmp_path, 0).fingerprint == "0a5618d62b497cb7a2efeea1a6112704"
    content = settings_of(MANIFEST, DataConfig(features=FEATURES)).to_json()
    assert "audio_identity" not in content
    assert "window_hop_s" not in content["features"]


def test_features_are_computed_once(tmp_path):
    seen = []
    first = load_data(SMALL, tmp_path, lambda done, total: seen.append((done, total)))
    assert seen == [(done, 20) for done in range(1, 21)]
    again = load_data(SMALL, tmp_path, lambda *_: pytest.fail("computed again"))
    assert first.fingerprint == again.fingerprint
    assert len(list(tmp_path.glob("synthetic-????????????"))) == 1


def test_features_that_were_stopped_are_gone_on_with(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "SHARD_CLIPS", 6)
    whole, seen = load_data(SMALL, tmp_path / "whole"), []

    def stop(done, total):
        if done == 15:  # in the third shard: 6 and 6 and 4 and 4 clips
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_data(SMALL, tmp_path / "stopped", stop)
    stopped = load_data(SMALL, tmp_path / "stopped", lambda done, total: seen.append((done, total)))
    assert seen == [(done, 20) for done in range(13, 21)]
    assert stopped.fingerprint == whole.fingerprint
    assert stopped.audio_flat_XF.tobytes() == whole.audio_flat_XF.tobytes()
    assert len(list((tmp_path / "stopped").rglob("part-*"))) == len(list((tmp_path / "whole").rglob("part-*"))) == 4


def test_a_recording_that_cannot_be_used_ends_the_run_and_loses_no_finished_shard(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "SHARD_CLIPS", 2)
    for name in ("a/0", "a/1", "a/2", "b/0", "b/1", "b/2"):
        write_wav(tmp_path / "root" / f"{name}.wav", tone(300, 1, 8000), 8000)
    (tmp_path / "root/b/1.wav").write_bytes(b"no media")
    data = DataConfig(name="folder", root=str(tmp_path / "root"))
    with pytest.raises(UserError, match=r"root/b/1\.wav: "):
        load_data(data, tmp_path / "cache")
    assert len(list(tmp_path.glob("cache/*/part-*"))) == 2


@pytest.mark.parametrize(
    "other",
    [
        DataConfig(synthetic=SyntheticConfig(num_classes=2, num_groups=5, clips_per_class=10, audio_snr_db=3)),
        DataConfig(synthetic=SyntheticConfig(num_classes=2, num_groups=5, clips_per_class=10, label_noise=0.9)),
        DataConfig(synthetic=SMALL.synthetic, features=FeatureConfig(num_mels=40)),
    ],
)
def test_other_settings_are_another_store(tmp_path, other):
    assert load_data(SMALL, tmp_path).fingerprint != load_data(other, tmp_path).fingerprint
    assert len(list(tmp_path.iterdir())) == 2


def test_a_fold_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"^--data.fold 1: synthetic has 1 fold\(s\), counted from 0$"):
        load_data(DataConfig(fold=1), tmp_path)


def test_own_data_by_a_dotted_name(tmp_path, monkeypatch):
    package = tmp_path / "lab"
    package.mkdir()
    (package / "tones.py").write_text(OWN_DATA)
    (package / "half.py").write_text("def load(clip, data): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    table = load_data(DataConfig(name="lab.tones"), tmp_path)
    assert table.class_names == ("low", "high")
    assert table.video_flat_XD is None
    with pytest.raises(UserError, match=r"^--data.name lab.half: the module has no read;"):
        load_data(DataConfig(name="lab.half"), tmp_path)


def test_a_changed_recording_is_computed_anew(tmp_path, monkeypatch):
    recording = tmp_path / "r.wav"
    manifest = Manifest("own", ("a",), (Clip("c", 0, "g", ("train",), str(recording)),))
    recording.write_bytes(b"1")
    module = find_manifest("synthetic")
    before = store_path(module, manifest, SMALL, tmp_path)
    recording.write_bytes(b"12")
    assert store_path(module, manifest, SMALL, tmp_path) != before
    assert store_path(module, manifest, SMALL, tmp_path).parent == Path(tmp_path)


def test_unknown_data():
    with pytest.raises(UserError, match=r"^--data.name sinthetic: did you mean 'synthetic'\?"):
        find_manifest("sinthetic")


@pytest.mark.parametrize(
    ("clips", "problem"),
    [
        ((), "lists no clips"),
        ((Clip("a", 0, "g", ("train",), ""), Clip("a", 0, "g", ("train",), "")), "its id appears twice"),
        ((Clip("a", 1, "g", ("train",), ""),), "label 1 is not an index"),
        ((Clip("a", 0, "g", ("train",), ""), Clip("b", 0, "g", ("train", "dev"), "")), "has 2 splits"),
        ((Clip("a", 0, "g", ("valid",), ""),), "split 'valid' is not one of train, dev, test"),
    ],
)
def test_a_broken_manifest_is_refused(clips, problem):
    with pytest.raises(UserError, match=problem):
        check_manifest(Manifest("bad", ("only",), clips))


def rewritten(store, change, **described):
    """A store of one shard, whose columns and settings are changed by one who keeps to Parquet."""
    write_store(store, MANIFEST, FEATURES, *arrays())
    (shard,) = store.glob("part-*.parquet")
    table = pq.read_table(shard)
    settings = json.loads(table.schema.metadata[b"mm_ray"])
    settings |= described | {"features": settings["features"] | described.get("features", {})}
    columns = change(table.to_pydict())
    changed = pa.table({name: pa.array(columns[name], table.schema.field(name).type) for name in table.schema.names})
    pq.write_table(changed.replace_schema_metadata({"mm_ray": json.dumps(settings)}), shard)
    return store


def with_first(name, value):
    return lambda columns: columns | {name: [value, *columns[name][1:]]}


@pytest.mark.parametrize(
    ("change", "described", "problem"),
    [
        (with_first("audio_frames", 501), {}, "a clip has audio_frames outside 0 to 500"),
        (with_first("audio_frames", 500_000), {"features": {"max_frames": 400}}, "a clip has audio_frames outside 0 to 400"),
        (with_first("audio_frames", -1), {}, "a clip has audio_frames outside"),
        (with_first("video_frames", 11), {}, "a clip has video_frames outside 0 to 10"),
        (with_first("audio", [0.0] * 1_000_000), {}, "1,000,020 audio features where its clips have 28"),
        (with_first("video", None), {}, "13 video features where its clips have 20"),
        (lambda columns: columns, {"video_features": 10**9}, "20 video features where its clips have 5,000,000,000"),
        (with_first("audio", [1.0] * 7 + [np.inf]), {}, "features that are not finite"),
        (with_first("video", [1.0] * 7 + [np.nan]), {}, "features that are not finite"),
    ],
)
def test_a_shard_s_claims_are_bounded_by_its_settings(tmp_path, change, described, problem):
    with pytest.raises(UserError, match=problem):
        read_store(rewritten(tmp_path / "x", change, **described), 0)


def test_the_largest_features_are_finite(tmp_path):
    table = read_store(rewritten(tmp_path / "x", with_first("audio", [65504.0, -65504.0] * 4)), 0)
    assert table.audio_flat_XF.max() == 65504


def test_features_that_are_not_finite_reject_their_clip():
    loud = SimpleNamespace(load=lambda clip, data: Media(np.full(800, 1e30, np.float32), 8000))
    with pytest.raises(MediaError, match=r"^a.wav: has samples that are not finite"), np.errstate(all="ignore"):
        extract(loud, 0, MANIFEST.clips[0], DataConfig())


def test_settings_without_a_pretrained_encoder_are_those_of_before():
    settings = Settings("x", ("a", "b"), 1, FEATURES)
    assert sorted(settings.to_json()) == ["class_names", "features", "format", "name", "num_folds", "video_identity"]
    pretrained = Settings("x", ("a", "b"), 1, FEATURES, audio_identity="weights")
    for each in (settings, pretrained):
        assert Settings.from_json(json.loads(json.dumps(each.to_json()))) == each
