"""The loss and the norm of single clients' updates, as far as the server may see them."""

import math

import numpy as np
import pytest
from fed.tiny import Run

from mm_ray.config import ServerConfig
from mm_ray.fed import executor
from mm_ray.fed.aggregation import screen_update
from mm_ray.types import ClientUpdate

SENT = {"a": np.zeros(2, np.float32)}
UPDATE = ClientUpdate({"a": 2.0}, {"a": np.array([6, 8], np.float32)}, {"audio_loss": 12.0, "audio_seen": 8.0})


def seen_of(server, lists_clients=True):
    return screen_update(server, SENT, 7, UPDATE, lists_clients=lists_clients).seen


def test_mean_loss_and_norm_of_the_change_by_hand():
    assert seen_of(ServerConfig()) == {7: (1.5, 5.0)}
    assert seen_of(ServerConfig(clip_norm=1.0)) == {7: (1.5, 5.0)}, "as it was sent"
    assert seen_of(ServerConfig(rule="median")) == {7: (1.5, 5.0)}


def test_nobody_is_listed_with_differential_privacy_when_refused_or_unless_asked():
    assert seen_of(ServerConfig(noise=1.0, clip_norm=1.0)) == {}
    assert seen_of(ServerConfig(max_norm=1.0)) == {}
    assert seen_of(ServerConfig(), lists_clients=False) == {}


def test_an_update_without_a_loss_has_none():
    bare = ClientUpdate(UPDATE.weights, UPDATE.sums)
    loss, norm = screen_update(ServerConfig(), SENT, 7, bare, lists_clients=True).seen[7]
    assert math.isnan(loss)
    assert norm == 5.0


def test_a_run_lists_who_sent_an_update(tmp_path):
    run = Run(tmp_path)
    for report in run.reports:
        assert len(report.clients) == (0 if report.phase == "phase1/teacher_logits" else report.num_clients)
        assert all(loss > 0 and norm > 0 for loss, norm in report.clients.values())
    last = run.reports[-1]
    mean = np.mean([loss for loss, _ in last.clients.values()])
    assert mean == pytest.approx(last.metrics["train/audio_loss"], rel=0.2)
    assert [report.clients for report in Run(tmp_path).reports] == [report.clients for report in run.reports]


def test_large_cohorts_are_not_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(executor, "MOST_LISTED", 1)
    assert not any(report.clients for report in Run(tmp_path).reports if report.num_clients > 1)
