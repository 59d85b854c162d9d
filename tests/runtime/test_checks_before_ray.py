"""A mistake is found before Ray is started, and leaves no folder of a run."""

import pytest
import ray
import torch
from fed.tiny import tiny_flags

from mm_ray import train, training
from mm_ray.compare import __main__ as compare
from mm_ray.compare import comparison
from mm_ray.errors import UserError
from mm_ray.runtime import cluster
from mm_ray.tune import __main__ as tune
from mm_ray.tune import run as tune_run

COMMANDS = {"train": train, "tune": tune, "compare": compare}


@pytest.fixture(autouse=True)
def no_ray(monkeypatch, tmp_path):
    def start(num_gpus):
        raise AssertionError("Ray was started")

    monkeypatch.setattr(cluster, "start_local_ray", start)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--clients.num_gpus=1"], "num_gpus 1.0: .*the cluster has 0; use 0"),
        (["--clients.num_cpus=5000"], "num_cpus 5000.0: "),
        (["--data.fold=7"], "fold 7: "),
        (["--partition.num_clients=900"], "num_clients 900: "),
        (["--phases=ftp://x/y"], "phases ftp://x/y: "),
    ],
)
def test_a_mistake_costs_no_start_and_leaves_no_run(tmp_path, command, flags, message):
    with pytest.raises(UserError, match=message):
        COMMANDS[command].main([*tiny_flags(), *flags])
    runs = tmp_path / "runs"
    assert not runs.exists() or {path.name for path in runs.iterdir()} <= {"features"}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--model.audio_encoder=transfomer", "audio_encoder transfomer: did you mean 'transformer'"),
        ("--model.video_encoder=resnet", "video_encoder resnet: reads audio only"),
        ("--phase2.loss=kd+dkdd:0.3", "loss dkdd.*: did you mean 'dkd'"),
        ("--phase2.loss=mine.py:thing", "loss mine.py:thing: the module has no thing"),
        ("--phase1.server.rule=medan", "rule medan: did you mean 'median'"),
        ("--tracker=wandbb", "tracker wandbb: did you mean 'wandb'"),
        ("--partition.kind=natral", "kind natral: did you mean 'natural'"),
        ("--partition.kind=mine.py:thing", "kind mine.py:thing: the module has no function thing"),
        ("--partition.kind=bad.csv", "kind bad.csv: has no column 'clip'"),
        ("--partition.label_confusion=bad.csv", "label_confusion bad.csv: cannot be read as a CSV of numbers"),
        ("--clients.profile=nofile.csv", "profile nofile.csv: cannot be read as a CSV file of numbers"),
        ("--clients.profile=bad.csv", "profile bad.csv: has no column 'client'"),
        ("--clients.profile=phonee", "profile phonee: 'phonee' is not a device"),
        ("--data=synthetik", "data.name synthetik: did you mean 'synthetic'"),
        ("--data.features.video=mobilenet", "features.video mobilenet: did you mean 'mobilenet_v2'"),
        ("--name=taken", "name taken: .* holds another config"),
        ("--phases=ftp://x/y", "phases ftp://x/y: "),
    ],
)
def test_a_mistake_does_not_wait_for_the_data(tmp_path, monkeypatch, command, flag, message):
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "bad.csv").write_text("one,two\n1,x\n")
    (tmp_path / "runs" / "taken").mkdir(parents=True)
    (tmp_path / "runs" / "taken" / "config.yaml").write_text("seed: 7\n")
    for module in (training, tune_run, comparison):
        monkeypatch.setattr(module, "load_with_progress", lambda data, runs: pytest.fail("the data was read"))
    with pytest.raises(UserError, match=message):
        COMMANDS[command].main([*tiny_flags(), flag])


@pytest.mark.parametrize(("command", "flag"), [("train", "--method"), ("tune", "--method"), ("compare", "--methods")])
@pytest.mark.parametrize(("name", "message"), [("harmon", "did you mean 'harmony'"), ("mine.py:thing", "has no thing")])
def test_a_method_that_is_not_there_does_not_wait_for_the_data(tmp_path, command, flag, name, message):
    (tmp_path / "mine.py").write_text("")
    with pytest.raises(UserError, match=rf"^{flag} {name}: .*{message}"):
        COMMANDS[command].main([*tiny_flags(), flag, name])
    assert not (tmp_path / "runs").exists()


def test_simulated_time_as_an_objective_needs_devices(tmp_path):
    (tmp_path / "fast.py").write_text(
        'OBJECTIVES = {"dev/audio_top1": "max", "sim_seconds": "min"}\ndef space(trial): return {}'
    )
    with pytest.raises(UserError, match=r"^--space fast\.py: names sim_seconds; add --clients\.profile"):
        tune.main([*tiny_flags(), "--space=fast.py"])
    with pytest.raises(AssertionError, match="Ray was started"):
        tune.main([*tiny_flags(), "--space=fast.py", "--clients.profile=phone"])


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_right_starts_ray_last(command):
    with pytest.raises(AssertionError, match="Ray was started"):
        COMMANDS[command].main(tiny_flags())


OWN_ENCODER = """
from torch import nn
from mm_ray.models.layers import Sequence, length_mask, within


class Mine(nn.Module):
    def __init__(self, features, model):
        super().__init__()
        self.linear, self.output_size = nn.Linear(features, model.hidden), model.hidden

    def forward(self, values_BTF, lengths_B, generator=None):
        values_BTF, lengths_B = within(values_BTF, lengths_B)
        return Sequence(self.linear(values_BTF), length_mask(lengths_B, values_BTF.shape[1]))


class Broken(Mine):
    def write_onnx(self, graph):
        graph.add("encoded_WTH = Nonsense(")
"""
EXPORT_FAULTS = {
    "--model.audio_encoder=mine.py:Mine": r"^--model.audio_encoder mine.py:Mine: cannot be written as ONNX; of the encoders",
    "--model.audio_encoder=mine.py:Broken": r"^--model.audio_encoder mine.py:Broken: cannot be written as ONNX \(.*correct the",
    "--space=encoders.py": r"^--model.audio_encoder mine.py:Mine: cannot be written as ONNX; of the encoders",
    "--method=central_av": r"^--method central_av: has no student to export; leave out --export$",
}


@pytest.mark.parametrize("flag", EXPORT_FAULTS)
def test_a_student_that_cannot_be_exported_is_refused_before_the_study(tmp_path, flag):
    (tmp_path / "mine.py").write_text(OWN_ENCODER)
    choice = 'trial.suggest_categorical("encoder", ["mlp", "mine.py:Mine"])'
    (tmp_path / "encoders.py").write_text(f'def space(trial): return {{"model.audio_encoder": {choice}}}')
    with pytest.raises(UserError, match=EXPORT_FAULTS[flag]) as caught:
        tune.main([*tiny_flags(), "--export", flag])
    assert "\n" not in str(caught.value)
    assert {path.name for path in (tmp_path / "runs").iterdir()} <= {"features"}
