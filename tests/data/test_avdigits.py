import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mm_ray.config import DataConfig
from mm_ray.data.datasets import avdigits
from mm_ray.data.load import load_data
from mm_ray.errors import UserError
from mm_ray.prepare.__main__ import main

ROOT = Path(__file__).parents[3] / "shared" / "data"
DATA = DataConfig(name="avdigits", root=str(ROOT))
needs_data = pytest.mark.skipif(not (ROOT / "fsdd").is_dir(), reason="no ../shared/data with fsdd and mnist10k")


@pytest.fixture(scope="module")
def manifest():
    return avdigits.read(DATA)


@needs_data
def test_folds_hold_out_speakers(manifest):
    assert len(manifest.clips) == 3000
    speakers = sorted({clip.group for clip in manifest.clips})
    assert manifest.num_folds == len(speakers) == 6
    for fold in range(6):
        homes = {split: {c.group for c in manifest.clips if c.splits[fold] == split} for split in ("train", "dev", "test")}
        assert homes["test"] == {speakers[fold]}
        assert homes["dev"] == {speakers[(fold + 1) % 6]}
        assert len(homes["train"]) == 4


@needs_data
def test_known_speakers_are_held_out_by_index(manifest):
    known = avdigits.read(replace(DATA, folds="known"))
    assert known.num_folds == 5
    assert [clip.id for clip in known.clips] == [clip.id for clip in manifest.clips]
    for fold in range(5):
        for clip in known.clips:
            index = int(clip.id.split("_")[2])
            expected = {fold: "test", (fold + 1) % 5: "dev"}.get(index // 10, "train")
            assert clip.splits[fold] == expected
    assert len({clip.video_source for clip in known.clips}) == 3000  # so that no image crosses a split


@needs_data
def test_images_are_of_the_digit_and_of_one_speaker(manifest):
    labels = np.load(ROOT / "mnist10k" / "mnist10k.npz")["labels"]
    owner = {}
    for clip in manifest.clips:
        image = int(clip.video_source.rpartition("=")[2])
        assert labels[image] == clip.label
        assert owner.setdefault(image, clip.group) == clip.group


@needs_data
def test_a_clip_loads_the_same_every_time(manifest):
    one, again = (avdigits.load(manifest.clips[7], DATA) for _ in range(2))
    assert one.sample_rate == 8_000
    assert (one.frames.shape, one.frames.dtype) == ((4, 28, 28), np.uint8)
    assert np.array_equal(one.frames, again.frames)
    assert len({frame.tobytes() for frame in one.frames}) > 1


@pytest.mark.parametrize("root", ["", "empty"])
def test_a_missing_folder_says_what_is_expected(tmp_path, root):
    where = str(tmp_path / root) if root else ""
    with pytest.raises(UserError, match=r"^--data.root .*needs fsdd/recordings/.*github.com/.*mnist10k\.npz") as caught:
        avdigits.read(DataConfig(name="avdigits", root=where))
    assert "\n" not in str(caught.value)


def test_missing_or_broken_images(tmp_path):
    (tmp_path / "fsdd" / "recordings").mkdir(parents=True)
    (tmp_path / "fsdd" / "recordings" / "0_ann_0.wav").write_bytes(b"")
    data = DataConfig(name="avdigits", root=str(tmp_path))
    with pytest.raises(UserError, match="mnist10k"):
        avdigits.read(data)
    (tmp_path / "mnist10k").mkdir()
    (tmp_path / "mnist10k" / "mnist10k.npz").write_bytes(b"no zip")
    with pytest.raises(UserError, match="is not the expected file"):
        avdigits.read(data)


@needs_data
def test_prepared_or_direct_it_is_the_same_table(tmp_path):
    for wav in (ROOT / "fsdd" / "recordings").glob("[0-9]_*_[01].wav"):
        (tmp_path / "root" / "fsdd" / "recordings").mkdir(parents=True, exist_ok=True)
        shutil.copy(wav, tmp_path / "root" / "fsdd" / "recordings")
    shutil.copytree(ROOT / "mnist10k", tmp_path / "root" / "mnist10k")
    root, store = str(tmp_path / "root"), str(tmp_path / "store")
    main(["avdigits", root, "--out", store, "--serial", "--shard-clips", "16"])
    for fold in (0, 4):
        direct = load_data(DataConfig(name="avdigits", root=root, fold=fold), tmp_path / "cache")
        prepared = load_data(DataConfig(name=store, fold=fold), "unused")
        assert direct.num_clips == 6 * 10 * 2
        assert vars(prepared).keys() == vars(direct).keys()
        for name, value in vars(direct).items():
            np.testing.assert_array_equal(getattr(prepared, name), value, err_msg=name)
