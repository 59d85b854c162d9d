"""The export folder: who has only it gets this project's answers, and no place on a machine is named."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import yaml
from fed.tiny import Run, table_of
from scipy.io import wavfile

from mm_ray.config import DataConfig
from mm_ray.errors import EnvironmentFailure, UserError
from mm_ray.evaluate.statistics import proportion_interval
from mm_ray.export import subject as subjects
from mm_ray.export.__main__ import main
from mm_ray.models.student import load_student
from mm_ray.prediction import predict
from mm_ray.runtime.run_folder import config_yaml, write_results
from mm_ray.tune.export import export

PLACES = {
    "root": "recordings-of-alice",
    "annotations": "lists-of-alice.csv",
    "classes": "classes-of-alice.txt",
    "video_weights": "gs://alice/weights",
}
FILES = {
    "README.md", "SHA256SUMS", "predict.py", "student.int8.onnx", "student.json", "student.onnx", "student.safetensors",
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def run(runs):
    folder = runs / "study"
    folder.mkdir()
    run = Run(runs / "phases", {"phase1.rounds": 2, "phase2.rounds": 1}, control=True)
    write_results(folder, run.tested, run.store, table_of(run.plan.config.data))
    (folder / "config.yaml").write_text(config_yaml(run.plan.config))
    content = json.loads((folder / "student.json").read_text())
    content["features"]["video"], content["model"]["video_encoder"] = (
        "transformers:/models/alice/vit",
        "/models/alice/own.py:GRU",
    )
    (folder / "student.json").write_text(json.dumps(content))
    return run


@pytest.fixture(scope="module")
def exported(runs, run):
    """As a study does it, with settings that name private places."""
    tested = run.tested
    config = tested.finished.plan.config
    data, phase2 = replace(config.data, **PLACES), replace(config.phase2, loss="/mnt/alice/loss.py")
    plan = replace(tested.finished.plan, config=replace(config, data=data, phase2=phase2))
    return export(runs / "study", replace(tested, finished=replace(tested.finished, plan=plan)))


@pytest.fixture(scope="module")
def card(exported):
    return (exported / "README.md").read_text()


def recording(rate, seconds):
    """A rising tone in noise that fades, as 16-bit integers of two channels (N, 2)."""
    rng, time_N = np.random.default_rng(0), np.arange(round(rate * seconds)) / rate
    tone_N = 0.3 * np.sin(2 * np.pi * 300 * time_N * (1 + time_N / seconds))
    noise_N2 = 0.05 * rng.standard_normal((len(time_N), 2)) * np.exp(-time_N)[:, None]
    return np.round(32767 * (tone_N[:, None] * [1.0, 0.5] + noise_N2)).astype(np.int16)


@pytest.mark.parametrize("rate", [16_000, 8_000, 44_100])
def test_the_program_beside_the_model_gives_our_answers(exported, rate, tmp_path):
    for seconds in (0.5, 3.0, 27.0):  # a window has 20 s
        wavfile.write(tmp_path / f"{seconds}.wav", rate, recording(rate, seconds))
    samples = recording(rate, 1.0)
    wavfile.write(tmp_path / "8.wav", rate, (samples[:, 0] // 256 + 128).astype(np.uint8))
    wavfile.write(tmp_path / "32.wav", rate, samples.astype(np.int32) << 16)
    files = sorted(str(path) for path in tmp_path.glob("*.wav"))
    command = [sys.executable, "-I", str(exported / "predict.py"), *files]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    student = load_student(exported / "student.safetensors")
    for line, file in zip(done.stdout.splitlines(), files, strict=True):
        label, probability, name = line.split("\t")
        answer = predict(student, file)
        assert (label, name) == (answer["label"], file)
        assert float(probability) == pytest.approx(answer["probability"], abs=1e-3)


def test_the_program_needs_numpy_and_onnxruntime_only(exported):
    imported = re.findall(r"^(?:import|from) (\w+)", (exported / "predict.py").read_text(), re.MULTILINE)
    assert set(imported) <= {"json", "sys", "wave", "pathlib", "numpy", "onnxruntime"}


def test_the_folder_and_its_checksums(exported):
    assert {path.name for path in exported.iterdir()} == FILES
    for line in (exported / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((exported / name).read_bytes()).hexdigest() == digest


def test_nothing_of_the_export_names_a_place(exported, card):
    for path in exported.iterdir():
        data = path.read_bytes()
        assert b"alice" not in data, path
        assert b"site-packages" not in data, path
        assert str(exported.parent).encode() not in data, path
    assert "phase1.local.lr: 0.1" in card
    description = json.loads((exported / "student.json").read_text())
    assert description["features"]["num_mels"] == 20
    assert (description["features"]["video"], description["model"]["video_encoder"]) == ("transformers:vit", "own.py:GRU")


def test_the_card_states_accuracy_with_its_interval_and_the_clients(run, card):
    head = yaml.safe_load(card.split("---")[1])
    assert (head["license"], head["datasets"]) == ("unknown", ["synthetic"])
    top1 = run.result["test"]["student"]["top1"]
    (result,) = head["model-index"][0]["results"]
    assert result["task"] == {"type": "audio-classification"}
    assert result["metrics"][0]["value"] == pytest.approx(top1, abs=1e-4)
    clips = int(run.tested.confusions["student"].sum())
    low, high = proportion_interval(round(top1 * clips), clips)
    assert "| `student.onnx` | 32-bit weights | " in card
    assert f"| {top1:.3f} ({low:.3f} to {high:.3f}, n = {clips}) |" in card
    assert f"| {low:.3f} to {high:.3f}, n = {clips} |" in card
    assert (
        "A simulated federation of 6 clients (`dirichlet` partition, seed 1): 3 with audio and video, 3 with audio only."
        in card
    )
    assert "| class | test clips | student's recall | control's recall |" in card


def test_the_card_states_every_step(card):
    signal = ("mean of the channels", "16000 Hz", "640 samples (40 ms)", "pre-emphasis x[n] - 0.97", "cos(2 pi n / 639)")
    mel = ("20 triangular mel filters", "20 Hz to 8000 Hz", "2^-23", "normalised over the window", "float16")
    for step in signal + mel:
        assert step in card


def test_an_interval_of_wilson():
    assert proportion_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # by hand: 0.7168 +- 0.2266
    assert proportion_interval(0, 5) == pytest.approx((0, 0.4345), abs=1e-4)
    assert proportion_interval(0, 0) == (0, 1)


def test_a_run_by_its_name(runs, run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(subjects, "load_data", lambda data, cache: table_of(data))
    main(["study", "--runs", str(runs), "--out", str(tmp_path / "out")])
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    top1 = run.result["test"]["student"]["top1"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"| distilled student | {top1:.3f} |" in card
    assert f"| {top1:.3f} (" in card
    assert "student.onnx" in capsys.readouterr().out


def test_a_run_whose_data_is_gone(runs, run, tmp_path, capsys, monkeypatch):
    def gone(data: DataConfig, cache: object) -> None:
        raise UserError("--data.root x: no such folder")

    monkeypatch.setattr(subjects, "load_data", gone)
    main([str(runs / "study"), "--out", str(tmp_path / "out")])
    assert "warning: the data cannot be read" in capsys.readouterr().out
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| not measured |" in card
    assert "The data was not at hand when this was exported." in card


def test_a_comparisons_best_run_by_dev(runs, run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(subjects, "load_data", lambda data, cache: table_of(data))
    folder = runs / "comparison"
    folder.mkdir()
    config = run.plan.config
    (folder / "config.yaml").write_text(config_yaml(config))
    row = f"{{}},{config.partition.video_missing},{config.partition.alpha},1,0,{{}},\n"
    head = "method,video_missing,alpha,seed,fold,dev_top1,tuned\n"
    rows = [row.format("control", 0.9), row.format("modality_mirror", 0.5), row.format("harmony", "")]
    (folder / "compare.csv").write_text(head + "".join(rows))
    main([str(folder), "--method", "modality_mirror", "--out", str(tmp_path / "out")])
    assert "the run with the best dev accuracy, 0.500: method modality_mirror, seed 1" in capsys.readouterr().out
    assert (tmp_path / "out" / "student.safetensors").read_bytes() == (runs / "study" / "student.safetensors").read_bytes()
    with pytest.raises(
        UserError, match=r"^--method unifl: no such method with a student in .*; it has control, modality_mirror$"
    ):
        main([str(folder), "--method", "unifl", "--out", str(tmp_path / "out")])


def test_a_page_with_all_that_a_browser_needs(runs, run, tmp_path, monkeypatch):
    monkeypatch.setattr(subjects, "load_data", lambda data, cache: table_of(data))
    (tmp_path / "package" / "dist").mkdir(parents=True)
    for name in ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"):
        (tmp_path / "package" / "dist" / name).write_text(f"contents of {name}")
    main([str(runs / "study"), "--out", str(tmp_path / "out"), "--demo", str(tmp_path / "package")])
    page = (tmp_path / "out" / "demo.html").read_text()
    parts = dict(re.findall(r'<script type="[a-z/]+" id="(\w+)">(.*?)</script>', page))
    assert json.loads(parts["notes"]) == {"class_names": [f"event{k:02d}" for k in range(4)], "sample_rate": 16_000}
    assert base64.b64decode(parts["model"]) == (tmp_path / "out" / "student.onnx").read_bytes()
    assert base64.b64decode(parts["wasm"]) == b"contents of ort-wasm-simd-threaded.wasm"
    assert base64.b64decode(parts["runtime"]) == b"contents of ort.wasm.bundle.min.mjs"
    assert page.count("<h1>study</h1>") == page.count("<title>study</title>") == 1
    assert not re.search(r"https?://|(src|href)=", page)  # it asks nobody for anything
    assert "demo.html" in (tmp_path / "out" / "SHA256SUMS").read_text()


def test_a_page_without_its_runtime(runs, run, tmp_path, monkeypatch):
    flags = [str(runs / "study"), "--out", str(tmp_path / "out"), "--demo"]
    monkeypatch.setattr(subjects, "load_data", lambda data, cache: table_of(data))
    with pytest.raises(UserError, match=r"^--demo nowhere: has no ort.wasm.bundle.min.mjs; give the unpacked npm package"):
        main([*flags, "nowhere"])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentFailure, match=r"^--demo: npm is not installed; install Node.js, or give "):
        main(flags)


def test_what_cannot_be_exported(runs, run, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "nothing").mkdir()
    for flags, text in (
        (["nowhere", "--out", "x"], r"^RUN nowhere: no such folder, nor a run of this name below runs$"),
        ([str(tmp_path / "nothing"), "--out", str(tmp_path / "x")], r"^RUN .*nothing: holds no student.safetensors; give "),
        ([str(runs / "study")], r"^--out: name the folder to write with --out, or a repo"),
        ([str(runs / "study"), "--out", str(tmp_path / "file")], r"^--out .*file: is a file; name a folder$"),
    ):
        with pytest.raises(UserError, match=text):
            main(flags)
    assert not (tmp_path / "x").exists()
