"""The parts of benchmarks/ that work figures out; nothing is timed here."""

import importlib
import pickle
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import benchmarks
from benchmarks.bars import judged
from benchmarks.chaos import by_fault, rows_of, table
from benchmarks.chaos_faults import FAULTS, deck
from benchmarks.chaos_hunt import END, RUNS, Event, Run, seconds_lost
from benchmarks.chart import svg
from benchmarks.growth import RoundTime, fitted
from benchmarks.hosts import Traffic, predicted_row, traffic_of, with_speed_up
from benchmarks.hosts import table as hosts_table
from benchmarks.ours import rounds_of
from benchmarks.peers import plain
from benchmarks.peers.plain import PlainNet, Settings, flat, put
from benchmarks.precision import paired
from benchmarks.roofline import OperationTimer
from benchmarks.systems import System
from benchmarks.time_to_accuracy import curve_of, spread, time_to
from benchmarks.workloads import WORKLOADS, read_table, settings_of, write_inputs
from mm_ray.fed.executor import SerialExecutor
from mm_ray.models.network import PARTS, part_size
from mm_ray.types import RoundReport


def test_a_bar_is_judged_where_its_figure_was_measured():
    systems = {"floor": {"ours_of_it": 0.9}, "pfl": {"ours_of_it": 0.99}}
    found = {bar["text"]: (bar["value"], bar["met"]) for bar in judged({"w1": {"systems": systems}})}
    assert found == {"W1 of the floor": (0.9, True), "W1 of the floor, goal": (0.9, False), "W1 of pfl": (0.99, False)}


def test_the_fit_finds_the_coefficients_that_made_the_times():
    rng = np.random.default_rng(0)
    rows = [
        {"cohort": c, "clients": n, "moved_bytes": b, "compute_s": w, "actors": 1}
        for c, n, b, w in rng.uniform([10, 100, 1e4, 0.1], [1e3, 1e5, 1e7, 1], (12, 4))
    ]
    for row in rows:
        rest = 1e-5 * row["cohort"] + 1e-7 * row["clients"] + 1e-9 * row["moved_bytes"]
        row["least_seconds"] = 0.01 + rest + row["compute_s"]
    assert list(vars(fitted(rows)).values()) == pytest.approx([0.01, 1e-5, 1e-7, 1e-9], rel=1e-6)


@pytest.mark.parametrize("work", WORKLOADS.values(), ids=WORKLOADS)
def test_the_peers_have_our_network(work):
    settings = settings_of(work, 2)
    assert set(settings) == {field.name for field in fields(Settings)}
    model = PlainNet(Settings(**settings))
    vector = flat(model) * 0 + 3
    assert len(vector) == sum(part_size(part, work.model, work.shapes) for part in PARTS["audio"])
    put(model, vector)
    with_other_storage = flat(model)
    vector.zero_()
    assert (with_other_storage == 3).all()
    assert (flat(model) == 3).all()  # a copy: training must not reach into the global parameters


def test_the_chart_scales_each_group_to_its_slowest():
    drawn = svg([("some work", {"ours": {"median_s": 0.1}, "flower": {"median_s": 0.4}})])
    assert 'width="100.0"' in drawn
    assert 'width="400.0"' in drawn
    assert "mm_ray" in drawn


def test_what_goes_into_the_object_store_is_shared_and_not_copied(tmp_path):
    tiny = replace(WORKLOADS["tiny"], clients=2, cohort=1)
    write_inputs(tiny, tmp_path, 1)
    buffers = []
    pickle.dumps(read_table(tiny, tmp_path, 1), protocol=5, buffer_callback=buffers.append)
    assert max(len(buffer.raw()) for buffer in buffers) == (2 * 4 + 1) * 64 * 96 * 2


def test_our_side_of_the_comparison_ends_where_the_plain_one_does(tmp_path):
    tiny = replace(WORKLOADS["tiny"], clients=2, cohort=1).with_dropout(0.0)
    write_inputs(tiny, tmp_path, 1)
    start = np.load(tmp_path / "start.npy")
    watched, rounds = rounds_of(tiny, read_table(tiny, tmp_path, 1), start, SerialExecutor(), str(tmp_path / "phases"))
    assert (watched.flat == start).all()
    assert next(rounds).num_clients == 1
    inputs = plain.Inputs(str(tmp_path))
    model = PlainNet(inputs.settings)
    put(model, inputs.start_P)
    plain.train(model, *inputs.client(int(inputs.cohorts_RK[0][0]), 1), inputs.settings)
    # One client, so the plain mean is that client's own parameters: no server optimiser and no average, as in the peers.
    assert np.linalg.norm(watched.flat - flat(model).numpy()) < 1e-3 * np.linalg.norm(watched.flat - start)


def test_a_process_that_wrote_over_its_environment_is_still_counted():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={}) as parent:
        system = System("ours", parent, None, 0.0, "a mark that nobody bears")
        assert parent.pid in system.pids()


def test_faults_are_drawn_by_the_seed_in_their_shares():
    decks = {run: deck(run, 100, 0) for run in RUNS}
    assert sum(map(len, decks.values())) == 100
    assert {name for cards in decks.values() for name in cards} == set(FAULTS)
    assert decks["study"] == deck("study", 100, 0) != deck("study", 100, 1)
    assert sorted(decks["study"]) == sorted(deck("study", 100, 1))


def test_what_a_fault_costs_is_told_by_the_states_around_it():
    calm = {"a": 1.0, "b": 2.0, "c": 4.0, END: 5.0}
    seen = {"a": 1.5, "interrupted": 2.0, "b": 9.5, "c": 11.5, END: 12.5}
    assert seconds_lost(calm, seen, struck=1.7, over=3.0) == 7.0  # a to c: 10 instead of 3
    assert seconds_lost(calm, seen, struck=1.0, over=1.0) == 7.5  # from the start
    assert seconds_lost(calm, seen, struck=12.0, over=13.0) == 0.0


def test_a_difference_to_the_undisturbed_run_is_told():
    calm = Run("study", 0.0, {"a": 1.0, "b": 2.0, END: 3.0}, [], {"rows": [0, 1], "params_digest": "x"})
    name = next(iter(FAULTS))
    hunted = Run("study", 100.0, {"a": 101.0, "b": 106.0, END: 107.0}, [Event(name, 101.5, 102.0, True)], calm.left)
    runs, events = rows_of({"study": calm}, [hunted])
    assert by_fault(events) == [
        {"fault": name, "number": 1, "recovered": 1, "lost_s_median": 4.0, "lost_s_most": 4.0, "lost_s_sum": 4.0}
    ]
    assert f"| {name} | 1 | 1 | 4.0 | 4.0 |" in table(runs, events)
    assert "1 of 1 ended as the undisturbed one" in table(runs, events)
    doubled = replace(hunted, left=calm.left | {"rows": [0, 1, 1]})
    assert "0 of 1 ended" in (text := table(*rows_of({"study": calm}, [doubled])))
    assert "Different: run 1: rows." in text


def test_flops_of_a_grouped_convolution_by_hand():
    image, weight = torch.ones(2, 8, 1, 30, requires_grad=True), torch.ones(6, 4, 1, 5, requires_grad=True)
    with OperationTimer() as timer:
        result = torch.nn.functional.conv2d(image, weight, groups=2)
        result.sum().backward()
    forward = 2 * (2 * 6 * 26) * (4 * 5)
    found = {name.partition(" ")[0]: row[1] for name, row in timer.found.items()}
    assert (found["convolution"], found["convolution_backward"]) == (forward, 2 * forward)


def test_time_to_an_accuracy_is_that_of_the_first_round_that_reaches_it():
    def report(seconds, **scores):
        dev = {f"dev/{name}_top1": top1 for name, top1 in scores.items()}
        return RoundReport("any", 1, {"sim_seconds": seconds, **dev}, 1, 0, 0, 0)

    rounds = [report(2, audio=0.3), report(1, av=0.9), report(4, audio=0.2), report(8, audio=0.5, av=0.9)]
    curve = curve_of(rounds)
    assert curve == [(2, 0.3), (15, 0.5)]
    assert [time_to(curve, level) for level in (0.1, 0.31, 0.5, 0.6)] == [2, 15, 15, None]
    assert (spread([1.0, 3.0]), spread([0.5], 3)) == ("2.0 ± 1.4", "0.500")


def test_precisions_are_compared_seed_by_seed():
    pairs = [(0.5, 0.6), (0.7, 0.7), (0.6, 0.8)]
    rows = [{"float32": {"student": a}, "bfloat16": {"student": b}} for a, b in pairs]
    found = paired(rows, "student")
    assert (found["float32"], found["bfloat16"], found["difference"]) == pytest.approx((0.6, 0.7, 0.1))
    assert (found["spread_of_seeds"], found["spread_of_differences"]) == pytest.approx((0.1, 0.1))
    assert (found["low"], found["high"]) == pytest.approx((0.1 - 4.3027 * 0.1 / 3**0.5, 0.1 + 4.3027 * 0.1 / 3**0.5), abs=1e-4)


def test_the_hosts_beside_the_model_by_hand():
    model = RoundTime(fixed=0.1, per_client_of_cohort=0.001, per_client_of_federation=1e-5, per_byte=1e-3)
    # A cohort of 64 of 1,000 in 16 chunks of 0.4 s; 10 bytes to each host and from each chunk.
    one, four = (predicted_row(model, workers, size=10) for workers in (1, 4))
    assert one == pytest.approx({"seconds": 0.1 + 0.064 + 0.01 + 0.17 + 6.4, "received": 10, "sent": 160})
    assert four == pytest.approx({"seconds": 0.1 + 0.064 + 0.01 + 0.2 + 1.6, "received": 10, "sent": 40})
    seen = {"least_seconds": 1.0, "most_seconds": 9.0, "actor_s": 2.0, "worker_traffic": {"received": 2e6, "sent": 3e6}}
    rows = [seen | {"workers": 1, "seconds": 8.0, "predicted": one}, seen | {"workers": 4, "seconds": 2.5, "predicted": four}]
    first, last = with_speed_up(rows)
    assert (first["speed_up"], first["efficiency"], last["speed_up"], last["efficiency"]) == (1.0, 1.0, 3.2, 0.8)
    assert last["predicted"]["speed_up"] == pytest.approx(6.744 / 1.974)
    assert last["predicted"]["efficiency"] == pytest.approx(6.744 / 1.974 / 4)
    cells = "2.500 (1.974) | 1.000 to 9.000 | 2.000 (1.600) | 3.20 (3.42) | 0.80 (0.85) | 2.00 (0.00) | 3.00 (0.00)"
    assert hosts_table([first, last]).splitlines()[-1] == f"| 4 | {cells} |"


def test_the_bytes_of_a_host_are_those_of_its_cable():
    heading = "Inter-| Receive | Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes packets\n"
    lines = "    lo: 7 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n  eth0: 1200 9 0 0 0 0 0 0 3400 8 0 0 0 0 0 0\n"
    assert traffic_of(heading + lines).since(Traffic(200, 400)) == (1000, 3000)


@pytest.mark.parametrize("path", sorted(Path(benchmarks.__file__).parent.glob("*.py")), ids=lambda path: path.stem)
def test_a_benchmark_s_imports_are_there(path):
    importlib.import_module(f"benchmarks.{path.stem}")
