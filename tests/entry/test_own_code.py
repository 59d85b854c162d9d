"""Own code that was edited is computed anew, and a line says so; what did not change is taken from the store."""

import json

import pytest
from entry.process import run
from fed.tiny import tiny_flags

LOSS = """
from lab.helper import FACTOR

def loss(student, target, labels_B, settings):
    return FACTOR * (student.logits_BC - target.logits_BC).square().mean()
"""
RULE = """
from lab.helper import FACTOR

def combine(changes_KP, bad_frac):
    return FACTOR * changes_KP.mean(0)
"""
METHOD = """
from dataclasses import dataclass
from mm_ray.fed.method import Method, training
from mm_ray.fed.phase import NetworkRef
from mm_ray.methods.modality_mirror import Unimodal
from lab.helper import FACTOR

@dataclass(frozen=True)
class Mine(Unimodal):
    def loss(self, output, batch, context, client):
        return FACTOR * super().loss(output, batch, context, client)

def build(config):
    return Method((Mine(3, **training(config, config.phase1)),), student=NetworkRef(Mine.name, "audio"))
"""
VIDEO = """
from lab.helper import FACTOR

def loss(frames_SHW3):
    return FACTOR * frames_SHW3.mean((1, 2)) / 255
"""
AUDIO = """
from lab.helper import FACTOR

def loss(waveform_N, sample_rate):
    return FACTOR * waveform_N[: len(waveform_N) // 640 * 640].reshape(-1, 640)[:, :20]
"""
DATA = """
from mm_ray.data.datasets.synthetic import load as plain, read
from mm_ray.data.media.decode import Media
from lab.helper import FACTOR

def load(clip, data):
    media = plain(clip, data)
    frames = None if media.frames is None else (media.frames * FACTOR).astype("uint8")
    return Media(media.waveform_N, media.sample_rate, frames)
"""
CASES = {
    "loss": (LOSS, "--phase2.loss", "lab.mine", 5, 3),
    "a function of a file, with a weight": (LOSS, "--phase2.loss", "kd:0.5+lab/mine.py:loss:0.5", 5, 3),
    "rule": (RULE, "--phase2.server.rule", "lab.mine", 5, 3),
    "method with a phase": (METHOD, "--method", "lab/mine.py", 0, 3),
    "video feature": (VIDEO, "--data.features.video", "lab.mine:loss", 0, 8),
    "audio feature": (AUDIO, "--data.features.audio", "lab/mine.py:loss", 0, 8),
    "data": (DATA, "--data", "lab.mine", 0, 8),
}
"""Own code, the flag, its value, and how many rounds are reused and computed after an edit."""


@pytest.mark.parametrize("case", CASES)
def test_an_edit_is_computed_anew(tmp_path, case):
    code, flag, value, num_reused, num_computed = CASES[case]
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "mine.py").write_text(code)
    (tmp_path / "lab" / "helper.py").write_text("FACTOR = 1.0\n")

    def train(name):
        done = run("mm_ray.train", ["--serial", *tiny_flags(), flag, value, "--name", name], tmp_path)
        assert done.code == 0, done
        result = json.loads((tmp_path / "runs" / name / "result.json").read_text())
        said = [line for line in done.out.splitlines() if line.endswith(": recomputing")]
        return said, result["rounds_reused"], result["rounds_computed"], result["params_digest"]

    whole = num_reused + num_computed
    said, reused, computed, digest = train("first")
    assert (said, reused, computed) == ([], 0, whole)
    if case == "loss":
        assert train("same") == ([], whole, 0, digest)
    (tmp_path / "lab" / "helper.py").write_text("FACTOR = 0.5\n")
    said, reused, computed, other = train("edited")
    spelled = value.replace("kd:0.5+", "").partition(":")[0]
    assert (said, reused, computed) == ([f"{spelled} changed: recomputing"], num_reused, num_computed)
    assert other != digest
    if case != "loss":
        return
    (tmp_path / "lab" / "helper.py").write_text("FACTOR = 1.0\n")
    assert train("as before") == ([], whole, 0, digest)
