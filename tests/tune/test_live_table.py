"""The live table: one line for each trial at 80 columns, fewer columns in a narrow terminal, the best one marked."""

import io

import pytest

from mm_ray.console import PlainConsole
from mm_ray.tune.live_table import LiveTable

ROUNDS = {"phase1/unimodal": 56, "phase1/fusion": 8, "phase2/distill": 20}
PARAMS = {"phase2.temperature": 5.46348, "phase2.loss_weight": 0.4, "phase2.rounds": 20, "phase2.student_init": "phase1"}


def live(num_seeds=1):
    table = LiveTable(3, num_seeds=num_seeds, rounds_of=lambda overrides: ROUNDS)
    for number, (state, score) in enumerate([("COMPLETE", 0.6), ("COMPLETE", 0.7), ("RUNNING", 0.8)]):
        table.begin(number, PARAMS, {})
        report = {"phase": "phase2/distill", "round": 16}
        table.update(
            number,
            {
                "score": score,
                "reports": [report],
                "rounds_computed": 16,
                "rounds_reused": 64,
                "seed_scores": [0.8],
                "rounds": 80.0,  # a metric of every result
            },
        )
        if state != "RUNNING":
            table.end(number, state)
    return table


def lines(table, width):
    out = io.StringIO()
    PlainConsole(file=out, width=width).print(table.table(width))
    return [line for line in out.getvalue().splitlines() if line.strip()][-3:]


@pytest.mark.parametrize("width", [30, 50, 80, 120])
def test_a_trial_is_one_line_with_its_phase_and_the_best_is_marked(width):
    first, second, third = lines(live(), width)
    assert first.split()[0] == "0"
    assert "0.600 " in f"{first} "
    assert "0.700*" in second
    assert "distill 16/20" in third
    assert "0.800" in third
    assert ("temperature 5.46" in third) == (width >= 60)


def test_with_seeds_it_says_which_one_runs():
    *_, third = lines(live(num_seeds=4), 80)
    assert "2/4" in third
