"""The end of a study: who computes what is missing, the same seeds on every card, what it cost, and a study at chance level."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from fed.tiny import Run, table_of, tiny_config
from tune.spaces import space_of

from mm_ray.errors import StorageError, UserError
from mm_ray.evaluate.metrics import recall
from mm_ray.fed import experiment
from mm_ray.fed.executor import SerialExecutor
from mm_ray.tune import finalize as finalize_module
from mm_ray.tune.finalize import finalize, report_so_far
from mm_ray.tune.live_table import LiveTable
from mm_ray.tune.report import client_rows, cost, curves_over_time
from mm_ray.tune.searcher import SearchSettings
from mm_ray.tune.stored import stored_run
from mm_ray.tune.study import Runner, Study
from mm_ray.tune.study_log import StudyLog
from mm_ray.tune.trial import TrialRun
from mm_ray.types import UNLABELLED

SPACE = """
    def space(trial):
        return {"phase2.temperature": trial.suggest_float("phase2.temperature", 1, 20)}
"""


class Here(Runner):
    """A runner whose jobs are played in this process; it notes them."""

    def compute(self, search, what, jobs):
        self.asked.extend((job["overrides"].get("method", "own"), *job["seeds"]) for job in jobs)
        for job in jobs:
            run = TrialRun(self.study.trial_settings, job["overrides"], self.table, SerialExecutor(), job["seeds"])
            while not run.step()["finished"]:
                pass
        return [SimpleNamespace(error=None) for _ in jobs]


def played(folder, num_seeds, overrides=(), change=lambda table: table):
    """A study of one trial, and its runner; `change` gives the table to use instead of the one that all tests share."""
    config = tiny_config(dict(overrides))
    search = SearchSettings("random")
    study = Study(
        config, space_of(folder, SPACE), folder / "study", str(folder / "phases"), 1, "actor", search, num_seeds=num_seeds
    )
    runner = Here(study, change(table_of(config.data)), None)
    object.__setattr__(runner, "asked", [])
    opened = study.open_search()
    log = StudyLog(study.folder, LiveTable(1))
    opened.before_end = log.end
    trial = SimpleNamespace(config=opened.suggest("a"))
    log.on_trial_start(0, [], trial)
    run, result = TrialRun(study.trial_settings, trial.config["overrides"], runner.table, SerialExecutor()), {"finished": False}
    while not result["finished"]:
        result = run.step()
        log.on_trial_result(0, [], trial, result)
    opened.on_trial_complete("a", result)
    return runner, opened


def test_all_cards_are_of_the_same_seeds(tmp_path):
    runner, search = played(tmp_path, 2)
    found = finalize(runner, search, None)
    # The trial's own rounds are stored; client actors train the controls.
    assert runner.asked == [("control", 1), ("control", 2), ("control_all", 1), ("control_all", 2)]
    result = json.loads((runner.study.folder / "result.json").read_text())
    assert [one["seed"] for one in result["seeds"]] == [1, 2]
    alone = Run(tmp_path / "alone", found.row["overrides"] | {"seed": 2}, control=True).result
    assert result["seeds"][1] == {key: alone[key] for key in ("seed", "test", "dev", "params_digest")}
    assert found.test["control"] == [one["test"]["control"]["top1"] for one in result["seeds"]]
    page = (runner.study.folder / "report.html").read_text()
    assert len(re.findall(r"<b>\d\.\d{3}</b>\n<small>[^<]*\(n=2", page)) == 2 * 5, (
        "three roles and two controls, on test and on dev"
    )


def test_single_predictions_are_kept_and_give_the_scores(tmp_path):
    runner, search = played(tmp_path, 2)
    found = finalize(runner, search, None)
    rows = pq.read_table(runner.study.folder / "test_predictions.parquet").to_pandas()
    assert list(rows.columns) == ["seed", "role", "clip_id", "label", "predicted"]
    assert set(rows["role"]) == set(found.test)
    for (seed, role), mine in rows.groupby(["seed", "role"]):
        top1 = (mine["label"] == mine["predicted"]).mean()
        assert top1 == pytest.approx(found.test[role][seed - 1])
    assert "over seeds and test clips (paired bootstrap)" in found.verdict[-1]


def test_clients_have_their_classes_and_what_they_may_expect(tmp_path):
    runner, search = played(tmp_path, 1)
    found = finalize(runner, search, None)
    rows, table = client_rows([found.tested]), runner.table
    assert sum(row["clips"] for row in rows) == len(table.rows("train"))
    assert all(sum(row["classes"]) == row["clips"] == row["labelled"] for row in rows)
    recalls = recall(found.tested.confusions["student"])
    mix = rows[0]["classes"]
    assert rows[0]["accuracy"]["student"] == pytest.approx(np.average(recalls, weights=mix))
    assert any(row["rounds"] for row in rows)


def test_clips_without_a_label_are_of_no_class(tmp_path):
    def unlabelled(table):
        first = np.arange(table.num_clips) == table.rows("train")[0]
        return replace(table, labels_N=np.where(first, UNLABELLED, table.labels_N))

    runner, search = played(tmp_path, 1, {"partition.num_clients": 2}, unlabelled)
    found = finalize(runner, search, None)
    rows = client_rows([found.tested])
    assert sum(sum(row["classes"]) for row in rows) == len(runner.table.rows("train")) - 1


def test_the_result_says_what_the_study_cost_and_what_was_reused(tmp_path):
    runner, search = played(tmp_path, 1)
    finalize(runner, search, None)
    result = json.loads((runner.study.folder / "result.json").read_text())
    (row,) = runner.rows(search)
    assert result["study"] == {
        "trials": 1, "rounds_computed": 8, "rounds_reused": 0,
        "compute_s": pytest.approx(sum(report["seconds"] for report in row["curve"])),
    }  # fmt: skip
    assert (result["rounds_computed"], result["rounds_reused"]) == (0, 8)
    assert result["compute_s"] == pytest.approx(result["study"]["compute_s"])
    page = (runner.study.folder / "report.html").read_text()
    assert f"{result['flops']:.3g} by formula" in page
    assert f"driver {result['peak_memory_bytes']['driver'] / 1e6:,.0f} MB" in page
    assert result["energy_j"] is not None or "<th>energy</th><td>not measured</td>" in page


def test_the_driver_trains_nothing_when_rounds_are_gone(tmp_path, monkeypatch):
    runner, search = played(tmp_path, 1)
    for path in (tmp_path / "phases").glob("*/round-*"):
        path.unlink()
    finalize(runner, search, None)
    assert runner.asked == [("own", 1), ("control", 1), ("control_all", 1)]
    for path in (tmp_path / "phases").glob("*/round-*"):
        path.unlink()
    monkeypatch.setattr(finalize_module, "_compute", lambda *given: None)
    with pytest.raises(StorageError, match="rounds of phase1/unimodal were removed while they were needed"):
        finalize(runner, search, None)


def test_a_study_at_chance_says_so(tmp_path):
    runner, search = played(tmp_path, 1, {"phase1.local.lr": 1e-9, "phase2.local.lr": 1e-9})
    found = finalize(runner, search, None)
    assert {"student", "control"} <= set(found.at_chance)
    assert found.guessing == pytest.approx(8 / 30), "30 test clips, 8 of them of the most common class"
    assert "not better than guessing, 0.27" in (runner.study.folder / "report.html").read_text()


def test_the_report_of_a_study_without_a_complete_trial(tmp_path):
    runner, _ = played(tmp_path, 1)
    report_so_far(runner)
    assert "best trial (0)" in (runner.study.folder / "report.html").read_text()
    (runner.study.folder / "optuna.journal").unlink()
    with pytest.raises(UserError, match=r"no trial of .* reached its end"):
        finalize(runner, runner.study.open_search(), None)


def test_where_time_is_simulated_the_page_has_accuracy_over_it(tmp_path):
    runner, search = played(tmp_path, 1, {"clients.profile": "phone,laptop"})
    found = finalize(runner, search, None)
    page = (runner.study.folder / "report.html").read_text()
    assert "Accuracy over simulated time" in page
    times = [seconds for seconds, _ in curves_over_time(found.tested, "dev/audio_top1")["student"]]
    assert times == sorted(times)
    assert times[-1] == pytest.approx(found.tested.result["sim_seconds"])
    assert f"{times[-1]:,.0f} s" in page


def test_rounds_are_replayed_once_and_each_network_is_tested_once(tmp_path, monkeypatch):
    runner, search = played(tmp_path, 2)
    finalize(runner, search, None)
    replayed, tested = [], []
    replay, predict = stored_run, experiment._predict_test
    monkeypatch.setattr(
        finalize_module, "stored_run", lambda plan, *given: replayed.append(plan.config) or replay(plan, *given)
    )
    monkeypatch.setattr(experiment, "_predict_test", lambda run, *given: tested.append(run) or predict(run, *given))
    found = finalize(runner, search, None)
    assert [(one.method, one.seed) for one in replayed] == [
        ("modality_mirror", 1), ("modality_mirror", 2), ("control", 1), ("control", 2), ("control_all", 1), ("control_all", 2)
    ]  # fmt: skip
    assert len(tested) == 2 * len(found.test), "three roles and two controls of each seed"
    lines = [json.loads(line) for line in (runner.study.folder / "rounds.jsonl").read_text().splitlines()]
    assert [one["phase"] for one in lines[-6:]] == ["control/cross_entropy"] * 3 + ["control_all/cross_entropy"] * 3


@pytest.mark.parametrize(("seconds", "shown"), [(0.538, "0.538 s"), (12.34, "12.3 s"), (12345.6, "12,346 s"), (None, None)])
def test_simulated_time_is_shown_whether_short_or_long(seconds, shown):
    result = {"peak_memory_bytes": {"driver": 1e9, "actor": None}, "energy_j": None, "flops": 1e9, "compute_s": 1.0}
    result |= {"bytes_up": 1, "bytes_down": 1} | ({} if seconds is None else {"sim_seconds": seconds})
    assert cost([], result).get("simulated time, chosen configuration") == shown
