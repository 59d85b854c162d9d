"""RAVDESS: the official archive, the precomputed action units, folds by actor."""

from collections import Counter

import numpy as np
import pytest
from media_files import tone, write_film, write_wav
from media_trees import ravdess

from mm_ray.config import DataConfig, FeatureConfig
from mm_ray.data.load import load_data
from mm_ray.data.manifest import read_manifest
from mm_ray.errors import UserError


def listed(root, **data):
    return read_manifest(DataConfig(name="ravdess", root=str(root), **data))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    root = tmp_path_factory.mktemp("ravdess")
    ravdess(root)
    return root


def test_actors_are_held_out_four_at_a_time(archive):
    manifest = listed(archive)
    assert manifest.num_folds == 6
    for fold in range(6):
        homes = {split: {c.group for c in manifest.clips if c.splits[fold] == split} for split in ("train", "dev", "test")}
        assert homes["test"] == {f"Actor_{actor:02d}" for actor in range(4 * fold + 1, 4 * fold + 5)}
        first = 4 * ((fold + 1) % 6) + 1
        assert homes["dev"] == {f"Actor_{actor:02d}" for actor in range(first, first + 4)}
        assert len(homes["train"]) == 16


def test_the_archive(archive):
    manifest = listed(archive)
    clips = {clip.id: clip for clip in manifest.clips}
    both = clips["01-05-01-01-01-01"]
    assert (manifest.class_names[both.label], both.group) == ("angry", "Actor_01")
    assert both.source.endswith("Actor_01/03-01-05-01-01-01-01.wav")
    assert both.video_source.endswith("Actor_01/01-01-05-01-01-01-01.mp4")
    assert (clips["01-05-01-01-01-03"].source, clips["01-05-01-01-01-03"].video_source) == (
        "Video_Speech_Actor_03/Actor_03/01-01-05-01-01-01-03.mp4",
        "",
    )
    assert Counter((r.reason, r.source.rpartition("/")[2]) for r in manifest.rejected) == {
        ("bad_name", "03-01-09-01-01-01-01.wav"): 1,
        ("bad_name", "03-01-05-01-01-01-25.wav"): 1,
        ("bad_name", "happy.mp4"): 1,
        ("not_downloaded", "02-01-05-01-01-02-01.mp4"): 1,
    }
    expected = "192 of 1,440 recordings of speech; 1 song files are left out; 1 files appear more than once, the first"
    assert manifest.notes[0].startswith(expected)


def test_classes_and_missing_actors(archive, tmp_path):
    assert listed(archive, classes="happy,sad").class_names == ("happy", "sad")
    assert {clip.label for clip in listed(archive, classes="happy,sad").clips} == {0, 1}
    for actor in range(1, 9):
        write_wav(tmp_path / f"Actor_{actor:02d}" / f"03-01-01-01-01-01-{actor:02d}.wav", tone(300 + actor, 0.2, 8000), 8000)
    with pytest.raises(
        UserError, match=r"^--data.root .*: fold 0 has no train: none of the actors 09, .*, 24 is there; expected"
    ):
        listed(tmp_path)


def action_units(root, rows):
    clips = [f"03-01-{e:02d}-01-01-01-{actor:02d}" for actor in range(1, 25) for e in (1, 3)]
    for index, clip in enumerate(clips):
        write_wav(root / "wav" / f"{clip}.wav", tone(300 + 2 * index, 0.2, 8000), 8000)
    order = np.random.default_rng(0).permutation(len(clips))
    (root / "meta.csv").write_text("clip,sex\n" + "".join(f"{clips[i]},F\n" for i in order))
    np.save(root / "au35.npy", np.stack([np.full(rows, i, np.float32) for i in order]))
    return clips


def test_action_units_are_found_by_name(tmp_path):
    clips = action_units(tmp_path, 35)
    table = load_data(DataConfig(name="ravdess", root=str(tmp_path)), tmp_path / "cache")
    assert (table.features.video, table.shapes.video_features, table.num_clips) == ("precomputed", 35, 48)
    place = {clip.partition("-")[2]: number for number, clip in enumerate(clips)}
    assert [table.video_flat_XD[row, 0] for row in range(48)] == [place[clip] for clip in table.clip_ids_N.tolist()]


def test_videos_go_before_action_units_unless_asked(tmp_path):
    action_units(tmp_path, 3)
    write_film(tmp_path / "01-01-01-01-01-01-01.mp4", seconds=0.5)
    assert [c.video_source for c in listed(tmp_path).clips if c.video_source] == ["01-01-01-01-01-01-01.mp4"]
    asked = listed(tmp_path, features=FeatureConfig(video="precomputed"))
    assert all(clip.video_source.startswith("au35.npy#") for clip in asked.clips)


def test_recordings_without_action_units_are_counted(tmp_path):
    clips = action_units(tmp_path, 3)
    write_wav(tmp_path / "wav" / "03-01-02-01-01-01-01.wav", tone(150, 0.2, 8000), 8000)
    manifest = listed(tmp_path)
    assert len(manifest.clips) == len(clips) + 1
    assert manifest.notes[1:] == ("1 recordings have no row in meta.csv: audio only",)


def test_action_units_that_do_not_fit_their_list(tmp_path):
    action_units(tmp_path, 3)
    np.save(tmp_path / "au35.npy", np.zeros((47, 3)))
    with pytest.raises(UserError, match=r"meta.csv: has 48 rows, au35.npy has 47; give a row for each"):
        listed(tmp_path)
    np.save(tmp_path / "au35.npy", np.float32(1))
    with pytest.raises(UserError, match=r"au35.npy: is not an array that NumPy reads without pickle"):
        listed(tmp_path)
    (tmp_path / "meta.csv").write_text("name\n")
    with pytest.raises(UserError, match=r"meta.csv: has no column clip"):
        listed(tmp_path)


def test_the_real_recordings(shared_data, tmp_path):
    manifest = listed(shared_data / "ravdess")
    assert (len(manifest.clips), len(manifest.class_names), manifest.rejected) == (1440, 8, ())
    assert Counter(clip.splits[0] for clip in manifest.clips) == {"train": 960, "dev": 240, "test": 240}
    assert sorted(Counter(clip.label for clip in manifest.clips).values()) == [96] + [192] * 7
