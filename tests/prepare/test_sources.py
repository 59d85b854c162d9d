"""Each data set of real naming, from its tree to a feature table."""

import json
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from media_files import colour_at, write_film, write_wav
from media_trees import activitynet, crema_d, csv, folder, ucf101

from mm_ray.config import DataConfig, PartitionConfig
from mm_ray.data.load import load_data
from mm_ray.data.manifest import read_manifest
from mm_ray.data.partition import make_clients
from mm_ray.errors import UserError
from mm_ray.prepare.__main__ import main

IN_COLOUR = ("--data.features.video_size=1", "--data.features.video_color=rgb")


def prepare(build, base, *flags):
    root = base / "root"
    root.mkdir()
    build(root)
    main([build.__name__, str(root), "--out", str(base / "store"), "--serial", *flags])
    return base / "store"


def load(store, fold=0):
    return load_data(DataConfig(name=str(store), fold=fold), "unused")


def rejects(store):
    return pq.read_table(store / "rejected.parquet").to_pylist()


def split_of(table):
    return {
        clip: ("train", "dev", "test")[split] for clip, split in zip(table.clip_ids_N.tolist(), table.splits_N, strict=True)
    }


def test_ucf101(tmp_path, capsys):
    store = prepare(ucf101, tmp_path)
    assert "2 of 3 classes have audio: 28 clips" in capsys.readouterr().out
    for fold in range(3):
        table = load(store, fold)
        assert table.class_names == ("ApplyEyeMakeup", "BandMarching")
        tests = {name for name, split in split_of(table).items() if split == "test"}
        listed = (tmp_path / "root" / "ucfTrainTestlist" / f"testlist{fold + 1:02d}.txt").read_text().split()
        assert tests == {name.removesuffix(".avi") for name in listed if "Archery" not in name}
        dev = Counter(table.group_names[group] for group in table.groups_N[table.rows("dev")])
        assert sorted(dev.values()) == [2, 2]  # a fifth of five groups, whole
    assert "ApplyEyeMakeup_g01" in table.group_names


def test_ucf101_expects_the_published_count(tmp_path):
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    names = [f"C{label}/v_C{label}_g{group:02d}_c01.avi" for label in range(101) for group in (1, 2)]
    for fold in (1, 2, 3):
        (lists / f"trainlist0{fold}.txt").write_text("".join(f"{name} 1\n" for name in names if "g01" in name))
        (lists / f"testlist0{fold}.txt").write_text("".join(f"{name}\n" for name in names if "g02" in name))
    write_film(tmp_path / "UCF-101" / names[1], seconds=1)
    manifest = read_manifest(DataConfig(name="ucf101", root=str(tmp_path)))
    assert manifest.notes[:2] == (
        "1 of 101 classes have audio: 2 clips",
        "UCF101 as published has 6,837 clips in 51 classes with audio",
    )
    assert manifest.notes[2:] == ("with audio here, without as published: C0",)


def test_ucf101_says_which_classes_lack_sound_or_have_it_unexpectedly(tmp_path):
    ucf101(tmp_path)  # Archery has no sound in it
    (note,) = read_manifest(DataConfig(name="ucf101", root=str(tmp_path))).notes[1:]
    assert note == "without audio here, with audio as published: Archery"


def test_activitynet_segments_are_cut_by_time(tmp_path, capsys):
    store = prepare(activitynet, tmp_path, *IN_COLOUR)
    printed = capsys.readouterr().out
    assert "10 of 12 videos were downloaded: 20 of 24 segments" in printed
    assert [(line["reason"], line["clip_id"]) for line in rejects(store)] == [
        ("not_downloaded", f"--{index}abcdefg-{part}") for index in ("05", "09") for part in (0, 1)
    ]
    table = load(store)
    row = table.clip_ids_N.tolist().index("--00abcdefg-0")
    video = table.video_flat_XD[table.video_offsets_N1[row] : table.video_offsets_N1[row + 1]].astype(float)
    shown = np.array([colour_at(1), colour_at(2)], float)  # the segment is 1.0 to 3.0 s, a frame a second
    np.testing.assert_allclose(video, (shown - shown.mean()) / shown.std(), atol=0.15)  # the white square is in it
    lengths = dict(zip(table.clip_ids_N.tolist(), table.audio_lengths(np.arange(20)).tolist(), strict=True))
    assert {lengths[f"--00abcdefg-{part}"] for part in (0, 1)} == {99, 86}  # 2 s and 1.75 s in windows of 40 ms every 20 ms
    assert {clip[:4] for clip, split in split_of(table).items() if split == "test"} == {"--08", "--10", "--11"}


def test_activitynet_classes(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    activitynet(root)
    (tmp_path / "some.txt").write_text("Archery\n\n")
    for classes in ("Archery", str(tmp_path / "some.txt")):
        assert read_manifest(DataConfig(name="activitynet", root=str(root), classes=classes)).class_names == ("Archery",)
    with pytest.raises(UserError, match=r"^--data.classes Archry: did you mean 'Archery'\?"):
        read_manifest(DataConfig(name="activitynet", root=str(root), classes="Archry"))
    (root / "activity_net.v1-3.min.json").write_text(json.dumps([]))
    with pytest.raises(UserError, match="is not ActivityNet's JSON"):
        read_manifest(DataConfig(name="activitynet", root=str(root)))


def test_a_choice_of_classes_and_missing_videos_move_no_split(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    activitynet(root)
    before = {c.id: c.splits for c in read_manifest(DataConfig(name="activitynet", root=str(root))).clips}
    next((root / "training").glob("v_--00*")).unlink()
    after = read_manifest(DataConfig(name="activitynet", root=str(root), classes="Archery")).clips
    assert after
    assert all(before[clip.id] == clip.splits for clip in after)


def test_crema_d_actors_are_clients(tmp_path):
    store = prepare(crema_d, tmp_path)
    tests = []
    for fold in range(5):
        table = load(store, fold)
        assert table.class_names == ("anger", "happiness", "neutral", "sadness")
        assert table.num_clips == 6 * 2 * 4
        tests += sorted({table.group_names[group] for group in table.groups_N[table.rows("test")]})
    assert sorted(tests) == [str(actor) for actor in range(1001, 1007)]
    clients = make_clients(table, PartitionConfig(kind="natural", video_missing=0), seed=0)
    assert [client.num_clips for client in clients] == [8] * len(clients)
    assert table.has_video(np.arange(table.num_clips)).all()


def test_crema_d_in_six_classes(tmp_path):
    crema_d(tmp_path)
    six = ("anger", "disgust", "fear", "happiness", "neutral", "sadness")
    by_actor = read_manifest(DataConfig(name="crema_d", root=str(tmp_path), classes=",".join(six)))
    assert (by_actor.class_names, len(by_actor.clips), by_actor.num_folds) == (six, 6 * 2 * 6, 5)
    by_clip = DataConfig(name="crema_d", root=str(tmp_path), folds="ogm_ge")
    with pytest.raises(UserError, match=r"^--data.annotations '': train.csv is not there; take it from github.com/GeWu-Lab/OG"):
        read_manifest(by_clip)
    names = sorted(clip.id for clip in by_actor.clips)
    (tmp_path / "train.csv").write_text("\ufeff" + "".join(f"{name},{name[9:12]}\n" for name in names[:60]))
    (tmp_path / "test.csv").write_text("".join(f"{name},{name[9:12]}\n" for name in [*names[60:70], "1099_DFA_SAD_XX"]))
    manifest = read_manifest(by_clip)
    assert manifest.class_names == six
    assert Counter(clip.splits for clip in manifest.clips) == {("train",): 54, ("dev",): 6, ("test",): 10}
    assert {clip.id for clip in manifest.clips if clip.splits == ("test",)} == set(names[60:70])
    assert [(line.clip_id, line.reason) for line in manifest.rejected] == [("1099_DFA_SAD_XX", "not_downloaded")]
    assert manifest.notes == ("6 actors, 48 videos; 70 of 71 listed clips",)


def test_crema_d_without_its_wavs_takes_the_sound_of_the_videos(tmp_path):
    for actor in range(1001, 1006):
        write_film(tmp_path / "VideoFlash" / f"{actor}_IEO_SAD_HI.flv", seconds=1)
    manifest = read_manifest(DataConfig(name="crema_d", root=str(tmp_path)))
    assert (manifest.clips[0].source, manifest.clips[0].video_source) == ("VideoFlash/1001_IEO_SAD_HI.flv", "")
    (tmp_path / "VideoFlash" / "1001_IEO_SAD_HI.flv").unlink()
    with pytest.raises(UserError, match="has 4 actors, 5 folds need at least 5"):
        read_manifest(DataConfig(name="crema_d", root=str(tmp_path)))


def test_csv(tmp_path):
    store = prepare(csv, tmp_path, *IN_COLOUR)
    table = load(store, 1)
    assert (table.class_names, table.num_clips, rejects(store)) == (("bell", "horn"), 30, [])
    lengths = dict(zip(table.clip_ids_N.tolist(), table.audio_lengths(np.arange(30)).tolist(), strict=True))
    frames = dict(zip(table.clip_ids_N.tolist(), table.video_lengths(np.arange(30)).tolist(), strict=True))
    assert [lengths[f"bell/0{name}"] for name in (".wav", ".wav@0.25-1.25", ".mp4")] == [74, 49, 99]
    assert [frames[f"bell/0{name}"] for name in (".wav", ".wav@0.25-1.25", ".mp4")] == [1, 1, 2]
    assert split_of(table)["horn/0.wav"] == "test"


def test_rows_of_a_csv_that_make_no_sense(tmp_path):
    write_wav(tmp_path / "root" / "a.wav", np.full(8000, 0.1), 8000)
    write_wav(tmp_path / "out.wav", np.full(8000, 0.2), 8000)
    lines = ["path,label,split,start,end", "a.wav,x,train,,", ",x,train,,", "a.wav,,dev,,", "a.wav,x,later,,"]
    lines += ["a.wav,x,train,one,", "a.wav,x,train,3,2", "a.wav,x,train,,", "../out.wav,x,train,,", "gone.wav,x,train,,"]
    (tmp_path / "mine.csv").write_text("\n".join(lines) + "\n")
    flags = ["--annotations", str(tmp_path / "mine.csv"), "--max-rejected=1", "--serial"]
    main(["csv", str(tmp_path / "root"), "--out", str(tmp_path / "store"), *flags])
    found = [(line["reason"], line["detail"].partition(";")[0].partition(":")[0]) for line in rejects(tmp_path / "store")]
    assert found[:6] == [*[("bad_row", f"line {line}") for line in (3, 4, 5, 6, 7)], ("duplicate", found[5][1])]
    assert [reason for reason, _ in found[6:]] == ["outside_root", "missing"]
    assert load(tmp_path / "store").clip_ids_N.tolist() == ["a.wav"]


def test_a_csv_without_its_columns(tmp_path):
    with pytest.raises(UserError, match=r"^--data.annotations '': not found; expected manifest.csv below data.root"):
        read_manifest(DataConfig(name="csv", root=str(tmp_path)))
    (tmp_path / "manifest.csv").write_text("file,class\na.wav,x\n")
    with pytest.raises(UserError, match="needs a column label and one of path, audio, video; its columns: class, file"):
        read_manifest(DataConfig(name="csv", root=str(tmp_path)))


def test_a_folder_with_its_own_splits(tmp_path):
    for split in ("train", "val", "test"):
        folder(tmp_path / "root" / split)
    manifest = read_manifest(DataConfig(name="folder", root=str(tmp_path / "root"), classes="dog"))
    assert manifest.class_names == ("dog",)
    assert Counter(clip.splits[0] for clip in manifest.clips) == {"train": 5, "dev": 5, "test": 5}
    assert all(clip.source.split("/")[0] in ("val",) for clip in manifest.clips if clip.splits == ("dev",))


def test_avdigits(shared_data, tmp_path):
    from mm_ray.data.datasets import avdigits
    from mm_ray.data.feature_row import extract

    data = DataConfig(name="avdigits", root=str(shared_data))
    row = extract(avdigits, 0, read_manifest(data).clips[0], data)
    assert row.clip.source.startswith("fsdd/recordings/")
    assert row.video_SD.shape == (4, 256)
