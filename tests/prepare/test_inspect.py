import base64
import io
import re

import av
import numpy as np
import pytest
from media_trees import csv, folder

from mm_ray.config import FeatureConfig
from mm_ray.data.features.log_mel import bins_of, log_mel
from mm_ray.data.media.decode import read_audio
from mm_ray.errors import UserError
from mm_ray.prepare.__main__ import main
from mm_ray.prepare.summary import MORE


def run(build, base, *flags):
    (base / "root").mkdir()
    build(base / "root")
    main([build.__name__, str(base / "root"), "--out", str(base / "store"), "--serial", "--max-rejected", "1", *flags])
    return base / "store"


def inspected(store, capsys, *flags):
    capsys.readouterr()
    main(["--inspect", str(store), *flags])
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def pictures(store):
    text = (store / "inspect.html").read_text()
    found = re.findall(r'class="frames".*?base64,([^"]+)"', text)
    return text, [decoded(base64.b64decode(data)) for data in found]


def decoded(png):
    with av.open(io.BytesIO(png)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def test_the_tables(tmp_path, capsys):
    store = run(csv, tmp_path)
    lines = inspected(store, capsys, "--data.fold", "1")
    assert lines[0] == f"{store}: csv, fold 1 of 2"
    assert "class train dev test clips groups hours with video" in lines
    assert "bell 9 3 3 15 5 0.01 15" in lines
    assert "all 18 6 6 30 5 0.01 30" in lines
    assert "durations: 1.00 to 2.00 s, median 1.50 s" in lines
    assert {"flags: none", "rejected: none"} <= set(lines)


def test_flags_rejects_and_an_unfinished_store(tmp_path, capsys):
    def build(root):
        folder(root)
        (root / "cat" / "x.mp4").write_bytes(b"no media")

    build.__name__ = "folder"
    store = run(build, tmp_path)
    assert "rejected: 1 not_media (FFmpeg does not know the format)" in inspected(store, capsys)
    (store / "rejected.parquet").unlink()
    assert inspected(store, capsys)[0].endswith("NOT FINISHED: the same prepare command resumes it")


def test_the_page_shows_sound_and_frames(tmp_path, capsys):
    store = run(folder, tmp_path, "--data.features.video_color=rgb", "--data.features.video_size=8")
    assert f"page: {store}/inspect.html" in inspected(store, capsys)
    text, found = pictures(store)
    assert "cat/cat0/a.mp4" in text
    assert text.count("<section>") == 10
    assert text.count('"shape":"80, 59"') == 10, "spectrograms, bins by frames"
    assert found[0].shape == (8, 9, 3)
    assert np.ptp(found[0][6, 2].astype(int)) > 50  # the frame is green
    assert "Clips by group" in text


def test_with_its_recordings_the_page_plays_them(tmp_path, capsys):
    store = run(folder, tmp_path)
    inspected(store, capsys)
    text = (store / "inspect.html").read_text()
    assert "<audio" not in text
    assert "python -m mm_ray.prepare SOURCE ROOT --inspect STORE" in text
    root = tmp_path / "root"
    gone = root / "cat" / "cat0" / "a.mp4"
    heard_N, rate = read_audio(gone)
    main(["folder", str(root), "--inspect", str(store)])
    text = (store / "inspect.html").read_text()
    sounds = re.findall(r'<h3>(.+?)</h3>.*\n<audio controls src="data:audio/mpeg;base64,([^"]+)"', text)
    assert len(sounds) == text.count("<section>") == 10
    (tmp_path / "a.mp3").write_bytes(base64.b64decode(dict(sounds)["cat/cat0/a.mp4"]))
    played_N, played_rate = read_audio(tmp_path / "a.mp3")
    assert len(played_N) / played_rate == pytest.approx(len(heard_N) / rate, abs=0.1)
    assert loudest_hz(played_N, played_rate) == pytest.approx(loudest_hz(heard_N, rate), abs=3)
    gone.unlink()
    main(["folder", str(root), "--inspect", str(store)])
    text = (store / "inspect.html").read_text()
    assert text.count("<audio") == 9
    assert re.findall(r"No sound: .*?a\.mp4: no such file", text)


def loudest_hz(waveform_N, rate):
    return np.abs(np.fft.rfft(waveform_N)).argmax() * rate / len(waveform_N)


def test_the_spectrograms_have_seconds_and_hertz():
    features = FeatureConfig(sample_rate=16_000, num_mels=80)
    time = np.arange(16_000) / 16_000
    for hz in (500, 1000, 4000):
        mel_TF = log_mel(np.sin(2 * np.pi * hz * time).astype(np.float32), 16_000, features)
        assert abs(mel_TF.mean(0).argmax() - bins_of(np.array([hz]), features)[0]) < 1


def test_what_is_likely_a_mistake_is_a_warning(tmp_path, capsys):
    store = run(folder, tmp_path, "--data.features.max_frames=20")
    lines = inspected(store, capsys)
    expected = f"WARNING: 10 of 10 clips are longer: only the first 0.42 s are used ({MORE})"
    assert expected in lines
    assert f"Warning: {expected.removeprefix('WARNING: ')}" in (store / "inspect.html").read_text()


def test_no_store_and_no_fold(tmp_path):
    with pytest.raises(UserError, match=r"^--inspect .*: no such store"):
        main(["--inspect", str(tmp_path / "nowhere")])
    store = run(folder, tmp_path)
    with pytest.raises(UserError, match=r"^--data.fold 3: .* has 1 fold"):
        main(["--inspect", str(store), "--data.fold", "3"])
