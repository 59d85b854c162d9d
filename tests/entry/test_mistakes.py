"""A mistake of the user ends in one line on stderr and exit code 2."""

import re

import pytest
from entry.process import run
from fed.tiny import tiny_config, tiny_flags

from mm_ray.runtime.run_folder import config_yaml

TRAIN, TUNE, PREDICT = "mm_ray.train", "mm_ray.tune", "mm_ray.predict"


def write(path, text):
    path.write_text(text)
    return path


def one_line(done):
    assert done.code == 2, done
    assert done.err.startswith("error: ")
    assert done.err.endswith("\n")
    assert done.err.count("\n") == 1, done.err
    assert "Traceback" not in done.err + done.out
    return done.err.removeprefix("error: ").rstrip("\n")


VALUES = {
    "an unknown method": (["--method", "harmonie"], "--method harmonie: ... known names: ... control, ... modality_mirror"),
    "an unknown method, nearly right": (["--method=controll"], "--method controll: did you mean 'control'?"),
    "no teacher": (
        ["--partition.video_missing", "1"],
        "--partition.video_missing 1.0: leaves no client with video ... use at most 0.83",
    ),
    "alpha 0": (["--partition.alpha", "0"], "--partition.alpha 0.0: must be above 0"),
    "dials of other data": (["--data", "avdigits"], "--data.synthetic.num_classes 4: avdigits has no dials; leave it out"),
    "an unknown data set": (["--data=synthetics"], "--data.name synthetics: did you mean 'synthetic'?"),
    "a fold that is not there": (["--data.fold=7"], "--data.fold 7: synthetic has 1 fold"),
    "an unknown flag": (["--phase2.temprature", "2"], "--phase2.temprature: no such flag, did you mean --phase2.temperature?"),
    "no number": (["--phase2.temperature", "hot"], "--phase2.temperature hot: must be a number"),
    "out of range": (["--phase2.temperature=-1"], "--phase2.temperature -1.0: must be above 0"),
    "none of the choices": (["--partition.kind", "random"], "partition.kind ... random"),
    "a flag without its value": (["--seed"], "--seed ... expected one argument"),
    "a deadline in a serial run": (["--clients.deadline_s=3"], "--clients.deadline_s 3.0: a serial run waits for all"),
    "too many clients": (["--partition.num_clients=900"], "--partition.num_clients 900: ... ; use at most 8"),
    "an unknown loss": (["--phase2.loss=kdd"], "--phase2.loss kdd: did you mean 'kd'?"),
    "a dotted name that is not there": (["--method=lab.mine"], "--method lab.mine: cannot be imported ... PYTHONPATH"),
}


@pytest.mark.parametrize("case", VALUES)
def test_a_wrong_value(tmp_path, case):
    flags, message = VALUES[case]
    line = one_line(run(TRAIN, ["--serial", *tiny_flags(), *flags], tmp_path))
    assert_matches(line, message)


def test_no_recordings(tmp_path):
    line = one_line(run(TRAIN, ["--serial", "--data", "avdigits", "--data.root", "nowhere"], tmp_path))
    assert_matches(line, "--data.root nowhere: needs fsdd/recordings/")


def assert_matches(line, message):
    """The pieces of a message, in order, with anything between them."""
    pattern = ".*".join(map(re.escape, message.split(" ... ")))
    assert re.search(pattern, line), line


FILES = {
    "nothing": (None, "--config here.yaml: cannot be read ... give a run's config.yaml or best.yaml"),
    "no YAML": ("a: [1", "--config here.yaml: is not YAML"),
    "a list": ("- 1", "--config here.yaml: holds no config fields"),
    "an unknown field": ("phase2: {temprature: 2}", "--config here.yaml: phase2.temprature is no config field; did you mean"),
    "a wrong value": ("phase2: {temperature: hot}", "phase2.temperature ... hot"),
    "a value out of range": ("partition: {alpha: 0}", "--partition.alpha 0: must be above 0"),
    "no text": (b"\xff\xfe\x00", "--config here.yaml: cannot be read ... give a run's config.yaml or best.yaml"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_wrong_config_file(tmp_path, case):
    content, message = FILES[case]
    if content is not None:
        (tmp_path / "here.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert_matches(one_line(run(TRAIN, ["--serial", "--config", "here.yaml"], tmp_path)), message)


def test_a_folder_of_another_config(tmp_path):
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    write(tmp_path / "runs" / "mine" / "config.yaml", config_yaml(tiny_config({"seed": 9})))
    line = one_line(run(TRAIN, ["--serial", *tiny_flags(), "--name=mine"], tmp_path))
    assert_matches(line, "--name mine: runs/mine/config.yaml holds another config; choose another --name, or remove the folder")


def test_a_folder_where_a_file_belongs(tmp_path):
    (tmp_path / "runs" / "mine" / "rounds.jsonl").mkdir(parents=True)
    line = one_line(run(TRAIN, ["--serial", *tiny_flags(), "--name=mine"], tmp_path))
    assert line == "runs/mine/rounds.jsonl: cannot be used (Is a directory); check what lies there"


@pytest.mark.parametrize("flag", ["runs", "phases"])
def test_a_place_that_is_a_file(tmp_path, flag):
    write(tmp_path / "file", "")
    assert_matches(
        one_line(run(TRAIN, ["--serial", *tiny_flags(), f"--{flag}=file"], tmp_path)), f"--{flag} ... file: cannot be "
    )


def test_an_unknown_kind_of_store(tmp_path):
    line = one_line(run(TRAIN, ["--serial", *tiny_flags(), "--phases=ftp://x/y"], tmp_path))
    assert_matches(line, "--phases ftp://x/y: no file system for it")


def test_a_gpu_where_there_is_none(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)  # of the Ray of other tests, which pretends to have GPUs
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    line = one_line(run(TRAIN, [*tiny_flags(), "--clients.num_gpus=1"], tmp_path))
    assert line == "--clients.num_gpus 1.0: a client actor needs 1 GPUs, the cluster has 0; use 0 to train on the CPU"


def test_a_cluster_that_is_not_there(tmp_path):
    line = one_line(run(TRAIN, [*tiny_flags(), "--address=127.0.0.1:1"], tmp_path))
    assert_matches(line, "--address 127.0.0.1:1: nothing answers there")


STUDY = {
    "an unknown space": (["--space=distil"], "--space distil: did you mean 'distill'?"),
    "no study to go on with": (["--resume=nothing"], "--resume nothing: no study in runs/nothing"),
    "an unknown scheduler": (["--scheduler=fifo"], "scheduler ... fifo"),
    "no number of trials": (["--trials=many"], "trials ... many"),
    "an unknown searcher": (["--searcher=bayes"], "searcher ... bayes"),
    "a scheduler with nothing to compare": (["--scheduler=wilcoxon"], "--scheduler wilcoxon: compares seeds; give --seeds"),
    "no time": (["--time=soon"], "--time soon: is not a duration; write 90, 90s, 30m"),
    "a storage that is not there": (
        ["--storage=sqlite:////no/where/study.db"],
        "--storage sqlite:////no/where/study.db: ",
    ),
}


@pytest.mark.parametrize("case", STUDY)
def test_a_wrong_study(tmp_path, case):
    flags, message = STUDY[case]
    assert_matches(one_line(run(TUNE, [*tiny_flags(), *flags], tmp_path)), message)


def test_no_student_and_no_files(tmp_path):
    line = one_line(run(PREDICT, ["nowhere/student.safetensors", "a.wav"], tmp_path))
    assert_matches(line, "STUDENT nowhere/student.safetensors: no such file ... ; give a run's student.safetensors")
    write(tmp_path / "student.safetensors", "x")
    write(tmp_path / "student.json", "{}")
    assert_matches(one_line(run(PREDICT, ["student.safetensors", "a.wav"], tmp_path)), "STUDENT ... : is not a student")
    assert_matches(one_line(run(PREDICT, ["student.safetensors"], tmp_path)), "files")
    assert_matches(one_line(run(PREDICT, ["student.safetensors", "a.wav", "--jsno"], tmp_path)), "--jsno")
