"""Arrays in place of recordings: what they become, what is refused, and normalisation over groups."""

import csv

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
import torch
from media_files import tone, write_wav

from mm_ray.config import DataConfig, FeatureConfig, ModelConfig
from mm_ray.data.feature_store_reader import read_store
from mm_ray.data.load import load_data
from mm_ray.data.precomputed import array_file, is_array
from mm_ray.errors import UserError
from mm_ray.models.network import PARTS, init_part
from mm_ray.models.onnx_export import write_onnx
from mm_ray.models.student import load_student, save_student
from mm_ray.prediction import predict
from mm_ray.prepare.__main__ import main
from mm_ray.types import Shapes

SPLITS = ("train", "train", "dev", "test")


def write_table(root, rows, columns=("audio", "video", "label", "group", "split")):
    root.mkdir(parents=True, exist_ok=True)
    with (root / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def four(root, video):
    """Four recordings, a group each, with the video that `video` names for it."""
    for i in range(4):
        write_wav(root / f"{i}.wav", tone(300 + 50 * i, 0.5, 8000), 8000)
    write_table(root, [(f"{i}.wav", video(i), "ab"[i % 2], f"g{i}", SPLITS[i]) for i in range(4)])


def load(root, cache, **features):
    return load_data(DataConfig(name="csv", root=str(root), features=FeatureConfig(**features)), cache)


def video_of(table, row):
    return table.video_flat_XD[table.video_offsets_N1[row] : table.video_offsets_N1[row + 1]].astype(float)


def rejects(root, out, *flags):
    main(["csv", str(root), "--out", str(out), "--serial", "--max-rejected", "1", *flags])
    return {line["clip_id"]: (line["reason"], line["detail"]) for line in pq.read_table(out / "rejected.parquet").to_pylist()}


def test_which_names_are_arrays():
    assert [is_array(name) for name in ("a.npy", "a.npz#k", "a.npy#3", "a#1.wav", "a.npy.wav", "npy")] == [True] * 3 + [
        False
    ] * 3
    assert [array_file(name) for name in ("a.npy#3", "a#b.npy", "a#1.wav")] == ["a.npy", "a#b.npy", "a#1.wav"]


def test_an_array_a_clip(tmp_path):
    for i in range(4):
        np.save(tmp_path / f"{i}.npy", np.arange(i + 1)[:, None] + np.array([[0.0, 0.5]])) if i else None
    np.save(tmp_path / "0.npy", np.array([[7.0, 8.0]], np.float32))
    four(tmp_path, lambda i: f"{i}.npy")
    table = load(tmp_path, tmp_path / "cache", max_video_frames=3)
    assert (table.features.video, table.features.audio, table.shapes.video_features) == ("precomputed", "log_mel", 2)
    assert table.shapes.audio_bins == 80
    assert table.video_lengths(np.arange(4)).tolist() == [1, 2, 3, 3]  # four frames, of which three evenly spaced ones
    assert video_of(table, 0).tolist() == [[7, 8]]
    assert video_of(table, 3).tolist() == [[0, 0.5], [1, 1.5], [2, 2.5]]


@pytest.mark.parametrize("kind", ["rows", "frames of rows", "keys"])
def test_one_array_for_the_whole_set(tmp_path, kind):
    per_clip = [np.full((2, 3), i, np.float32) + np.arange(3) for i in range(4)]
    if kind == "rows":
        np.save(tmp_path / "all.npy", np.stack(per_clip)[:, 0])
    elif kind == "frames of rows":
        np.save(tmp_path / "all.npy", np.stack(per_clip))
    else:
        np.savez(tmp_path / "all.npz", **{f"clip{i}": values for i, values in enumerate(per_clip)})
    four(tmp_path, lambda i: f"all.npz#clip{i}" if kind == "keys" else f"all.npy#{i}")
    table = load(tmp_path, tmp_path / "cache")
    for i in range(4):
        assert video_of(table, i).tolist() == per_clip[i][: 1 if kind == "rows" else 2].tolist()


def test_audio_features_too_and_prepared_or_direct_it_is_the_same(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(4):
        np.save(tmp_path / f"{i}.a.npy", rng.normal(size=(5 + i, 6)))
        np.save(tmp_path / f"{i}.v.npy", rng.normal(size=(2, 3)))
    write_table(tmp_path, [(f"{i}.a.npy", f"{i}.v.npy", "ab"[i % 2], f"g{i}", SPLITS[i]) for i in range(4)])
    direct = load(tmp_path, tmp_path / "cache", max_frames=6)
    assert (direct.shapes.audio_bins, direct.shapes.video_features, direct.features.audio) == (6, 3, "precomputed")
    assert direct.audio_lengths(np.arange(4)).tolist() == [5, 6, 6, 6]
    assert rejects(tmp_path, tmp_path / "store", "--data.features.max_frames", "6") == {}
    prepared = load_data(DataConfig(name=str(tmp_path / "store")), "unused")
    for name, value in vars(direct).items():
        np.testing.assert_array_equal(getattr(prepared, name), value, err_msg=name)


def test_a_changed_array_is_another_store(tmp_path):
    np.save(tmp_path / "all.npy", np.zeros((4, 3)))
    four(tmp_path, lambda i: f"all.npy#{i}")
    before = load(tmp_path, tmp_path / "cache")
    np.save(tmp_path / "all.npy", np.ones((4, 3)))
    after = load(tmp_path, tmp_path / "cache")
    assert (after.video_flat_XD == 1).all()
    assert after.fingerprint != before.fingerprint


def test_arrays_that_are_no_features_are_rejected(tmp_path):
    bad = {
        "flat": np.zeros(3),
        "deep": np.zeros((1, 2, 3)),
        "none": np.zeros((0, 3)),
        "whole": np.zeros((2, 3), int),
        "wide": np.zeros((2, 4)),
        "nan": np.array([[0, np.nan, 0]]),
        "huge": np.array([[0, 1e6, 0]]),
        "object": np.array([[0, 1, None]]),
        "row": np.zeros((2, 3)),
        "good": np.array([[1.0, 2, 3]]),
        "well": np.array([[4.0, 5, 6]]),
    }
    write_wav(tmp_path / "a.wav", tone(300, 0.5, 8000), 8000)
    for name, values in bad.items():
        np.save(tmp_path / f"{name}.npy", values)
    np.savez(tmp_path / "all.npz", a=np.zeros((1, 3)))
    (tmp_path / "text.npy").write_text("no array")
    np.save(tmp_path.parent / "outside.npy", np.zeros((1, 3)))
    sources = {name: f"{name}.npy" for name in bad} | {
        "row": "row.npy#2",
        "key": "all.npz#b",
        "text": "text.npy",
        "gone": "gone.npy",
    }
    sources["outside"] = "../outside.npy"
    write_table(
        tmp_path, [(n, "a.wav", s, "x", "train") for n, s in sources.items()], ("id", "audio", "video", "label", "split")
    )
    found = rejects(tmp_path, tmp_path / "store")
    assert {name: reason for name, (reason, _) in found.items()} == {
        **dict.fromkeys(["flat", "deep", "none", "whole", "wide", "nan", "huge", "object", "row", "key", "text"], "bad_array"),
        "gone": "missing",
        "outside": "outside_root",
    }
    for name, words in {
        "flat": "has shape (3,) for a clip; save (frames, numbers)",
        "whole": "holds int64; save floating point numbers",
        "wide": "its video has 4 numbers per frame, most clips have 3",
        "nan": "holds NaN or infinite numbers",
        "huge": "beyond 65,504, too large for float16; scale",
        "row": "row '2' is not one of its 2, counted from 0",
        "key": "has no array 'b'",
        "text": "is not an array that NumPy reads without pickle",
    }.items():
        assert words in found[name][1]
    assert load_data(DataConfig(name=str(tmp_path / "store")), "unused").clip_ids_N.tolist() == ["good", "well"]


def test_some_arrays_and_some_recordings_are_a_mistake(tmp_path):
    np.save(tmp_path / "0.npy", np.zeros((1, 3)))
    four(tmp_path, lambda i: "0.npy" if i == 0 else f"{i}.mp4")
    with pytest.raises(UserError, match=r"^video: 0.npy is an array, 1.mp4 is not; name arrays for all clips or for none$"):
        load(tmp_path, tmp_path / "cache")


def test_an_array_holds_no_sound_and_has_no_span(tmp_path):
    np.save(tmp_path / "0.npy", np.zeros((1, 3)))
    rows = [("", "0.npy", "a", "", ""), ("0.npy", "", "a", "0.5", "1"), ("0.npy", "", "a", "", "")]
    write_table(tmp_path, rows, ("audio", "video", "label", "start", "end"))
    found = rejects(tmp_path, tmp_path / "store")
    assert [detail for _, detail in found.values()] == [
        "line 2: has no recording",
        "line 3: start and end cut recordings; cut the array itself",
    ]


def test_settings_that_the_arrays_contradict(tmp_path):
    np.save(tmp_path / "all.npy", np.zeros((4, 3)))
    four(tmp_path, lambda i: f"all.npy#{i}")
    with pytest.raises(UserError, match=r"^--data.features.video mobilenet_v2: csv names arrays .*; leave it out"):
        load(tmp_path, tmp_path / "cache", video="mobilenet_v2")
    with pytest.raises(UserError, match=r"^--data.features.audio precomputed: csv names no array"):
        load(tmp_path, tmp_path / "cache", audio="precomputed")
    assert load(tmp_path, tmp_path / "cache", video="precomputed").features.video == "precomputed"


def test_normalised_over_each_group(tmp_path):
    values = np.array([[1.0, 5.0], [3.0, 5.0], [10.0, 0.0], [30.0, 4.0]])
    np.save(tmp_path / "all.npy", values)
    for i in range(4):
        write_wav(tmp_path / f"{i}.wav", tone(300 + 50 * i, 0.5, 8000), 8000)
    write_table(tmp_path, [(f"{i}.wav", f"all.npy#{i}", "ab"[i % 2], f"g{i // 2}", SPLITS[i]) for i in range(4)])
    plain, table = load(tmp_path, tmp_path / "cache"), load(tmp_path, tmp_path / "cache", normalize="group")
    np.testing.assert_allclose(table.video_flat_XD, [[-1, 0], [1, 0], [-1, -1], [1, 1]], atol=1e-3)
    assert (table.audio_flat_XF == plain.audio_flat_XF).all()  # log-mel stays normalised over the clip
    assert table.fingerprint != plain.fingerprint
    assert len(list((tmp_path / "cache").iterdir())) == 1  # both from one store
    rejects(tmp_path, tmp_path / "store")
    again = load_data(DataConfig(name=str(tmp_path / "store"), features=FeatureConfig(normalize="group")), "unused")
    assert again.fingerprint == table.fingerprint
    with pytest.raises(UserError, match=r"^--data.features.normalize group: is applied when a store is read"):
        rejects(tmp_path, tmp_path / "other", "--data.features.normalize", "group")


def test_precomputed_audio_is_normalised_too_and_a_lone_frame_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[[0.0], [2.0]], [[4.0], [6.0]]]))
    write_table(tmp_path, [(f"a.npy#{i}", "", "x", "g", "train") for i in range(2)])
    table = load(tmp_path, tmp_path / "cache", normalize="group")
    np.testing.assert_allclose(table.audio_flat_XF[:, 0].astype(float), (np.array([0, 2, 4, 6]) - 3) / 5**0.5, atol=1e-3)
    write_table(tmp_path, [("a.npy#0", "", "x", "g", "train")])
    np.save(tmp_path / "a.npy", np.zeros((1, 1)))
    with pytest.raises(UserError, match=r"^--data.features.normalize group: group g has a single frame; name larger groups"):
        load(tmp_path, tmp_path / "cache", normalize="group")


def test_a_student_of_precomputed_features_predicts_from_arrays(tmp_path, capsys):
    features, shapes, model = FeatureConfig(audio="precomputed"), Shapes(6, 3, 2), ModelConfig(hidden=8, classifier_hidden=4)
    generator = torch.Generator().manual_seed(0)
    params = {part: init_part(part, model, shapes, generator) for part in PARTS["audio"]}
    path = save_student(tmp_path, params, model, shapes, ("a", "b"), features)
    np.save(tmp_path / "x.npy", np.ones((9, 6)))
    np.save(tmp_path / "y.npy", np.ones((9, 5)))
    student = load_student(path)
    assert sum(predict(student, str(tmp_path / "x.npy"))["probabilities"].values()) == pytest.approx(1)
    with pytest.raises(UserError, match=r"y.npy: has 5 numbers a frame, this student takes 6"):
        predict(student, str(tmp_path / "y.npy"))
    with pytest.raises(UserError, match=r"x.wav: this student was trained on precomputed features; give their array"):
        predict(student, str(tmp_path / "x.wav"))
    write_onnx(student, tmp_path / "x.onnx")
    (audio, _) = onnx.load(tmp_path / "x.onnx").graph.input
    assert audio.type.tensor_type.shape.dim[2].dim_value == 6


def test_without_prepare_the_rejects_are_listed_too(tmp_path):
    np.save(tmp_path / "all.npy", np.zeros((3, 3)))
    four(tmp_path, lambda i: f"all.npy#{i}")
    assert load(tmp_path, tmp_path / "cache").num_clips == 3
    (store,) = (tmp_path / "cache").iterdir()
    assert pq.read_table(store / "rejected.parquet")["detail"].to_pylist() == ["row '3' is not one of its 3, counted from 0"]


def test_a_store_has_its_folds(tmp_path):
    np.save(tmp_path / "all.npy", np.zeros((4, 3)))
    four(tmp_path, lambda i: f"all.npy#{i}")
    rejects(tmp_path, tmp_path / "store")
    with pytest.raises(UserError, match=r"^--data.folds known: .* has the folds that it was prepared with; leave it out$"):
        load_data(DataConfig(name=str(tmp_path / "store"), folds="known"), "unused")


def test_normalised_features_and_dev_clips_from_the_training_clips(tmp_path):
    values = np.random.default_rng(0).normal(5, 3, (24, 2))
    np.save(tmp_path / "all.npy", values)
    rows = [(f"all.npy#{i}", "xy"[i % 2], f"g{i // 2}", "test" if i < 4 else "train") for i in range(24)]
    write_table(tmp_path, rows, ("audio", "label", "group", "split"))
    data = DataConfig(name="csv", root=str(tmp_path), features=FeatureConfig(normalize="group"), dev_from_train=0.2)
    table = load_data(data, tmp_path / "cache")
    assert [len(table.rows(split)) for split in SPLITS[1:]] == [16, 4, 4]
    of_group = values[:2]
    expected = (of_group - of_group.mean(0)) / of_group.std(0)
    np.testing.assert_allclose(table.audio_flat_XF[:2], expected, atol=0.02)
    assert table.features.normalize == "group"


def test_a_store_is_not_gone_on_with_when_an_array_changed(tmp_path):
    np.save(tmp_path / "all.npy", np.zeros((4, 3)))
    four(tmp_path, lambda i: f"all.npy#{i}")
    assert rejects(tmp_path, tmp_path / "store") == {}
    assert rejects(tmp_path, tmp_path / "store") == {}
    np.save(tmp_path / "all.npy", np.ones((4, 3)))
    with pytest.raises(
        UserError, match=r"1 recordings differ from those that it was prepared from, such as all.npy; prepare a new"
    ):
        rejects(tmp_path, tmp_path / "store")


def test_a_rejected_array_of_a_clip_without_a_label(tmp_path):
    np.save(tmp_path / "all.npy", np.zeros((3, 3)))
    np.save(tmp_path / "bad.npy", np.zeros((1, 4)))
    rows = [("all.npy#0", "x", "train"), ("all.npy#1", "y", "test"), ("all.npy#2", "", "train"), ("bad.npy", "", "train")]
    write_table(tmp_path, rows, ("audio", "label", "split"))
    out = tmp_path / "store"
    assert list(rejects(tmp_path, out)) == ["bad.npy"]
    assert pq.read_table(out / "rejected.parquet")["label"].to_pylist() == ["(no label)"]
    main(["--inspect", str(out)])
    assert "(no label), group" in (out / "inspect.html").read_text()
    assert read_store(out, 0).labels_N.tolist() == [0, 1, -1]
