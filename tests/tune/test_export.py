"""The model card: who follows it without this project gets this project's features and logits, and no place on a machine."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from fed.tiny import Run, table_of
from scipy.io import wavfile

from mm_ray.data.features.log_mel import audio_features, log_mel
from mm_ray.models.student import load_student
from mm_ray.predict import predict
from mm_ray.runtime.run_folder import write_results
from mm_ray.tune.export import export

PLACES = {
    "root": "recordings-of-alice",
    "annotations": "lists-of-alice.csv",
    "classes": "classes-of-alice.txt",
    "video_weights": "gs://alice/weights",
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "study"
    folder.mkdir()
    run = Run(folder / "phases", {"phase1.rounds": 2, "phase2.rounds": 1}, control=True)
    write_results(folder, run.tested, run.store, table_of(run.plan.config.data))
    tested = run.tested
    config = tested.finished.plan.config
    data, phase2 = replace(config.data, **PLACES), replace(config.phase2, loss="/mnt/alice/loss.py")
    plan = replace(tested.finished.plan, config=replace(config, data=data, phase2=phase2))
    return export(folder, replace(tested, finished=replace(tested.finished, plan=plan)))


@pytest.fixture(scope="module")
def card(exported):
    return (exported / "README.md").read_text()


def recording(rate, seconds=1.3):
    """A rising tone in noise that fades, as 16-bit integers of two channels (N, 2)."""
    rng, time_N = np.random.default_rng(0), np.arange(round(rate * seconds)) / rate
    tone_N = 0.3 * np.sin(2 * np.pi * 300 * time_N * (1 + time_N))
    noise_N2 = 0.05 * rng.standard_normal((len(time_N), 2)) * np.exp(-time_N)[:, None]
    return np.round(32767 * (tone_N[:, None] * [1.0, 0.5] + noise_N2)).astype(np.int16)


def followed(card, waveform_N, rate, folder, monkeypatch):
    """What the card's two programs make of a recording, run as they stand."""
    features, logits = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    imported = re.findall(r"^(?:import|from) (\w+)", features, re.MULTILINE)
    assert set(imported) <= {"math", "typing", "numpy"}
    names = {"waveform": waveform_N, "rate": rate}
    monkeypatch.chdir(folder)
    exec(features + logits, names)
    return names


@pytest.mark.parametrize("rate", [16_000, 8_000, 44_100])
def test_the_card_followed_literally_gives_our_features_and_logits(exported, card, rate, tmp_path, monkeypatch):
    wavfile.write(tmp_path / "a.wav", rate, recording(rate))
    waveform_N = (recording(rate) / 32768).mean(1)
    theirs = followed(card, waveform_N, rate, exported, monkeypatch)
    settings = load_student(exported / "student.safetensors").features
    mel_TF = log_mel(waveform_N, rate, settings)
    unrounded_TF = (mel_TF - mel_TF.mean(0)) / (mel_TF.std(0) + 1e-5)
    # A half-precision number is off by up to 2^-11 of itself.
    np.testing.assert_allclose(theirs["audio"][0], unrounded_TF, atol=1e-3, rtol=2**-11)
    np.testing.assert_allclose(theirs["audio"][0], audio_features(waveform_N, rate, settings), atol=1e-3, rtol=2**-10)
    shares_C = np.exp(theirs["logits"][0]) / np.exp(theirs["logits"][0]).sum()
    answer = predict(load_student(exported / "student.safetensors"), str(tmp_path / "a.wav"))
    np.testing.assert_allclose(shares_C, list(answer["probabilities"].values()), atol=1e-3)
    assert theirs["label"] == answer["label"]


def test_the_card_states_every_step(card):
    signal = ("mean of the channels", "16000 Hz", "640 samples (40 ms)", "pre-emphasis x[n] - 0.97", "cos(2 pi n / 639)")
    mel = ("20 triangular mel filters", "20 Hz to 8000 Hz", "2^-23", "normalised over the clip", "float16")
    for step in signal + mel:
        assert step in card


def test_nothing_of_the_export_names_a_place(exported, card):
    for path in exported.iterdir():
        data = path.read_bytes()
        assert b"alice" not in data, path
        assert b"site-packages" not in data, path
        assert str(exported.parent).encode() not in data, path
    assert "phase1.local.lr: 0.1" in card
    assert json.loads((exported / "student.json").read_text())["features"]["num_mels"] == 20
