"""The spread over clients at the end of a run, by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from mm_ray.fed import evaluation
from mm_ray.fed.evaluation import client_spreads, update_means
from mm_ray.train import print_clients

CLIPS_KC = np.array([[4, 0], [1, 1], [0, 2], [0, 0]])
"""Clips of four clients by class; the last one's classes are not known."""


def federation():
    clients = [SimpleNamespace(num_clips=n) for n in (4, 2, 2, 8)]
    shares = [counts_C / counts_C.sum() if counts_C.any() else None for counts_C in CLIPS_KC]
    accuracies = lambda recall_C: [None if share_C is None else float(share_C @ recall_C) for share_C in shares]  # noqa: E731
    return SimpleNamespace(clients=clients, client_accuracies=accuracies)


def report(**clients):
    return SimpleNamespace(clients={name.removeprefix("c"): values for name, values in clients.items()})


def test_means_worst_tenth_and_deviation():
    reports = [report(c0=(1.0, 5.0), c1=(2.0, 1.0)), report(c0=(3.0, 7.0)), report(c2=(float("nan"), 1.0))]
    found = client_spreads(federation(), {"student": [0.9, 0.5], "teacher": [1, 1], "control": [0.5, 0.5]}, reports)
    assert set(found) == {"student", "control", "loss", "clips"}
    assert found["student"] == pytest.approx({"mean": 0.7, "worst": 0.5, "sd": 0.2, "n": 3})
    assert found["control"] == pytest.approx({"mean": 0.5, "worst": 0.5, "sd": 0.0, "n": 3})
    assert found["loss"] == pytest.approx({"mean": 2.0, "worst": 2.0, "sd": 0.0, "n": 2})
    assert found["clips"] == pytest.approx({"mean": 4.0, "worst": 2.0, "sd": 8**0.5, "n": 4})
    assert update_means(reports[:2]) == {"0": (2.0, 6.0), "1": (2.0, 1.0)}


def test_a_large_federation_is_not_gone_through(monkeypatch):
    monkeypatch.setattr(evaluation, "MOST_CLIENTS", 3)
    assert client_spreads(federation(), {"student": [0.9, 0.5]}, []) == {}


def test_a_line_per_measure(capsys):
    print_clients(client_spreads(federation(), {"student": [0.9, 0.5]}, []))
    assert capsys.readouterr().out.splitlines() == [
        "",
        "over clients          mean  worst 10 %      sd  clients",
        "student accuracy     0.700       0.500   0.200        3",
        "clips                  4.0         2.0     2.8        4",
    ]
    print_clients({})
    assert capsys.readouterr().out == ""
