"""What TensorBoard itself shows of the files, asked over its HTTP interface."""

import json
import math
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from contextlib import contextmanager
from urllib.error import URLError

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mm_ray.runtime.tensorboard import TrialWriter
from mm_ray.tune.hparams import write_experiment
from mm_ray.tune.space import load_space

METRIC = "dev/audio_top1"
SCALAR = f"phase2/distill/{METRIC}"
PARAMS = {"phase2.temperature": 4.0, "phase2.loss_weight": 0.5, "phase2.rounds": 3, "model.none": None, "model.list": [1, 2]}


def report(number, value, phase="phase2/distill"):
    return {"phase": phase, "round": number, "metrics": {METRIC: value}, "reused": False}


def write_trial(logdir, name, values, params=PARAMS):
    writer = TrialWriter(logdir, name, params)
    for number, value in enumerate(values, start=1):
        writer.add_round(report(number, value))
    return writer


class Board:
    def __init__(self, port):
        self.base = f"http://127.0.0.1:{port}/data/"

    def ask(self, path, data=None):
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(self.base + path, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)

    def scalars(self, run, tag):
        query = urllib.parse.urlencode({"run": run, "tag": tag})
        return [(step, pytest.approx(value)) for _, step, value in self.ask(f"plugin/scalars/scalars?{query}")]

    def groups(self):
        question = {
            "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"],
            "colParams": [],
            "startIndex": 0,
            "sliceSize": 100,
        }
        answer = self.ask("plugin/hparams/session_groups", question)
        return {group["name"]: group for group in answer["sessionGroups"]}


@contextmanager
def tensorboard(logdir, *flags):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--reload_interval", "1", *flags]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield Board(port)
    finally:
        process.terminate()
        process.wait(timeout=600)


def wait_for(question, want, limit_s=60):
    """Ask until the answer is `want`: TensorBoard starts slowly and reads in the background."""
    answer, end = None, time.monotonic() + limit_s
    while time.monotonic() < end:
        try:
            answer = question()
        except (URLError, ConnectionError, TimeoutError) as error:
            answer = error
        if answer == want:
            return
        time.sleep(0.3)
    assert answer == want


def study(logdir):
    write_experiment(logdir, load_space("two_phase").distributions, [METRIC])
    write_trial(logdir, "trial_0", [0.1, 0.3, 0.2]).finish("SUCCESS", {METRIC: 0.3})
    write_trial(logdir, "trial_1", [0.1, 0.2])  # killed: never finished
    write_trial(logdir, "trial_2", [], PARAMS | {"phase2.loss_weight": 0.0}).finish("FAILURE")


@pytest.mark.thorough
@pytest.mark.parametrize("flag", ["--load_fast=true", "--load_fast=false"])
def test_tensorboard_shows_a_study(tmp_path, flag):
    study(tmp_path)
    with tensorboard(tmp_path, flag) as board:
        wait_for(lambda: board.scalars("trial_0", SCALAR), [(1, 0.1), (2, 0.3), (3, 0.2)])
        tags = board.ask("plugin/scalars/tags")
        assert set(tags["trial_0"]) == {SCALAR, f"best/{METRIC}"}
        assert set(tags["trial_1"]) == {SCALAR}
        wait_for(lambda: sorted(board.groups()), ["trial_0", "trial_1", "trial_2"])
        check_groups(board.groups())
        check_columns(board.ask("plugin/hparams/experiment", {}))


def check_groups(groups):
    hparams = groups["trial_0"]["hparams"]
    assert hparams == {**PARAMS, "model.none": "None", "model.list": "[1, 2]"}
    assert groups["trial_1"]["hparams"] == hparams
    assert groups["trial_2"]["hparams"]["phase2.loss_weight"] == 0.0
    (value,) = groups["trial_0"]["metricValues"]
    assert (value["name"]["tag"], value["value"]) == (f"best/{METRIC}", pytest.approx(0.3))
    assert [groups[f"trial_{i}"]["sessions"][0]["status"] for i in range(3)] == [
        "STATUS_SUCCESS",
        "STATUS_UNKNOWN",
        "STATUS_FAILURE",
    ]


def check_columns(experiment):
    infos = {info["name"]: info for info in experiment["hparamInfos"]}
    assert infos["phase2.temperature"]["domainInterval"] == {"minValue": 1.0, "maxValue": 20.0}
    assert sorted(infos["phase2.student_init"]["domainDiscrete"]) == ["phase1", "random"]
    assert [info["name"]["tag"] for info in experiment["metricInfos"]] == [f"best/{METRIC}"]
    assert experiment["metricInfos"][0]["displayName"] == METRIC


def test_where_time_is_simulated_dev_scores_also_have_its_seconds_as_their_step(tmp_path):
    writer = TrialWriter(tmp_path, "timed")
    for number, (value, seconds) in enumerate([(0.1, 2.6), (0.2, 3.0)], start=1):
        one = report(number, value)
        writer.add_round(one | {"metrics": one["metrics"] | {"sim_seconds": seconds}})
    writer.finish("SUCCESS")
    scalars = EventAccumulator(str(tmp_path / "timed")).Reload()
    assert [(event.step, event.value) for event in scalars.Scalars(f"sim_seconds/{SCALAR}")] == [
        (3, pytest.approx(0.1)),
        (6, pytest.approx(0.2)),
    ]
    assert [event.value for event in scalars.Scalars("phase2/distill/sim_seconds")] == [pytest.approx(2.6), 3.0]


@pytest.mark.thorough
@pytest.mark.parametrize("flag", ["--load_fast=true", "--load_fast=false"])
def test_a_resumed_trial_is_not_doubled_even_before_a_running_tensorboard(tmp_path, flag):
    write_trial(tmp_path, "trial_0", [0.1, 0.2, 0.9])
    with tensorboard(tmp_path, flag) as board:
        wait_for(lambda: len(board.scalars("trial_0", SCALAR)), 3)
        time.sleep(1.1)  # event files sort by their second
        write_trial(tmp_path, "trial_0", [0.1, 0.3]).finish("SUCCESS", {METRIC: 0.3})
        wait_for(lambda: board.scalars("trial_0", SCALAR), [(1, 0.1), (2, 0.3)])
    with tensorboard(tmp_path, flag) as board:
        wait_for(lambda: board.scalars("trial_0", SCALAR), [(1, 0.1), (2, 0.3)])
        wait_for(lambda: board.groups()["trial_0"]["sessions"][0]["status"], "STATUS_SUCCESS")


def test_a_single_run_needs_no_hparams(tmp_path):
    write_trial(tmp_path, "", [0.5], params=None).finish("SUCCESS")
    (file,) = tmp_path.glob("events.out.tfevents.*")
    assert b"_hparams_" not in file.read_bytes()


def test_reopening_leaves_one_full_file_and_a_killed_trial_has_its_hparams(tmp_path):
    for _ in range(2):
        write_trial(tmp_path, "trial_0", [])
    contents = [file.read_bytes() for file in (tmp_path / "trial_0").glob("events.out.tfevents.*")]
    (full,) = filter(None, contents)
    assert b"phase2.temperature" in full


def test_metrics_that_are_no_numbers_can_be_read_back(tmp_path):
    writer = write_trial(tmp_path, "trial-00000", [0.5, float("nan")], {"phase2.local.lr": float("inf")})
    writer.finish("FAILURE", {METRIC: float("nan")})
    events = EventAccumulator(str(tmp_path / "trial-00000")).Reload()
    assert [event.value for event in events.Scalars(SCALAR)] == pytest.approx([0.5, float("nan")], nan_ok=True)
    assert math.isnan(events.Scalars(f"best/{METRIC}")[0].value)
    assert len(events.SummaryMetadata("_hparams_/session_end_info").plugin_data.content) > 0


def test_writing_loads_neither_torch_nor_tensorflow():
    code = "import sys, mm_ray.runtime.tensorboard; print(sorted({'torch', 'tensorflow', 'ray'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
