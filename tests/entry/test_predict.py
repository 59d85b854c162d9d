"""`python -m mm_ray.predict` on recordings of any rate."""

import json
import wave

import numpy as np
import pytest
import torch
from entry.process import run
from fed.tiny import Run, table_of

from mm_ray.data.batching import gather
from mm_ray.data.manifest import find_manifest
from mm_ray.errors import UserError
from mm_ray.evaluate.predictions import logits_of
from mm_ray.models.student import load_student
from mm_ray.predict import predict
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
    assert done.err == "error: click.wav: lasts 0 ms; give a recording or span of 80 ms or more\n"


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
    logits = logits_of(student.network, lambda some: gather(table, np.array([row])[some], ("audio",)), np.array([1]))[0]
    expected = np.exp(logits) / np.exp(logits).sum()
    answer = predict(student, str(path))
    assert list(answer["probabilities"].values()) == pytest.approx(expected.tolist(), abs=0.02)
