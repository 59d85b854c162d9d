"""Long recordings as several clips (`data.features.window_hop_s`): who gets them; a recording counts once."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from fed.tiny import TINY, tiny_config
from media_files import tone, write_film, write_wav

from mm_ray.config import DataConfig, ExperimentConfig, FeatureConfig, PartitionConfig, with_overrides
from mm_ray.data import audio_features
from mm_ray.data.feature_row import extract, extract_windows
from mm_ray.data.feature_store_reader import read_store
from mm_ray.data.load import load_data
from mm_ray.data.manifest import Clip, find_manifest, read_manifest
from mm_ray.data.media.decode import Media, read_audio
from mm_ray.data.media.errors import MediaError
from mm_ray.data.partition import make_clients
from mm_ray.errors import UserError
from mm_ray.fed.evaluation import batches_of, by_recording, confusion_of
from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.experiment import plan_experiment, run_experiment
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.fed.rounds import drive
from mm_ray.models.network import PARTS, init_part
from mm_ray.prepare.__main__ import main

FEATURES = FeatureConfig(num_mels=20, max_frames=50, window_hop_s=0.5)  # 40 ms and 49 times 20 ms: 1.02 s
"""Windows of 1.02 s every half second."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Ten recordings of two classes: five of a second, which are one clip, and five of three seconds, which are five clips."""
    root = tmp_path_factory.mktemp("long")
    for label, hz in (("high", 3000), ("low", 300)):
        for index in range(5):
            write_wav(root / label / f"{index}.wav", tone(hz + 20 * index, 3 if index % 2 else 1, 8000), 8000)
    return root


def data_of(root, **features):
    return DataConfig(name="folder", root=str(root), features=replace(FEATURES, **features))


@pytest.fixture(scope="module")
def table(root, tmp_path_factory):
    return load_data(data_of(root), tmp_path_factory.mktemp("cache"))


def test_a_long_recording_is_several_clips_of_one_split_and_label(table):
    ids = [str(name) for name in table.clip_ids_N]
    assert ids[:6] == ["high/0.wav", "high/1.wav", "high/1.wav@1", "high/1.wav@2", "high/1.wav@3", "high/1.wav@4"]
    assert len(ids) == 6 + 4 * 5
    assert table.files_N[:7].tolist() == [0, 1, 1, 1, 1, 1, 6]
    for values in (table.splits_N, table.labels_N, table.groups_N):
        np.testing.assert_array_equal(values, values[table.files_N])
    assert sorted(len(table.file_rows(split)) for split in ("train", "dev", "test")) == [2, 2, 6]
    assert table.clips_of(np.array([0, 1])).tolist() == [0, 1, 2, 3, 4, 5]
    assert (table.audio_lengths(np.arange(1, 6)) == 50).all()


def test_an_id_that_a_window_of_another_clip_would_have_is_refused(tmp_path):
    (tmp_path / "manifest.csv").write_text("id,path,label\na,0.wav,x\na@0,1.wav,y\nb@1,2.wav,x\n")
    data = DataConfig(name="csv", root=str(tmp_path), features=FEATURES)
    assert len(read_manifest(data).clips) == 3  # no window has such a name
    (tmp_path / "manifest.csv").write_text("id,path,label\na,0.wav,x\na@12,1.wav,y\n")
    assert len(read_manifest(replace(data, features=FeatureConfig())).clips) == 2
    with pytest.raises(
        UserError, match=r"^csv: clip a@12: with --data.features.window_hop_s that is the name of a window of a;"
    ):
        read_manifest(data)


def test_each_window_has_the_features_of_its_part(root, table):
    clip = Clip("part", 0, "g", ("train",), "high/1.wav", "", 0.5, 1.52)
    row = extract(find_manifest("folder"), 0, clip, data_of(root, window_hop_s=0.0))
    second = table.audio_flat_XF[table.audio_offsets_N1[2] : table.audio_offsets_N1[3]]
    assert second.tobytes() == row.audio_TF.tobytes()
    last = extract(find_manifest("folder"), 0, replace(clip, start_s=1.98, end_s=3.0), data_of(root, window_hop_s=0.0))
    assert table.audio_flat_XF[table.audio_offsets_N1[5] : table.audio_offsets_N1[6]].tobytes() == last.audio_TF.tobytes()


def test_a_segment_of_a_film_is_cut_with_its_frames(tmp_path):
    write_film(tmp_path / "a.mkv", seconds=6, hz=500, rate=8000)
    clip = Clip("a", 0, "g", ("train",), "a.mkv", "", 1.0, 4.0)
    data = data_of(tmp_path, fps=4.0)
    rows = extract_windows(find_manifest("folder"), 7, clip, data)
    assert [(row.number, row.clip.id, row.recording) for row in rows[:2]] == [(7, "a", "a"), (7, "a@1", "a")]
    assert [round(row.clip.start_s, 2) for row in rows] == [1.0, 1.5, 2.0, 2.5, 2.98]
    assert [row.video_SD.shape for row in rows] == [(4, 256)] * 5
    for row in rows:
        alone = extract(find_manifest("folder"), 0, row.clip, data_of(tmp_path, fps=4.0, window_hop_s=0.0))
        assert alone.video_SD.tobytes() == row.video_SD.tobytes()
        assert np.abs(alone.audio_TF.astype(float) - row.audio_TF).max() < 0.1  # decoded from another packet on


def test_a_video_of_its_own_that_ends_first_stays_at_its_last_frame(tmp_path):
    write_wav(tmp_path / "a.wav", tone(500, 3, 8000), 8000)
    write_film(tmp_path / "a.mkv", seconds=1.2, sound=False)
    clip, data = Clip("a", 0, "g", ("train",), "a.wav", "a.mkv"), data_of(tmp_path, fps=4.0)
    rows = extract_windows(find_manifest("folder"), 0, clip, data)
    assert [row.video_SD.shape for row in rows] == [(4, 256), (2, 256), (1, 256), (1, 256), (1, 256)]
    for row in rows[3:]:
        assert row.video_SD.tobytes() == rows[2].video_SD.tobytes()
    with pytest.raises(MediaError, match=r"a\.mkv: the segment begins at 2\.00 s, after the end at 1\.20 s"):
        extract_windows(find_manifest("folder"), 0, replace(clip, start_s=2.0, end_s=3.0), data)


def test_a_clip_that_its_data_set_loads_shares_its_frames_evenly():
    class Lab:
        @staticmethod
        def load(clip, data):
            return Media(tone(400, 2.02, 8000), 8000, np.ones((8, 16, 16), np.uint8))

    clip = Clip("c", 0, "g", ("train",), "c")
    rows = extract_windows(Lab, 0, clip, data_of("", video="pixels"))
    assert [(row.clip.start_s, row.seconds) for row in rows] == [(0.0, 1.02), (0.5, 1.02), (1.0, 1.02)]
    assert [len(row.video_SD) for row in rows] == [5, 6, 5]  # of frames every 0.2525 s: 0 to 4, 1 to 6, 3 to 7


def test_a_pretrained_encoder_gets_the_waveform_of_each_window(root, monkeypatch):
    heard = []
    monkeypatch.setattr(audio_features, "pretrained_features", lambda x_N, *_: heard.append(x_N) or np.ones((3, 5), np.float16))
    clip = Clip("high/1.wav", 0, "g", ("train",), "high/1.wav")
    rows = extract_windows(find_manifest("folder"), 0, clip, data_of(root, audio="torchaudio:HUBERT_BASE"))
    assert [row.audio_TF.shape for row in rows] == [(3, 5)] * 5
    whole_N = read_audio(root / "high/1.wav")[0]
    for x_N, begin in zip(heard, (0, 4000, 8000, 12000, 24000 - 8160), strict=True):
        np.testing.assert_array_equal(x_N, whole_N[begin : begin + 8160])


def test_a_recording_counts_once_by_the_mean_of_its_probabilities(table):
    """One clip of recording 1 is very sure of class 1, the four others lean to class 0."""
    rows, logits = np.arange(6), np.log([[0.9, 0.1], [0.01, 0.99], [0.6, 0.4], [0.6, 0.4], [0.6, 0.4], [0.55, 0.45]])
    files, scores = by_recording(logits, rows, table)
    assert files.tolist() == [0, 1]
    np.testing.assert_allclose(scores, [[0.9, 0.1], [2.36 / 5, 2.64 / 5]])
    logits[4, 0] = np.nan
    assert np.isnan(by_recording(logits, rows, table)[1][1]).all()
    assert by_recording(logits, rows, replace(table, files_N=None))[1] is logits


def test_confusions_are_of_recordings_whatever_the_batches(table, monkeypatch):
    model, generator = tiny_config().model, torch.Generator().manual_seed(0)
    params = {part: init_part(part, model, table.shapes, generator) for part in PARTS["audio"]}
    whole = confusion_of("audio", params, model, table, batches_of("train", "audio", table))
    assert whole.sum() == len(table.file_rows("train")) == 6
    monkeypatch.setattr("mm_ray.fed.evaluation.BATCH_FRAMES", 100)  # two clips
    batches = batches_of("train", "audio", table)
    assert sorted(map(len, batches))[-1] >= 5  # all clips of a recording
    assert sorted(np.concatenate(batches).tolist()) == table.rows("train").tolist()
    np.testing.assert_array_equal(confusion_of("audio", params, model, table, batches), whole)


def film_root(tmp_path):
    for label, hz in (("high", 3000), ("low", 300)):
        for index in range(10):
            write_film(
                tmp_path / "films" / label / f"{index}.mkv", seconds=2 if index % 2 else 1, hz=hz + 20 * index, rate=8000
            )
    return tmp_path / "films"


def test_an_experiment_of_long_recordings(tmp_path):
    root = film_root(tmp_path)
    fields = {name: value for name, value in TINY.items() if not name.startswith("data.")}
    fields["model.conv_channels"] = tuple(fields["model.conv_channels"])
    fields |= {"data.name": "folder", "data.root": str(root), "data.features.num_mels": 20, "data.features.max_frames": 50}
    fields |= {"data.features.window_hop_s": 0.5, "data.features.video_size": 6, "partition.num_clients": 4}
    fields |= {"partition.min_clips": 1, "partition.labelled": 0.5, "partition.video_missing": 0.5}
    config = with_overrides(ExperimentConfig(), fields)
    table = load_data(config.data, tmp_path / "cache")
    plan = plan_experiment(config, table)
    assert table.num_clips > 20
    for client in plan.federation.clients:  # no recording is in two clients, or has labels in part
        assert table.clips_of(np.unique(table.files_N[client.indices])).tolist() == client.indices.tolist()
        for file in np.unique(table.files_N[client.indices]):
            assert len(set(client.labels[table.files_N[client.indices] == file].tolist())) == 1
    tested = drive(run_experiment(plan, PhaseStore(str(tmp_path / "phases")), SerialExecutor(), False), lambda report: None)
    assert (
        {name: int(matrix.sum()) for name, matrix in tested.confusions.items()}["student"] == len(table.file_rows("test")) == 4
    )
    off = load_data(replace(config.data, features=replace(config.data.features, window_hop_s=0.0)), tmp_path / "cache")
    assert off.num_clips == 20
    assert off.files_N is None
    assert off.fingerprint != table.fingerprint


def test_own_lists_of_clients_name_recordings(table, tmp_path):
    train = table.file_rows("train")
    (tmp_path / "clients.csv").write_text("".join(["clip,client\n", *(f"{table.clip_ids_N[row]},ann\n" for row in train[:2])]))
    with_video = replace(
        table, video_flat_XD=np.zeros((table.num_clips, 1), np.float16), video_offsets_N1=np.arange(table.num_clips + 1)
    )
    (client,) = make_clients(with_video, PartitionConfig(kind=str(tmp_path / "clients.csv"), video_missing=0.0), 0)
    np.testing.assert_array_equal(client.indices, table.clips_of(train[:2]))


def test_a_store_whose_recordings_lie_in_two_splits_is_refused(root, tmp_path):
    load_data(data_of(root), tmp_path)
    shard = sorted(tmp_path.glob("*/part-*.parquet"))[0]
    clips = pq.read_table(shard)
    splits = [
        ["test"] if name == "high/1.wav@2" else folds
        for name, folds in zip(clips["clip_id"].to_pylist(), clips["splits"].to_pylist(), strict=True)
    ]
    assert splits != clips["splits"].to_pylist()
    place = clips.column_names.index("splits")
    pq.write_table(clips.set_column(place, "splits", pa.array(splits)), shard)
    with pytest.raises(UserError, match="clips of one recording differ in split, label, group"):
        read_store(shard.parent, 0)


def test_gaps_and_other_stores_are_refused(root, tmp_path, monkeypatch):
    with pytest.raises(
        UserError, match=r"^--window_hop_s 2.0: must be between 0.02 and the 1.02 seconds of --max_frames, or 0$"
    ):
        replace(FEATURES, window_hop_s=2.0)
    load_data(data_of(root, window_hop_s=0.0), tmp_path)
    (store,) = tmp_path.iterdir()
    with pytest.raises(UserError, match=r"^--data.features.window_hop_s 0.5: .* was prepared with 0.0; prepare another store$"):
        load_data(replace(data_of(""), name=str(store)), "unused")


def test_a_prepared_store_is_the_same_and_is_gone_on_with(root, table, tmp_path, capsys):
    flags = ["--data.features.num_mels", "20", "--data.features.max_frames", "50", "--data.features.window_hop_s", "0.5"]
    for number_stored in (10, 0):
        main(["folder", str(root), "--out", str(tmp_path / "store"), "--serial", "--shard-clips", "4", *flags])
        assert f"{number_stored}stored now".replace(" ", "") in capsys.readouterr().out.replace(" ", "")
    prepared = load_data(DataConfig(name=str(tmp_path / "store")), "unused")
    assert prepared.fingerprint == table.fingerprint
    np.testing.assert_array_equal(prepared.files_N, table.files_N)
    np.testing.assert_array_equal(prepared.clip_ids_N, table.clip_ids_N)
    with pytest.raises(UserError, match=r"^--data.features.window_hop_s 0.0: .* was prepared with 0.5"):
        main(["folder", str(root), "--out", str(tmp_path / "store"), "--serial", *flags[:4]])
