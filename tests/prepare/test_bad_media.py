"""Every kind of bad media becomes a row of `rejected.parquet` or a flag, and nothing stops the rest."""

import os
import shutil
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from media_files import CODECS, colour_at, tone, write_film, write_wav

from mm_ray.config import DataConfig
from mm_ray.data.load import load_data
from mm_ray.data.media.decode import DecodeRequest, read_media
from mm_ray.data.media.errors import FLAGS, REASONS, MediaError
from mm_ray.prepare.__main__ import main


def cut(path, source, fraction=0.5):
    content = source.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])


def faststart(path):
    return write_film(path, seconds=6, container_options={"movflags": "faststart"})


def turned(path, source):
    """A film whose metadata says: show me turned by a quarter, clockwise."""
    content = bytearray(source.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30)
    path.write_bytes(content)


def rejects(store):
    return {line["clip_id"]: line["reason"] for line in pq.read_table(store / "rejected.parquet").to_pylist()}


def flags(store):
    shards = pa.concat_tables([pq.read_table(shard, columns=["clip_id", "flags"]) for shard in store.glob("part-*.parquet")])
    return {line["clip_id"]: line["flags"] for line in shards.to_pylist()}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store of a folder with everything that can be wrong with a file."""
    base = tmp_path_factory.mktemp("bad")
    root = base / "root"
    good = write_film(root / "a" / "good.mp4", seconds=3)
    write_film(root / "b" / "good.webm", seconds=3)
    for name, path in {
        "cut.mp4": good,
        "cut-front.mp4": faststart(base / "front.mp4"),
        "cut.webm": root / "b" / "good.webm",
        "cut.mkv": write_film(base / "x.mkv", seconds=3),
        "cut.avi": write_film(base / "x.avi", seconds=3),
        "cut.flv": write_film(base / "x.flv", seconds=3),
        "cut.wav": write_wav(base / "x.wav", tone(300, 3, 8000), 8000),
    }.items():
        cut(root / "a" / name, path)
    (root / "a" / "empty.mp4").write_bytes(b"")
    (root / "a" / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    write_wav(root / "a" / "no-samples.wav", np.zeros(0), 8000)
    write_film(root / "a" / "no-audio.mp4", sound=False)
    write_film(root / "a" / "silent.mp4", hz=0)
    write_film(root / "a" / "surround.mkv", layout="5.1", hz=500)
    write_film(root / "a" / "varying.mp4", seconds=2, times=[int(100 * i + 40 * (i % 3)) for i in range(20)])
    turned(root / "a" / "turned.mp4", good)
    write_film(root / "a" / "really-webm.mp4", form="webm", hz=700)
    shutil.copy(good, root / "b" / "again.mp4")
    shutil.copy(good, base / "outside.mp4")
    (root / "b" / "link-out.mp4").symlink_to(base / "outside.mp4")
    (root / "linked-class").symlink_to(base)
    (root / "b" / "link-in.mp4").symlink_to(good)
    (root / "b" / "link-nowhere.mp4").symlink_to(root / "nowhere.mp4")
    shutil.copy(root / "a" / "surround.mkv", os.fsencode(root / "b") + b"/\xff\xfe.mkv")
    write_film(root / "in-no-class.mp4")
    (root / "b" / "notes.txt").write_text("passed over")
    main(["folder", str(root), "--out", str(base / "store"), "--serial", "--max-rejected", "1"])
    return base / "store"


def test_what_is_rejected(store):
    assert rejects(store) == {
        "a/cut.mp4": "truncated",
        "a/cut-front.mp4": "truncated",
        "a/cut.webm": "truncated",
        "a/cut.mkv": "truncated",
        "a/cut.avi": "truncated",
        "a/cut.flv": "truncated",
        "a/cut.wav": "truncated",
        "a/empty.mp4": "truncated",
        "a/noise.mp4": "not_media",
        "a/no-samples.wav": "empty_audio",
        "a/no-audio.mp4": "no_audio_track",
        "b/again.mp4": "duplicate",
        "b/link-in.mp4": "duplicate",
        "b/link-out.mp4": "outside_root",
        "linked-class": "outside_root",
        "b/link-nowhere.mp4": "missing",
        "b/\\udcff\\udcfe.mkv": "unreadable_name",
        "in-no-class.mp4": "no_class",
    }


def test_what_is_kept_with_a_flag(store):
    assert flags(store) == {
        "a/good.mp4": [],
        "b/good.webm": [],
        "a/silent.mp4": ["silent"],
        "a/surround.mkv": ["multichannel"],
        "a/varying.mp4": ["variable_frame_rate"],
        "a/turned.mp4": ["rotated"],
        "a/really-webm.mp4": ["wrong_extension"],
    }
    table = load_data(DataConfig(name=str(store)), "unused")
    assert table.clip_ids_N.tolist() == sorted(flags(store))
    assert np.isfinite(table.audio_flat_XF).all()


def test_reasons_and_flags_are_explained(store):
    assert set(rejects(store).values()) <= set(REASONS)
    assert {flag for found in flags(store).values() for flag in found} <= set(FLAGS)


def test_a_turned_film_stands_upright(store):
    frames = read_media(store.parent / "root" / "a" / "turned.mp4", DecodeRequest(fps=10, max_frames=30)).frames
    assert frames.shape == (30, 64, 48, 3)
    assert (frames[5, 28:36, 42:46] > 200).all()  # the white square runs along the upper edge, now the right one
    assert np.abs(frames[25, 40, 10].astype(int) - colour_at(2)).max() <= 6


def test_surround_is_mixed_by_the_mean(store):
    media = read_media(store.parent / "root" / "a" / "surround.mkv", DecodeRequest())
    np.testing.assert_allclose(media.waveform_N, tone(500, 2, 48_000), atol=5e-5)


def test_a_span_after_the_end(store):
    good = store.parent / "root" / "a" / "good.mp4"
    with pytest.raises(MediaError) as caught:
        read_media(good, DecodeRequest(start_s=3.5, end_s=4))
    assert caught.value.reason == "span_outside"
    assert read_media(good, DecodeRequest(start_s=1, end_s=9)).flags == ("span_cut",)


def test_broken_packets_are_left_out_and_many_of_them_refused(tmp_path):
    good = write_film(tmp_path / "good.mp4", seconds=6, gop=5)
    content = bytearray(good.read_bytes())
    rng = np.random.default_rng(0)
    begin, end = content.index(b"mdat") + 8, content.index(b"moov")
    content[begin:end] = rng.bytes(end - begin)
    (tmp_path / "noise.mp4").write_bytes(content)
    with pytest.raises(MediaError) as caught:
        read_media(tmp_path / "noise.mp4", DecodeRequest())
    assert caught.value.reason == "damaged"
    content = bytearray(good.read_bytes())
    content[end - 200 : end - 190] = b"\xff" * 10
    (tmp_path / "scratched.mp4").write_bytes(content)
    assert set(read_media(tmp_path / "scratched.mp4", DecodeRequest()).flags) <= {"broken_packets"}


@pytest.mark.parametrize("form", [*CODECS, "wav"])
def test_scrambled_files_are_read_or_refused(tmp_path, form):
    write = (lambda path: write_wav(path, tone(300, 1, 8000), 8000)) if form == "wav" else (lambda path: write_film(path, 1))
    good = write(tmp_path / f"good.{form}").read_bytes()
    rng, outcomes = np.random.default_rng(0), []
    for _ in range(60):
        content = bytearray(good)
        for _ in range(rng.integers(1, 30)):
            at = int(rng.integers(0, min(len(content), 2000)))
            content[at : at + int(rng.integers(0, 5))] = rng.bytes(int(rng.integers(1, 5)))
        (tmp_path / f"bad.{form}").write_bytes(content)
        outcomes.append(outcome_of(tmp_path / f"bad.{form}"))
    assert set(outcomes) <= {"read", *REASONS}


def outcome_of(path):
    try:
        return "read" if len(read_media(path, DecodeRequest(audio_s=2.0)).waveform_N) else "nothing"
    except MediaError as error:
        return error.reason


def test_real_files(shared_data):
    media = shared_data / "media"
    assert read_media(media / "bigbuckbunny.mp4", DecodeRequest()).flags == ("multichannel",)
    assert read_media(media / "world.mp4", DecodeRequest()).flags == ("silent",)
    for name in ("bikes.mp4", "muted_b.mp4"):
        with pytest.raises(MediaError, match="has no audio track"):
            read_media(media / name, DecodeRequest())
