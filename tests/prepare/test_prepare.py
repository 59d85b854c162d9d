import numpy as np
import pyarrow.parquet as pq
import pytest
from media_files import colour_at, tone, write_film, write_wav

from mm_ray.config import DataConfig, FeatureConfig
from mm_ray.data.features.log_mel import audio_features
from mm_ray.data.load import load_data
from mm_ray.errors import UserError
from mm_ray.prepare.__main__ import main


@pytest.fixture
def root(tmp_path):
    for label, hz in (("high", 2000), ("low", 300)):
        for index in range(5):
            write_film(tmp_path / "root" / label / f"{index}.mkv", seconds=2, hz=hz + index)
    return tmp_path / "root"


def prepare(root, *flags, out="store"):
    store = root.parent / out
    main(["folder", str(root), "--out", str(store), "--serial", *flags])
    return store


def load(store, **fields):
    return load_data(DataConfig(name=str(store), **fields), store.parent / "unused")


def test_a_folder_becomes_a_table(root):
    table = load(prepare(root, "--data.features.video_size", "4", "--data.features.video-color=rgb"))
    assert table.class_names == ("high", "low")
    assert table.clip_ids_N.tolist() == sorted(f"{label}/{i}.mkv" for label in ("high", "low") for i in range(5))
    assert [len(table.rows(split)) for split in ("train", "dev", "test")] == [6, 2, 2]
    assert table.features == FeatureConfig(video_size=4, video_color="rgb")
    audio_TF = table.audio_flat_XF[: table.audio_offsets_N1[1]]
    assert audio_TF.tobytes() == audio_features(read_back(tone(2000, 2, 48_000)), 48_000, FeatureConfig()).tobytes()
    assert table.video_lengths(np.arange(10)).tolist() == [2] * 10
    low, high = (table.video_flat_XD[i].reshape(4, 4, 3)[2, 1].astype(float) for i in (0, 1))
    step = (high - low) / (np.array(colour_at(1)) - colour_at(0))
    assert np.ptp(step) < 2e-3  # one standardised clip: the same scale for each colour


def read_back(waveform_N):
    return (np.rint(waveform_N * 32767) / 32768).astype(np.float32)


def test_rejects_are_listed_and_counted(root, capsys):
    (root / "low" / "x.wav").write_bytes(b"no media")
    write_wav(root / "low" / "silent.wav", np.zeros(8000), 8000)
    store = prepare(root, "--max-rejected", "0.1")
    lines = pq.read_table(store / "rejected.parquet").to_pylist()
    assert [(line["clip_id"], line["label"], line["reason"]) for line in lines] == [("low/x.wav", "low", "not_media")]
    printed = capsys.readouterr().out
    for text in ("11  stored now", "1    flag silent", "1    flag no_video", "1  rejected", "1    not_media"):
        assert text.replace(" ", "") in printed.replace(" ", "")
    with pytest.raises(UserError, match=r"^--max_rejected 0.05: 8.3% of the clips were rejected; see .*rejected.parquet$"):
        prepare(root)


def test_what_is_left_out_of_long_recordings_is_said(root, capsys):
    for name, seconds in (("a", 1.2), ("b", 2.0), ("c", 1.0)):
        write_wav(root / "low" / f"{name}.wav", tone(300, seconds, 8000), 8000)
    for film in root.glob("*/*.mkv"):
        film.unlink()
    write_wav(root / "high" / "d.wav", tone(3000, 1.0, 8000), 8000)
    prepare(root, "--data.features.max_frames", "50")  # 40 ms and 49 times 20 ms: 1.02 s
    printed = capsys.readouterr().out
    assert "2 recordings are cut off: the longest is 2.0 s long, 1.02 s used; --data.features.max_frames uses more" in printed
    assert "2    flag cut_off" in printed
    prepare(root, out="other")
    assert "cut off" not in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--group-pattern", "--group_pattern", "--data.group-pattern"])
def test_short_flags_take_dashes_and_underscores(root, flag):
    assert set(load(prepare(root, flag, "/([0-9])")).group_names) == set("01234")


def test_nothing_usable_is_a_store_that_says_so(tmp_path):
    (tmp_path / "root" / "a").mkdir(parents=True)
    (tmp_path / "root" / "a" / "x.wav").write_bytes(b"no media")
    store = prepare(tmp_path / "root", "--max-rejected", "1")
    with pytest.raises(UserError, match="holds no clips, all were rejected"):
        load(store)


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ([], "SOURCE: name a data set"),
        (["/some/where"], "^SOURCE /some/where: is a path"),
        (["folder", "nowhere"], "out: name the store"),
        (["folder", "nowhere", "--out", "x"], "^--data.root nowhere: no such folder"),
        (["foldr", "nowhere", "--out", "x"], "did you mean 'folder'"),
        (["folder", "nowhere", "--out", "x", "--max-rejected", "5"], "^--max_rejected 5.0: "),
        (["folder", "nowhere", "--out", "x", "--shard-clips", "0"], "^--shard_clips 0: "),
        (["folder", "nowhere", "--out", "x", "--speed", "5"], "^--speed: no such flag"),
        (
            ["folder", "nowhere", "--out", "x", "--data.features.fps", "0"],
            "--data.features.fps 0.0: must be between 0.0001 and 1,000",
        ),
    ],
)
def test_mistakes_are_one_line(flags, problem):
    with pytest.raises(UserError, match=problem) as caught:
        main(flags)
    assert "\n" not in str(caught.value)


def test_a_store_by_name(root, monkeypatch):
    store = prepare(root)
    monkeypatch.chdir(store.parent)
    assert load_data(DataConfig(name="store"), "unused").fingerprint == load(store).fingerprint
    assert DataConfig(name=str(store)) == DataConfig(name="store", root=str(store))
    with pytest.raises(UserError, match="has 1 fold"):
        load(store, fold=1)
    with pytest.raises(UserError, match=r"^--data.features.num_mels 40: .* was prepared with 80"):
        load(store, features=FeatureConfig(num_mels=40))


def test_an_unfinished_store_is_not_trained_on(root):
    store = prepare(root)
    (store / "rejected.parquet").unlink()
    with pytest.raises(UserError, match="is not a finished store"):
        load(store)
    with pytest.raises(UserError, match="no such store"):
        load(store / "deeper")


def test_a_store_that_cannot_be_written_is_refused_before_ray_starts(root, monkeypatch):
    monkeypatch.setattr("mm_ray.runtime.cluster.connect", lambda address: pytest.fail("Ray was started"))
    (root.parent / "file").write_text("in the way")
    for out in (root.parent / "file", root.parent / "file" / "below"):
        with pytest.raises(UserError, match=rf"^(--out )?{out}: cannot be (written|listed) .*; give a (writable )?folder"):
            main(["folder", str(root), "--out", str(out)])
    assert (root.parent / "file").read_text() == "in the way"
