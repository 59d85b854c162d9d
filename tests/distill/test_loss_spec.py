"""Weighted sums of losses: how they are written, what they sum to, and which settings they depend on."""

import types

import pytest
import torch

from mm_ray.config import LossConfig, Phase2Config
from mm_ray.distill.objective import LossTerm, loss_settings, objective, parse_loss
from mm_ray.distill.teacher_output import TeacherOutput
from mm_ray.errors import UserError
from mm_ray.losses import dkd, kd
from mm_ray.models.layers import Output
from mm_ray.seeding import torch_stream

LABELS = torch.tensor([2, 0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kd", [("kd", 1.0)]),
        ("kd+dkd", [("kd", 1.0), ("dkd", 1.0)]),
        (" kd:0.7 + mse-logits:.3 ", [("kd", 0.7), ("mse_logits", 0.3)]),
        ("mm_ray.losses.kd:2", [("mm_ray.losses.kd", 2.0)]),
    ],
)
def test_how_a_sum_is_written(text, expected):
    assert [(term.name, term.weight) for term in parse_loss(text)] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kd+rdk", r"^--phase2\.loss rdk: .*known names: .*kd"),
        ("kd+", r"^--phase2\.loss '': "),
        ("kd:0.7:1", r"^--phase2\.loss kd:0\.7: .*known names: .*kd"),
        ("kd:-1", "the weight '-1' is not a number above 0"),
        ("kd:nan", "the weight 'nan' is not a number above 0"),
        ("kd:0+dkd", "the weight '0' is not a number above 0"),
    ],
)
def test_what_cannot_be_understood_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        parse_loss(text)


def test_the_objective_of_a_sum_is_the_weighted_sum():
    logits, teacher = torch.randn(2, 2, 3, generator=torch_stream(0, "sum"))
    output, target = Output(logits, logits), TeacherOutput(teacher)
    one = Phase2Config(loss_weight=1.0, loss="kd:0.7+dkd:0.3")
    expected = 0.7 * kd.loss(output, target, LABELS, one) + 0.3 * dkd.loss(output, target, LABELS, one)
    assert objective(output, target, LABELS, one).equal(0.0 + expected)


def test_a_key_holds_the_settings_that_its_losses_read_and_no_others():
    settings = Phase2Config(temperature=3.0, losses=LossConfig(dkd_beta=4.0))
    assert loss_settings(settings) == {"loss": "kd", "temperature": 3.0}
    mse = Phase2Config(loss="mse_logits", temperature=9.0)
    assert loss_settings(mse) == {"loss": "mse_logits"}
    both = loss_settings(Phase2Config(loss="kd:0.5+dkd:1"))
    assert both == {"loss": "kd:0.5+dkd", "temperature": 2.0, "losses.dkd_alpha": 1.0, "losses.dkd_beta": 8.0}


def test_a_loss_that_does_not_say_what_it_reads_depends_on_all(monkeypatch):
    module = types.ModuleType("own_loss")
    module.loss = kd.loss
    monkeypatch.setitem(__import__("sys").modules, "own.loss", module)
    monkeypatch.setattr("mm_ray.distill.objective.resolve", lambda *_: module)
    parse_loss.cache_clear()
    assert parse_loss("own.loss") == (LossTerm("own.loss", 1.0, kd.loss, None, False, False),)
    used = loss_settings(Phase2Config(loss="own.loss"))
    assert {"temperature", "losses.dkd_alpha", "losses.c2kd_min_tau"} < set(used)
    parse_loss.cache_clear()
