"""`trials.jsonl`: one row for each trial that has ended."""

import json

from mm_ray.tune.live import LiveTable
from mm_ray.tune.study_log import StudyLog, read_trials


def log_of(folder, open_trials=()):
    return StudyLog(folder, LiveTable(3, lambda: None), open_trials)


def end(log, *numbers):
    for number in numbers:
        log.end({"number": number, "params": {}, "overrides": {}}, "COMPLETE")


def test_the_row_of_a_trial_that_its_driver_did_not_see_ended_is_taken_out_and_written_anew(tmp_path):
    end(log_of(tmp_path), 0, 1)  # killed before it told the study of trial 1
    log = log_of(tmp_path, open_trials=[1])
    assert [row["number"] for row in read_trials(tmp_path)] == [0]
    end(log, 1, 2)
    assert [json.loads(line)["number"] for line in (tmp_path / "trials.jsonl").read_text().splitlines()] == [0, 1, 2]


def test_a_line_that_was_cut_off_is_taken_out(tmp_path):
    end(log_of(tmp_path), 0, 1)
    text = (tmp_path / "trials.jsonl").read_text()
    (tmp_path / "trials.jsonl").write_text(text[:-5])
    log_of(tmp_path)
    assert (tmp_path / "trials.jsonl").read_text() == text.splitlines(keepends=True)[0]
