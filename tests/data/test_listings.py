"""What `folder`, `csv`, `activitynet` and `crema_d` make of names; no recording is decoded, so the files are empty."""

import json
import unicodedata
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mm_ray.config import DataConfig
from mm_ray.data.dataset_helpers import SPLIT_NAMES, split_of, splits_of, tidy
from mm_ray.data.manifest import Manifest, check_manifest, read_manifest, warnings_of
from mm_ray.errors import UserError
from mm_ray.types import UNLABELLED


def touch(root, *names):
    for name in names:
        Path(root, name).parent.mkdir(parents=True, exist_ok=True)
        Path(root, name).touch()


def listed(root, name="folder", **fields):
    return read_manifest(DataConfig(name=name, root=str(root), **fields))


def table(root, *lines, **fields):
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")
    return listed(root, "csv", **fields)


def labels(manifest):
    return Counter((manifest.class_names[clip.label], clip.splits[0]) for clip in manifest.clips)


@pytest.mark.parametrize(
    ("train", "dev", "test"),
    [
        ("train", "dev", "test"),
        ("Train", "Dev", "Test"),
        ("TRAINING", "Validation", "TESTING"),
        ("train ", "val", "eval"),
        ("training", "eval", "test"),
        ("train", "VALID", "Evaluation"),
    ],
)
@pytest.mark.parametrize("within", [False, True])
def test_splits_go_by_many_names_and_lie_above_or_within_the_classes(tmp_path, train, dev, test, within):
    for label in ("cat", "dog"):
        for split in (train, dev, test):
            touch(tmp_path, f"{label}/{split}/ann/a.wav" if within else f"{split}/{label}/ann/a.wav")
    manifest = listed(tmp_path)
    assert labels(manifest) == {(label, split): 1 for label in ("cat", "dog") for split in ("train", "dev", "test")}
    assert {clip.group for clip in manifest.clips} == {"ann"}
    assert f"train from {train}/" in manifest.notes[0]


def test_names_of_splits_are_lower_case_and_eval_gives_way():
    assert all(split_of(name.upper() + " ") == split for name, split in SPLIT_NAMES.items())
    assert [split_of(name) for name in ("trainer", "", "pretest")] == ["", "", ""]
    assert splits_of(["train", "val", "eval"])["eval"] == "test"
    assert splits_of(["train", "Eval", "test"]) == {"train": "train", "Eval": "dev", "test": "test"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/a/x.wav", "test/a/x.wav", "noise/x.wav"], r"named like splits \(test, train\) beside others \(noise\)"),
        (["test/a/x.wav", "val/a/x.wav"], r"named like splits \(test, val\) and none for training"),
        (["a/train/x.wav", "a/test/x.wav", "b/x.wav"], r"a/ has a folder for each split, but recordings of b/ are in none"),
        (["a/train/x.wav", "a/test/x.wav", "b/ann/x.wav"], r"a/ has a folder for each split, but recordings of b/ are in"),
        (["a/train/x.wav", "a/test/x.wav", "a/x.wav"], r"a/ has a folder for each split, but recordings of a/ are in none"),
        (["a/train/x.wav", "a/test/x.wav", "a/ann/x.wav"], r"splits \(a/test, a/train\) beside others \(a/ann\)"),
    ],
)
def test_folders_some_of_which_are_named_like_splits_are_refused(tmp_path, names, message):
    touch(tmp_path, *names)
    with pytest.raises(UserError, match=message):
        listed(tmp_path)


def test_a_class_may_be_called_train_and_a_speaker_val(tmp_path):
    touch(tmp_path, *(f"{label}/{speaker}/x.wav" for label in ("train", "bus") for speaker in ("ann", "bob", "val")))
    manifest = listed(tmp_path)
    assert manifest.class_names == ("bus", "train")
    assert {clip.group for clip in manifest.clips} == {"ann", "bob", "val"}


def test_blanks_and_unicode_forms_make_no_class(tmp_path):
    cafe = [unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD")]
    touch(tmp_path, "cat/a.wav", "cat /b.wav", " cat/c.wav", f"{cafe[0]}/a.wav", f"{cafe[1]}/b.wav")
    manifest = listed(tmp_path)
    assert manifest.class_names == (cafe[0], "cat")
    assert sorted(clip.source for clip in manifest.clips if clip.label == 1) == [" cat/c.wav", "cat /b.wav", "cat/a.wav"]
    assert labels(table(tmp_path, "path, label ", "a.wav, cat", "b.wav,cat ", f"c.wav,{cafe[1]}"))[cafe[0], "train"] == 1
    assert listed(tmp_path, classes=cafe[1]).class_names == (cafe[0],)
    assert tidy(" a\u00a0 b\n") == "a b"


def test_classes_that_differ_by_case_only_are_two_with_a_warning(tmp_path):
    touch(tmp_path, *(f"{label}/{speaker}/x.wav" for label in ("Cat", "cat", "dog") for speaker in "abcde"))
    assert warnings_of(listed(tmp_path)) == ("classes 'Cat' and 'cat' differ only by case or spaces",)


def test_a_class_without_training_clips_and_an_empty_folder_are_told(tmp_path):
    touch(tmp_path, "train/cat/a.wav", "test/Cat/a.wav", ".hidden/x.wav", "train/dog/._b.wav", "train/dog/b.wav")
    (tmp_path / "dev").mkdir()
    said = " ".join(warnings_of(listed(tmp_path)))
    assert "dev/ holds no recordings" in said
    assert "1 class(es) have no training clips, such as 'Cat'" in said
    with pytest.raises(UserError, match="a class name appears twice"):
        check_manifest(Manifest("own", ("a", "a"), listed(tmp_path).clips))


def test_links_that_lead_in_circles_are_passed_by(tmp_path):
    touch(tmp_path / "root", "cat/a.wav", "dog/a.wav")
    (tmp_path / "root" / "cat" / "again").symlink_to(tmp_path / "root", target_is_directory=True)
    touch(tmp_path, "outside.wav")
    (tmp_path / "root" / "dog" / "out.wav").symlink_to(tmp_path / "outside.wav")
    for root in (tmp_path / "root", f"file://{tmp_path}/root"):
        manifest = listed(root)
        assert [clip.source for clip in manifest.clips] == ["cat/a.wav", "cat/again", "dog/a.wav", "dog/out.wav"]


def test_files_without_speakers_are_told_and_a_pattern_names_them(tmp_path):
    names = [
        f"{label}/{speaker}_{take}.wav" for label in ("cat", "dog") for speaker in ("ann", "bob", "cyd") for take in (0, 1)
    ]
    touch(tmp_path, *names)
    assert warnings_of(listed(tmp_path)) == (
        "each recording is a group of its own, so one speaker can be in train and in test; name the groups by "
        "folders, ROOT/CLASS/SPEAKER/FILE, or by --data.group_pattern REGEX",
    )
    for pattern in ("([a-z]+)_", "/(?P<group>[a-z]+)_([0-9])", "(?<=/)[a-z]+(?=_)"):
        manifest = listed(tmp_path, group_pattern=pattern)
        assert warnings_of(manifest) == ()
        assert {clip.group for clip in manifest.clips} == {"ann", "bob", "cyd"}
        assert len({(clip.group, clip.splits) for clip in manifest.clips}) == 3
    assert "each of 4 of 12 recordings" in warnings_of(listed(tmp_path, group_pattern="(ann|bob)_"))[0]
    with pytest.raises(UserError, match=r"^--data.group_pattern '\(': is not a regular expression"):
        listed(tmp_path, group_pattern="(")


def test_groups_of_a_csv(tmp_path):
    lines = ["path,label", *(f"{speaker}_{take}.wav,{label}" for speaker in "abc" for take, label in enumerate("xy"))]
    assert "name the groups by a column group, or by" in table(tmp_path, *lines).warnings[0]
    manifest = table(tmp_path, *lines, group_pattern="^(.)_")
    assert (manifest.warnings, {clip.group for clip in manifest.clips}) == ((), {"a", "b", "c"})
    own = table(tmp_path, "path,label,group", "a.wav,x, ann", "b.wav,x,ann ", group_pattern="^(.)")
    assert {clip.group for clip in own.clips} == {"ann"}
    assert table(tmp_path, "path,label,split", "a.wav,x,train", "b.wav,x,test").warnings == ()


def test_splits_of_a_csv(tmp_path):
    rows = ["a.wav,x,Train", "b.wav,x,TEST", "c.wav,x, validation ", "d.wav,x,holdout"]
    manifest = table(tmp_path, ",path,label,split", *(f"{number},{row}" for number, row in enumerate(rows)))
    assert [clip.splits for clip in manifest.clips] == [("train",), ("test",), ("dev",)]
    assert [line.detail for line in manifest.rejected] == [f"line 5: split 'holdout' is not one of {', '.join(SPLIT_NAMES)}"]
    with pytest.raises(
        UserError, match=r"^csv: lists no clips; all 1 .* rejected, the first, a.wav, because: line 2: split 'all'"
    ):
        table(tmp_path, "path,label,split", "a.wav,x,all")


def test_a_csv_with_clips_that_have_no_label(tmp_path):
    rows = [*(f"{name}.wav,{label},{group}" for name, label, group in zip("abcdef", "xxxyyy", "123456", strict=True))]
    manifest = table(tmp_path, "path,label,group", *rows, "g.wav, ,1", "h.wav,,7")
    assert manifest.class_names == ("x", "y")
    assert {clip.id: clip.splits for clip in manifest.clips if clip.label == UNLABELLED} == dict.fromkeys(
        ("g.wav", "h.wav"), ("train",)
    )
    assert {clip.splits for clip in manifest.clips if clip.group == "1"} == {("train",)}
    assert {clip.splits for clip in manifest.clips if clip.label == 1} == {("train",), ("dev",), ("test",)}
    assert manifest.notes == ("2 training clips have no label",)


def test_only_training_clips_of_a_csv_may_have_no_label(tmp_path):
    lines = ["path,label,split_0,split_1", "a.wav,x,train,test", "b.wav,,train,Training", "c.wav,,train,dev"]
    manifest = table(tmp_path, *lines)
    assert [(clip.id, clip.label) for clip in manifest.clips] == [("a.wav", 0), ("b.wav", UNLABELLED)]
    assert [line.detail for line in manifest.rejected] == ["line 4: has no label; only training clips may lack one"]
    with pytest.raises(UserError, match=r"manifest.csv: no usable row has a label; label some clips"):
        table(tmp_path, "path,label", "a.wav,", "b.wav,")


def test_a_thumbnail_or_a_wav_does_not_displace_a_video(tmp_path):
    videos = {"A": "v_A.mp4", "B": "b/v_B.MKV", "C": "v_C.wav", "D": "v_D.mp4", "E": ""}
    touch(
        tmp_path,
        *filter(None, videos.values()),
        "v_A.webp",
        "v_A.m4a",
        "a/v_B.wav",
        "v_C.jpg",
        "v_D.webm",
        "v_E.webp",
        "E.part",
    )
    segments = [{"segment": [0.0, 1.0], "label": "x"}]
    database = {video: {"subset": "training", "annotations": segments} for video in videos}
    (tmp_path / "activity_net.v1-3.min.json").write_text(json.dumps({"database": database}))
    manifest = listed(tmp_path, "activitynet")
    assert {clip.group: clip.source for clip in manifest.clips} == {video: name for video, name in videos.items() if name}
    assert [line.reason for line in manifest.rejected] == ["not_downloaded"]


def test_crema_d_takes_endings_in_any_case_and_videos_without_a_wav(tmp_path):
    for actor in range(1001, 1006):
        touch(
            tmp_path,
            f"AudioWAV/{actor}_IEO_SAD_HI.WAV",
            f"VideoFlash/{actor}_IEO_SAD_HI.FLV",
            f"VideoFlash/{actor}_IEO_ANG_HI.flv",
        )
    clips = listed(tmp_path, "crema_d").clips
    assert [(clip.source[-3:], clip.video_source[-3:]) for clip in clips] == [("WAV", "FLV")] * 5 + [("flv", "")] * 5


ROWS = (("a/1.wav", "cat", "train"), ("a/2.wav", "dog", "train"), ("a/3.wav", "cat", "dev"), ("a/4.wav", "dog", "test"))
LISTED = [("a/1.wav", "cat", "train"), ("a/2.wav", "dog", "train"), ("a/3.wav", "cat", "dev"), ("a/4.wav", "dog", "test")]


def clips_of(manifest):
    return [(clip.source, manifest.class_names[clip.label], *clip.splits) for clip in manifest.clips]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_of_spreadsheets(tmp_path, delimiter, encoding):
    head = [" Path", "LABEL ", "Split", "Start"]
    lines = [head, *([*row, "1,5" if delimiter != "," else "1.5"] for row in ROWS)]
    (tmp_path / "manifest.csv").write_text("\r\n".join(map(delimiter.join, lines)), encoding=encoding)
    manifest = listed(tmp_path, "csv")
    assert clips_of(manifest) == LISTED
    assert {clip.start_s for clip in manifest.clips} == {1.5}


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_tables_of_other_kinds(tmp_path, ending):
    rows = [{"path": path, "Emotion": label, "split": split, "start": None} for path, label, split in ROWS]
    write_rows(tmp_path / f"list.{ending}", rows)
    manifest = listed(tmp_path, "csv", annotations=str(tmp_path / f"list.{ending}"), label_column="emotion")
    assert clips_of(manifest) == LISTED
    assert {clip.start_s for clip in manifest.clips} == {None}


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]))


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_tree_of_audiofolder_is_read_by_its_metadata(tmp_path, ending):
    for folder, names in (("train", ("1.wav", "sub/2.wav")), ("validation", ("1.wav",)), ("test", ("1.mp4", "2.mp4"))):
        touch(tmp_path / folder, *names, "unlisted.wav")
        rows = [{"file_name": name, "emotion": "sad" if "1" in name else "glad", "age": 30} for name in names]
        write_rows(tmp_path / folder / f"metadata.{ending}", rows)
    manifest = listed(tmp_path, label_column="emotion")
    assert manifest.name == "folder"
    assert clips_of(manifest) == [
        ("test/1.mp4", "sad", "test"),
        ("test/2.mp4", "glad", "test"),
        ("train/1.wav", "sad", "train"),
        ("train/sub/2.wav", "glad", "train"),
        ("validation/1.wav", "sad", "dev"),
    ]
    assert manifest.notes == ("3 recordings that the metadata do not list are left out, such as test/unlisted.wav",)
    with pytest.raises(
        UserError, match=r"metadata.*: needs a column label .*its columns: age, emotion, file_name, path, split; "
    ):
        listed(tmp_path)


def test_metadata_in_root_have_splits_and_groups_of_their_own(tmp_path):
    names = [f"audio/{speaker}_{take}.wav" for speaker in "abcde" for take in (1, 2)]
    touch(tmp_path, *names)
    write_rows(tmp_path / "metadata.csv", [{"file_name": name, "label": name[8], "group": name[6]} for name in names])
    manifest = listed(tmp_path)
    assert {clip.group for clip in manifest.clips} == set("abcde")
    assert Counter(clip.splits[0] for clip in manifest.clips) == {"train": 6, "dev": 2, "test": 2}


def test_metadata_without_file_names_are_another_s(tmp_path):
    touch(tmp_path, "cat/1.wav", "dog/2.wav")
    write_rows(tmp_path / "metadata.csv", [{"speaker": "a", "age": 30}])
    assert listed(tmp_path).class_names == ("cat", "dog")
    with pytest.raises(
        UserError, match=r"^--data.label_column age: .* has no metadata file with a column file_name, so folders"
    ):
        listed(tmp_path, label_column="age")


def test_tables_that_are_none(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"path": "x.wav", "label": "a"}\n[1]\n')
    (tmp_path / "a.parquet").write_text("PAR1 no table")
    (tmp_path / "a.csv").write_bytes(b"\xff\xfep\x00a")
    (tmp_path / "b.csv").write_bytes(b"path;label\na.wav;\xe4\n")
    for name, text in (
        ("a.jsonl", "line 2 is not a JSON object"),
        ("a.parquet", "is not a Parquet table"),
        ("a.csv", "cannot be read .*; save it as UTF-8"),
        ("b.csv", "cannot be read .*give a text file in UTF-8"),
    ):
        with pytest.raises(UserError, match=text):
            listed(tmp_path, "csv", annotations=str(tmp_path / name))
