"""The store's README.md as a data card, and stores and saved data sets between this project and Hugging Face's `datasets`."""

import sys
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from media_files import tone, write_film, write_wav
from media_trees import hf_dataset

from mm_ray.config import DataConfig
from mm_ray.data.datasets import hf_dataset as source
from mm_ray.data.load import load_data
from mm_ray.data.manifest import read_manifest
from mm_ray.errors import UserError
from mm_ray.prepare.__main__ import main
from mm_ray.prepare.card import card
from mm_ray.prepare.inspect import count_contents, read_contents


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("card")
    for label, hz in (("cat", 300), ("d|g", 900)):
        for index in range(5):
            write_film(root / "root" / label / f"{index}.mkv", seconds=1, hz=hz + index, rate=8000)
    (root / "root" / "cat" / "bad.wav").write_bytes(b"no media")
    main(["folder", str(root / "root"), "--out", str(root / "store"), "--serial", "--shard-clips", "4", "--max-rejected", ".2"])
    return root / "store"


def test_the_card_describes_the_store(store):
    _, front, text = (store / "README.md").read_text().split("---\n", 2)
    matter = yaml.safe_load(front)
    assert matter["license"] == "unknown"
    assert [config["data_files"][0]["path"] for config in matter["configs"]] == ["part-*.parquet", "rejected.parquet"]
    for line in (
        "| cat | 3 | 1 | 1 | 5 | 5 | 0.00 | 5 |",
        "| d\\|g | 3 | 1 | 1 | 5 | 5 | 0.00 | 5 |",
        "| all | 6 | 2 | 2 | 10 |",
    ):
        assert line in text
    assert "10 clips, 10 groups" in text
    assert "1 rejected clips are in `rejected.parquet`" in text
    assert "float16, row-major (80 numbers per frame)" in text


def test_the_card_names_no_folder_of_a_model(store):
    contents = read_contents(str(store))
    features = replace(contents.settings.features, audio="transformers:/models/ann/wavlm", video="transformers:org/vit")
    header = replace(contents.header, settings=replace(contents.settings, features=features))
    text = card(replace(contents, header=header), count_contents(contents, 0))
    assert "transformers:wavlm: float16" in text
    assert "transformers:org/vit: likewise" in text


def test_a_card_is_no_obstacle_to_reading_and_preparing_again(store, capsys):
    assert load_data(DataConfig(name=str(store)), "unused").num_clips == 10
    main(["folder", str(store.parent / "root"), "--out", str(store), "--serial", "--max-rejected", ".2"])
    assert "10 already stored" in " ".join(capsys.readouterr().out.split())


def test_datasets_reads_a_store(store, tmp_path):
    datasets = pytest.importorskip("datasets", reason="needs mm-ray[datasets]")
    table, cache = load_data(DataConfig(name=str(store)), "unused"), {"cache_dir": str(tmp_path)}
    by_files = datasets.load_dataset("parquet", data_files=f"{store}/part-*.parquet", **cache)["train"]
    by_card = datasets.load_dataset(str(store), **cache)["clips"]
    for clips in (by_files, by_card):
        clip = next(clip for clip in clips if clip["clip_id"] == str(table.clip_ids_N[3]))
        audio = np.asarray(clip["audio"], np.float16).reshape(clip["audio_frames"], -1)
        begin, end = table.audio_offsets_N1[3:5]
        assert audio.tobytes() == table.audio_flat_XF[begin:end].tobytes()
        assert len(clips) == 10
    assert datasets.load_dataset(str(store), "rejected", **cache)["rejected"]["reason"] == ["not_media"]


def test_a_saved_data_set_is_the_same_as_its_files(tmp_path):
    """The splits of a DatasetDict, class names of a ClassLabel, groups, and the bits of the features."""
    saved = hf_dataset(tmp_path)
    manifest = read_manifest(DataConfig(name="hf_dataset", **saved))
    assert manifest.class_names == ("bell", "horn")
    assert manifest.clips[1].source == "train/data-00000-of-00002.arrow#1"
    assert {(clip.group, clip.splits) for clip in manifest.clips[-4:]} == {("speaker3", ("dev",)), ("speaker4", ("test",))}
    table = load_data(DataConfig(name="hf_dataset", **saved), tmp_path / "cache")
    for label, hz in (("bell", 900), ("horn", 250)):
        write_wav(tmp_path / "files" / label / "4.wav", tone(hz + 4, 1.5, 8000), 8000)
    files = load_data(DataConfig(name="folder", root=str(tmp_path / "files")), tmp_path / "cache")
    rows = table.rows("test")
    for row, file_row in zip(rows[::-1], range(2), strict=True):  # the data set lists horn, then bell
        begin, end = table.audio_offsets_N1[row : row + 2]
        assert (
            table.audio_flat_XF[begin:end].tobytes()
            == files.audio_flat_XF[files.audio_offsets_N1[file_row] : files.audio_offsets_N1[file_row + 1]].tobytes()
        )
    assert table.has_video(rows).all()


def test_a_single_part_is_split_by_its_groups_and_rows_without_bytes_are_rejected(tmp_path, capsys):
    datasets = pytest.importorskip("datasets", reason="needs mm-ray[datasets]")
    write_wav(tmp_path / "a.wav", tone(300, 1, 8000), 8000)
    audio = {"bytes": (tmp_path / "a.wav").read_bytes(), "path": "a.wav"}
    rows = [{"sound": audio, "Emotion": "xy"[i % 2], "group": f"g{i}"} for i in range(10)]
    rows[9]["sound"] = None
    types = {"sound": datasets.Audio(), "Emotion": datasets.Value("string"), "group": datasets.Value("string")}
    datasets.Dataset.from_list(rows).cast(datasets.Features(types)).save_to_disk(str(tmp_path / "saved"))
    flags = ["--out", str(tmp_path / "store"), "--serial", "--label-column", "emotion", "--max-rejected", ".2"]
    main(["hf_dataset", str(tmp_path / "saved"), *flags])
    (line,) = pq.read_table(tmp_path / "store" / "rejected.parquet").to_pylist()
    assert (line["reason"], line["detail"]) == ("missing", "its audio has no bytes; save_to_disk puts them in")
    table = load_data(DataConfig(name=str(tmp_path / "store")), "unused")
    assert [len(table.rows(split)) for split in ("train", "dev", "test")].count(0) == 0
    assert table.num_clips == 9


def test_what_is_no_saved_data_set_is_one_line(tmp_path):
    pytest.importorskip("datasets", reason="needs mm-ray[datasets]")
    with pytest.raises(UserError, match=r"^--data.root .*: is no data set on disk \(.*\); save_to_disk writes one$"):
        read_manifest(DataConfig(name="hf_dataset", root=str(tmp_path)))
    with pytest.raises(UserError, match=r"^--data.root mock:///x: give the local folder of save_to_disk$"):
        read_manifest(DataConfig(name="hf_dataset", root="mock:///x"))


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        UserError, match=r"^--data.name hf_dataset: needs Hugging Face datasets; pip install 'mm-ray\[datasets\]'$"
    ):
        source.read(DataConfig(name="hf_dataset", root="x"))
