"""`python -m mm_ray.predict` on recordings of any rate."""

import io
import json
import wave
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from entry.process import run
from fed.tiny import Run, table_of
from scipy.io import wavfile

from mm_ray.data.batching import gather
from mm_ray.data.features import log_mel
from mm_ray.data.manifest import find_manifest
from mm_ray.errors import UserError
from mm_ray.fed.evaluation import outputs_of
from mm_ray.models.student import load_student
from mm_ray.predict import main
from mm_ray.prediction import predict
from mm_ray.runtime.run_folder import write_results

PREDICT = "mm_ray.predict"


def write_wav(path, waveform, rate, channels=1):
    """16-bit samples; further channels repeat the first one."""
    samples = np.repeat((waveform * 32767).astype("<i2")[:, None], channels, axis=1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return path


def tone(rate, seconds=0.9):
    time = np.arange(int(rate * seconds)) / rate
    return 0.5 * np.sin(2 * np.pi * 440 * time) + 0.1 * np.sin(2 * np.pi * 1320 * time)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict")
    run = Run(folder / "phases")
    write_results(folder, run.tested, run.store, table_of(run.plan.config.data))
    write_wav(folder / "stereo.wav", tone(44_100), 44_100, channels=2)
    write_wav(folder / "phone.wav", tone(8_000), 8_000)
    write_wav(folder / "click.wav", np.array([0.5]), 16_000)
    write_wav(folder / "word.wav", tone(16_000, 0.08), 16_000)
    (folder / "notes.wav").write_text("no sound here")
    return folder


FILES = ("stereo.wav", "phone.wav", "word.wav")


def test_plain_lines_are_label_probability_and_file(folder):
    done = run(PREDICT, ["student.safetensors", *FILES], folder)
    assert (done.code, done.err) == (0, "")
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert [row[2] for row in rows] == list(FILES)
    assert {row[0] for row in rows} <= {f"event{k:02d}" for k in range(4)}
    assert all(0.25 <= float(row[1]) <= 1 for row in rows)


def test_json_lines_hold_all_probabilities(folder):
    done = run(PREDICT, ["student.safetensors", "--json", *FILES], folder)
    assert (done.code, done.err) == (0, "")
    for line, file in zip(done.out.splitlines(), FILES, strict=True):
        answer = json.loads(line)
        assert set(answer) == {"file", "label", "probability", "probabilities"}
        assert answer["file"] == file
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-6)
        assert answer["probability"] == max(answer["probabilities"].values()) == answer["probabilities"][answer["label"]]


def test_what_is_no_recording_is_told_and_the_others_are_predicted(folder):
    done = run(PREDICT, ["student.safetensors", "notes.wav", "phone.wav", "nowhere.wav"], folder)
    assert done.code == 2
    assert [line.split("\t")[2] for line in done.out.splitlines()] == ["phone.wav"]
    lines = done.err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("error: notes.wav: cannot be decoded")
    assert lines[1] == "error: nowhere.wav: no such file; check the path"


def test_a_click_has_no_answer(folder):
    done = run(PREDICT, ["student.safetensors", "click.wav"], folder)
    assert (done.code, done.out) == (2, "")
    assert done.err == "error: click.wav: lasts 0 ms; give a recording or segment of 80 ms or more\n"


def test_names_that_a_shell_or_a_terminal_would_take_for_something_else(folder):
    for name in ("~.wav", "new\nline.wav"):
        write_wav(folder / name, tone(8_000), 8_000)
    done = run(PREDICT, ["student.safetensors", "~.wav", "new\nline.wav"], folder)
    assert (done.code, done.err) == (0, "")
    assert [line.split("\t")[2] for line in done.out.splitlines()] == ["~.wav", "new line.wav"]


def test_weights_that_are_damaged_give_no_label(folder):
    student = load_student(folder / "student.safetensors")
    with torch.no_grad():
        for parameter in student.network.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(UserError, match="not finite"):
        predict(student, str(folder / "word.wav"))


def test_one_bad_file_is_one_line(folder):
    done = run(PREDICT, ["student.safetensors", "notes.wav"], folder)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)


def long_recording(folder, seconds=26.0):
    """Fades from one sound to another."""
    waveform_N = tone(16_000, seconds)
    waveform_N += np.linspace(0, 0.3, len(waveform_N)) * np.random.default_rng(0).uniform(-1, 1, len(waveform_N))
    return write_wav(folder / "long.wav", waveform_N, 16_000)


def test_a_long_recording_is_heard_to_its_end(folder):
    long_recording(folder)
    rows = [
        json.loads(line)
        for line in run(PREDICT, ["student.safetensors", "--windows", "--json", "long.wav"], folder).out.splitlines()
    ]
    times = [(row["start_s"], row["end_s"]) for row in rows]  # 20 s each: 500 frames every 40 ms
    assert times == [(0, 20), (6, 26)]
    (whole,) = map(json.loads, run(PREDICT, ["student.safetensors", "--json", "long.wav"], folder).out.splitlines())
    for name, probability in whole["probabilities"].items():
        assert probability == pytest.approx(np.mean([row["probabilities"][name] for row in rows]), abs=1e-6)
    flags = ["student.safetensors", "--windows", "--window", 2, "--hop", 1, "long.wav"]
    lines = [line.split("\t") for line in run(PREDICT, flags, folder).out.splitlines()]
    assert [line[:2] for line in lines[:3]] == [["0.00", "2.00"], ["1.00", "3.00"], ["2.00", "4.00"]]
    assert lines[-1][1] == "26.00"
    assert {line[4] for line in lines} == {"long.wav"}


def test_folders_patterns_and_stdin(folder, tmp_path):
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    for name in ("a/2.wav", "a/deep/1.wav", "b[1].wav"):
        write_wav(tmp_path / name, tone(16_000), 16_000)
    (tmp_path / "a" / "notes.txt").write_text("passed over")
    student = folder / "student.safetensors"
    done = run(PREDICT, [student, "a", "b[1].wav", "*.wav", "empty", "c*.wav"], tmp_path)
    assert [line.split("\t")[2] for line in done.out.splitlines()] == ["a/2.wav", "a/deep/1.wav", "b[1].wav", "b[1].wav"]
    assert done.err.splitlines() == [
        "error: empty: holds no recordings; check the folder",
        "error: c*.wav: no such file; check the path",
    ]
    assert done.code == 2


def test_stdin_is_a_recording(folder, capsys, monkeypatch):
    recording = io.BytesIO((folder / "phone.wav").read_bytes())
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=recording))
    main([str(folder / "student.safetensors"), "-", str(folder / "phone.wav")])
    from_stdin, from_file = capsys.readouterr().out.splitlines()
    assert from_stdin.split("\t")[2] == "-"
    assert from_stdin.split("\t")[:2] == from_file.split("\t")[:2]
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"no sound")))
    with pytest.raises(SystemExit, match="2"):
        main([str(folder / "student.safetensors"), "-"])
    assert capsys.readouterr().err.startswith("error: stdin: cannot be decoded")


def test_a_silent_recording_is_predicted_with_a_warning(folder):
    write_wav(folder / "silent.wav", np.zeros(16_000), 16_000)
    done = run(PREDICT, ["student.safetensors", "silent.wav", "phone.wav"], folder)
    assert done.code == 0
    assert done.err == "warning: silent.wav: is silent; its label means nothing\n"
    assert len(done.out.splitlines()) == 2


def test_samples_that_are_no_numbers_late_in_a_recording(folder):
    waveform_N = tone(16_000, 15).astype(np.float32)
    waveform_N[-16_000] = np.nan
    wavfile.write(folder / "broken.wav", 16_000, waveform_N)
    done = run(PREDICT, ["student.safetensors", "broken.wav", "phone.wav"], folder)
    assert (done.code, len(done.out.splitlines())) == (2, 1)
    assert done.err.startswith("error: broken.wav: 1 samples are not finite")


@pytest.mark.parametrize(
    ("flag", "value", "text"),
    [
        ("--window", "0.01", "error: --window 0.01: must be 0.08 seconds or more\n"),
        ("--hop", "30", "error: --hop 30.0: must be between 0.04 and the window, 20 seconds\n"),
        ("--jobs", "0", "error: --jobs 0: must be at least 1\n"),
    ],
)
def test_flags_out_of_range(folder, flag, value, text):
    done = run(PREDICT, ["student.safetensors", flag, value, "phone.wav"], folder)
    assert (done.code, done.out, done.err) == (2, "", text)


def test_only_some_seconds_of_a_recording_are_held(folder, monkeypatch):
    """Of 200 s in blocks of 10."""
    longest = []
    mono = log_mel._whole_frames
    monkeypatch.setattr(log_mel, "_whole_frames", lambda waveform_N, f: longest.append(len(waveform_N)) or mono(waveform_N, f))
    path = write_wav(folder / "hour.wav", tone(8_000, 200), 8_000)
    predict(load_student(folder / "student.safetensors"), str(path))
    assert sum(longest) >= 199 * 16_000
    assert max(longest) < 11 * 16_000


def test_rate_and_channels_hardly_matter(folder):
    student = load_student(folder / "student.safetensors")
    stereo, phone = (predict(student, str(folder / file))["probabilities"] for file in ("stereo.wav", "phone.wav"))
    mono = write_wav(folder / "mono.wav", tone(44_100), 44_100)
    assert predict(student, str(mono))["probabilities"] == pytest.approx(stereo, abs=1e-3)
    assert set(phone) == set(stereo)


def test_a_clip_of_the_data_gets_the_answer_that_it_got_in_the_evaluation(folder, tmp_path):
    experiment = Run(tmp_path / "phases")
    data, table = experiment.plan.config.data, table_of(experiment.plan.config.data)
    module = find_manifest(data.name)
    row = int(table.rows("test")[0])
    (clip,) = [clip for clip in module.read(data).clips if clip.id == table.clip_ids_N[row]]
    media = module.load(clip, data)
    path = write_wav(tmp_path / "clip.wav", media.waveform_N, media.sample_rate)
    student = load_student(folder / "student.safetensors")
    outputs = outputs_of(student.network, lambda some: gather(table, np.array([row])[some], ("audio",)), np.array([1]))
    logits = outputs[0][0]
    expected = np.exp(logits) / np.exp(logits).sum()
    answer = predict(student, str(path))
    assert list(answer["probabilities"].values()) == pytest.approx(expected.tolist(), abs=0.02)
