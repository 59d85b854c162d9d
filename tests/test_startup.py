"""What is said before a run computes: how far the features are, and that GPUs are idle."""

import pytest

from mm_ray import startup
from mm_ray.config import ClientsConfig


@pytest.mark.parametrize(
    ("num_gpus", "asked", "said"),
    [
        (0, 0.0, ""),
        (2, 0.5, ""),
        (1, 0.0, "1 GPU is idle: the clients train on the CPU; --clients.num_gpus 0.25 puts four of them on a GPU\n"),
        (8.0, 0.0, "8 GPUs are idle: the clients train on the CPU; --clients.num_gpus 0.25 puts four of them on a GPU\n"),
    ],
)
def test_idle_gpus_are_named(capsys, num_gpus, asked, said):
    startup.say_idle_gpus(ClientsConfig(num_gpus=asked), num_gpus)
    assert capsys.readouterr().out == said


def test_features_show_a_line_at_once_and_then_every_few_seconds(capsys, monkeypatch):
    clock = iter([100.0, 100.0, 101.0, 106.0, 106.0])
    monkeypatch.setattr(startup.time, "monotonic", lambda: next(clock))
    tell = startup._lines()
    for done in (1, 2, 300):
        tell(done, 1200)
    assert capsys.readouterr().out == "features 1/1,200\nfeatures 300/1,200\n"
