"""`trials.jsonl`: one row for each trial that has ended, whatever became of the file."""

import json
from types import SimpleNamespace

import pytest
from fed.tiny import table_of, tiny_config
from tune.spaces import space_of

from mm_ray.fed.executor import SerialExecutor
from mm_ray.tune.live_table import LiveTable
from mm_ray.tune.searcher import SearchSettings, StudySearch
from mm_ray.tune.study_log import StudyLog, mend_rows, read_trials
from mm_ray.tune.trial import TrialRun, TrialSettings

SPACE = """
    def space(trial):
        return {"phase2.temperature": trial.suggest_float("phase2.temperature", 1, 20)}
"""


class TinyStudy:
    """Three trials as Tune plays them, without Tune: one complete, one stopped at round 2 of phase 2, one complete."""

    def __init__(self, folder):
        self.config = tiny_config({"phase2.rounds": 3})
        self.settings = TrialSettings(self.config, str(folder / "phases"), judged=True)
        self.table, self.run_dir, self.space = table_of(self.config.data), folder / "run", space_of(folder, SPACE)
        self.path = self.run_dir / "trials.jsonl"
        search, log = self.search(), StudyLog(self.run_dir, LiveTable(3))
        search.before_end = log.end
        for name, rounds in (("a", 3), ("b", 2), ("c", 3)):
            self.play(search, log, name, rounds)

    def search(self):
        return StudySearch(self.space, self.run_dir, "run", 0, SearchSettings("random"))

    def play(self, search, log, name, rounds):
        trial = SimpleNamespace(config=search.suggest(name))
        log.on_trial_start(0, [], trial)
        run = TrialRun(self.settings, trial.config["overrides"], self.table, SerialExecutor())
        result = {"phase2_round": 0}
        while result["phase2_round"] < rounds:
            result = run.step()
            log.on_trial_result(0, [], trial, result)
            search.report(name, result)
        run.close()
        search.on_trial_complete(name, result)

    def mended(self, search=None):
        return mend_rows(search or self.search(), self.settings, self.table, "cpu")


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    return TinyStudy(tmp_path_factory.mktemp("study"))


def without_source(row):
    """A row made again does not know which rounds the trial took from the store."""
    return row | {"curve": [report | {"reused": None, "busy_frac": None} for report in row["curve"]]}


def damaged(text):
    lines = text.splitlines(keepends=True)
    return {
        "whole": text,
        "torn": text[:-40],
        "a line is gone": "".join(lines[1:]),
        "the stopped one is gone": lines[0] + lines[2],
        "garbage": lines[0] + "not a row\n" + lines[2],
        "empty": "",
        "another trial's": text + json.dumps(json.loads(lines[0]) | {"number": 7}) + "\n",
        "other parameters": text.replace(lines[1], json.dumps(json.loads(lines[1]) | {"params": {"x": 1}}) + "\n"),
    }


@pytest.mark.parametrize("name", [*damaged("{}\n" * 3)])
def test_rows_are_made_again_from_the_journal_and_the_stored_rounds(played, name):
    text = played.path.read_text()
    whole = read_trials(played.run_dir)
    assert [(row["number"], row["state"]) for row in whole] == [(0, "COMPLETE"), (1, "PRUNED"), (2, "COMPLETE")]
    try:
        played.path.write_text(damaged(text)[name])
        rows = played.mended()
        assert list(map(without_source, rows)) == list(map(without_source, whole))
        assert read_trials(played.run_dir) == rows
        assert [json.loads(line)["number"] for line in played.path.read_text().splitlines()] == [0, 1, 2]
    finally:
        played.path.write_text(text)


def test_a_whole_file_is_left_as_it_is(played):
    before = played.path.stat()
    played.mended()
    assert (played.path.stat().st_ino, played.path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_file_that_is_gone_is_made_again_even_if_rounds_are_gone_too(tmp_path):
    study = TinyStudy(tmp_path)
    study.path.unlink()
    for path in (tmp_path / "phases").glob("*/round-*"):
        path.unlink()
    rows = study.mended()
    assert [(row["number"], row["state"], len(row["curve"])) for row in rows] == [
        (0, "COMPLETE", 0), (1, "PRUNED", 0), (2, "COMPLETE", 0),
    ]  # fmt: skip
    assert all(row["score"] is not None for row in rows)


def test_the_row_of_a_trial_that_the_journal_did_not_see_ended_is_taken_out(tmp_path):
    """A driver killed between the row and the journal; and a journal that was put back to an earlier state."""
    study = TinyStudy(tmp_path)
    search = study.search()
    search.suggest("open")
    row = json.loads(study.path.read_text().splitlines()[0]) | {"number": 3}
    with study.path.open("a") as file:
        file.write(json.dumps(row) + "\n")
    assert [row["number"] for row in study.mended()] == [0, 1, 2]
    assert [row["number"] for row in read_trials(study.run_dir)] == [0, 1, 2]
