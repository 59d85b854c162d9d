"""`python -m mm_ray.compare` as a user runs it: from nothing, again, further, tuned, and with a mistake."""

import csv
import json

import pytest
from entry.process import on_any_machine
from entry.test_jobs import python_m
from fed.tiny import Run, tiny_flags

from mm_ray.tune.method_search import default_of

pytestmark = pytest.mark.ray


def compare(folder, *more):
    flags = [*tiny_flags(), "--name", "c", "--methods", "modality_mirror,control", *more]
    return python_m("mm_ray.compare", flags, folder)


def rows_of(folder):
    with (folder / "runs" / "c" / "compare.csv").open() as file:
        return list(csv.DictReader(file))


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in (folder / "runs" / "c" / "cells").iterdir()}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    return folder, compare(folder, "--seeds", "0,1")


def test_cells_are_the_runs_that_train_would_do_and_share_phase_1(done, tmp_path):
    folder, process = done
    assert (process.returncode, on_any_machine(process.stderr)) == (0, "")
    rows = {(row["method"], row["seed"]): row for row in rows_of(folder)}
    assert len(rows) == 4
    alone = Run(tmp_path, {"seed": 1})
    assert rows["modality_mirror", "1"]["params_digest"] == alone.digest
    assert float(rows["modality_mirror", "1"]["top1"]) == alone.result["test"]["student"]["top1"]
    for seed in "01":
        mirror, control = rows["modality_mirror", seed], rows["control", seed]
        assert int(mirror["rounds_reused"]) + int(control["rounds_reused"]) >= 5
    page = (folder / "runs" / "c" / "compare.html").read_text()
    assert "modality_mirror − control" in page
    assert "audio top-1 on test" in process.stdout


def test_a_second_run_goes_on_where_the_first_one_ended(done):
    folder, _ = done
    before = stamps(folder)
    process = compare(folder, "--seeds", "0,1", "--video_missing", "0.5,0.25")
    assert (process.returncode, on_any_machine(process.stderr)) == (0, "")
    after = stamps(folder)
    assert {name: after[name] for name in before} == before
    assert len(after) == 8
    assert len(rows_of(folder)) == 8


def test_tuning_chooses_on_dev_and_says_so(tmp_path):
    process = compare(tmp_path, "--seeds", "0,1", "--tune", 2, "--serial")
    assert (process.returncode, on_any_machine(process.stderr)) == (0, "")
    rows = rows_of(tmp_path)
    assert {row["method"]: set(json.loads(row["tuned"])) for row in rows} == {
        "modality_mirror": set(default_of("modality_mirror")),
        "control": {"phase1.local.lr", "phase2.local.lr"},
    }
    assert len({row["tuned"] for row in rows}) == 2
    cells = [json.loads(path.read_text()) for path in (tmp_path / "runs" / "c" / "cells").iterdir()]
    assert sum("test" in cell for cell in cells) == 4
    assert "2 trials on dev" in (tmp_path / "runs" / "c" / "compare.html").read_text()


@pytest.mark.parametrize(
    ("flags", "field"),
    [
        (["--methods", "modality_miror"], "--methods modality_miror: did you mean 'modality_mirror'"),
        (["--method", "control"], "--method control: has no effect in a comparison; name it in --methods"),
        (["--seeds", "two"], "seeds"),
        (["--video_missing", "1.5"], "video_missing"),
        (["--methods", ","], "methods"),
        (["--seeds", "0"], "seeds"),
        (["--seeds", ""], "seeds"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path, flags, field):
    process = compare(tmp_path, *flags)
    assert process.returncode == 2
    assert len(process.stderr.splitlines()) == 1
    assert field in process.stderr
    assert not (tmp_path / "runs" / "c").exists()
