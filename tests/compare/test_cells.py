"""Cells: what is crossed, what a result's name depends on, and what equal tuning asks for."""

from dataclasses import replace

import pytest

from mm_ray.compare.cells import ComparisonRun, Setting, cells_of
from mm_ray.compare.results import CellResults
from mm_ray.compare.tuning import tuned_settings
from mm_ray.config import ExperimentConfig
from mm_ray.tune.method_search import default_of

BASE = ExperimentConfig()


def test_everything_is_crossed_with_everything_method_by_method():
    cells = cells_of(["a", "b"], [Setting(0.2, 1.0), Setting(0.8, 1.0)], [0, 1, 2], [0, 5])
    assert len(cells) == len(set(map(str, cells))) == 2 * 2 * 3 * 2
    assert [cell.method for cell in cells] == ["a"] * 12 + ["b"] * 12


def test_a_cell_is_a_config():
    cell = ComparisonRun("control", Setting(0.2, 0.1), 3, 4, {"phase1.local.lr": 0.05})
    config = cell.config(BASE)
    assert (config.method, config.seed, config.data.fold) == ("control", 3, 4)
    assert (config.partition.video_missing, config.partition.alpha, config.phase1.local.lr) == (0.2, 0.1, 0.05)


@pytest.mark.parametrize(
    "change",
    [
        {"method": "unifl"}, {"setting": Setting(0.2, 1.0)}, {"seed": 1}, {"fold": 1},
        {"tuned": {"phase1.local.lr": 0.07}}, {"on_test": False},
    ],
)  # fmt: skip
def test_a_result_s_name_depends_on_all_that_it_depends_on(change):
    cell = ComparisonRun("control", Setting(0.5, 1.0), 0, 0)
    assert replace(cell, **change).key(BASE) != cell.key(BASE) == replace(cell).key(BASE)


def test_results_are_kept_by_cell(tmp_path):
    first, second = ComparisonRun("control", Setting(0.5, 1.0), 0, 0), ComparisonRun("control", Setting(0.5, 1.0), 1, 0)
    scores = {"student": {"top1": 0.5}}
    result = {"test": scores, "dev": scores, "per_class": {"student": [0.5, 1]}, "rounds_computed": 3, "rounds_reused": 0}
    CellResults(tmp_path, BASE).write(first, result)
    again = CellResults(tmp_path, BASE)
    assert again.missing([first, second]) == [second]
    assert again.read(first) == result


def fake_run(monkeypatch, score):
    """Replace the running of cells by a function of the cell; returns what was asked for."""
    asked = []

    def run_cells(comparison, cells, title):
        asked.append(list(cells))
        return [{"dev": {"student": {"top1": score(cell)}}} for cell in cells]

    monkeypatch.setattr("mm_ray.compare.tuning.run_cells", run_cells)
    return asked


class FakeComparison:
    base = BASE


def test_every_method_gets_as_many_trials_and_is_judged_by_the_mean_over_seeds_and_folds(monkeypatch):
    # The learning rate that is best on the mean is bad for fold 0.
    def score(cell):
        lr = cell.tuned["phase1.local.lr"]
        return {0: lr, 1: -5 * lr}[cell.fold]

    asked = fake_run(monkeypatch, score)
    cells = cells_of(["modality_mirror", "unifl"], [Setting(0.5, 1.0)], [0, 1], [0, 1])
    tuned = tuned_settings(FakeComparison(), cells, 6)
    assert [len(trial) for trial in asked] == [len(cells)] * 6
    assert not any(cell.on_test for trial in asked for cell in trial)
    assert all(cell.on_test for cell in tuned)
    lowest = {
        m: min(cell.tuned["phase1.local.lr"] for trial in asked for cell in trial if cell.method == m)
        for m in ("modality_mirror", "unifl")
    }
    assert {(cell.method, cell.tuned["phase1.local.lr"]) for cell in tuned} == set(lowest.items())


def test_the_first_trial_is_the_default_and_a_method_is_asked_only_for_what_it_has(monkeypatch):
    asked = fake_run(monkeypatch, lambda cell: 0.5)
    cells = cells_of(["modality_mirror", "control", "unifl"], [Setting(0.5, 1.0)], [0], [0])
    tuned_settings(FakeComparison(), cells, 1)
    assert [cell.tuned for cell in asked[0]] == [default_of(cell.method) for cell in cells]
    assert [len(cell.tuned) for cell in asked[0]] == [5, 2, 1]


def test_tuning_asks_the_same_again_when_it_is_done_again(monkeypatch):
    cells = cells_of(["modality_mirror"], [Setting(0.5, 1.0)], [0], [0])
    runs = []
    for _ in range(2):
        runs.append(fake_run(monkeypatch, lambda cell: cell.tuned["phase2.temperature"]))
        tuned_settings(FakeComparison(), cells, 8)
    assert runs[0] == runs[1]
