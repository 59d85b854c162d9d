"""ASHA with TPE against random search on stored learning curves: rounds until random's best is reached."""

import json
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scipy.interpolate import RegularGridInterpolator

from benchmarks.results import FOLDER, write_result
from benchmarks.study_curves import RATES, TEMPERATURES, WEIGHTS
from mm_ray.seeding import numpy_stream
from mm_ray.tune.searcher import SearchSettings, StudySearch
from mm_ray.tune.space import load_space

SEEDS, RANDOM_TRIALS = 10, 60


class Curves:
    """Best dev top-1 so far by round, between the grid's settings interpolated on their axes (logarithmic for T and lr)."""

    def __init__(self) -> None:
        stored = json.loads((FOLDER / "study_curves.json").read_text())
        self.rounds: int = stored["rounds"]
        shape = (len(TEMPERATURES), len(WEIGHTS), len(RATES), self.rounds)
        grid = np.array([curve["dev_audio_top1"] for curve in stored["curves"]]).reshape(shape)
        axes = (np.log(TEMPERATURES), np.array(WEIGHTS), np.log(RATES))
        self._at = RegularGridInterpolator(axes, np.maximum.accumulate(grid, axis=3), bounds_error=False, fill_value=None)

    def of(self, temperature: float, weight: float, rate: float) -> np.ndarray:
        """A setting's curve (rounds,)."""
        values: np.ndarray = self._at([np.log(temperature), weight, np.log(rate)])[0]
        return values


def replay() -> None:
    """Write `results/study_replay.json`."""
    curves, runs = Curves(), []
    for seed in range(SEEDS):
        best, total, first = _random(curves, seed)
        needed = _asha_tpe(curves, seed, best, total)
        runs.append(
            {"seed": seed, "random_best": best, "random_rounds": total, "random_first": first, "asha_tpe_rounds": needed}
        )
        print(runs[-1], flush=True)
    shares = [run["asha_tpe_rounds"] / run["random_rounds"] if run["asha_tpe_rounds"] else float("inf") for run in runs]
    of_first = [run["asha_tpe_rounds"] / run["random_first"] if run["asha_tpe_rounds"] else float("inf") for run in runs]
    figures = {"median_share_of_budget": median(shares), "median_share_of_first_hit": median(of_first)}
    write_result("study_replay", {"random_trials": RANDOM_TRIALS, "runs": runs, **figures})


def _random(curves: Curves, seed: int) -> tuple[float, int, int]:
    """Random search's best, its rounds in all, and the rounds after which it had its best."""
    rng = numpy_stream(seed, "replay")
    units = rng.random((RANDOM_TRIALS, 3))
    ends = [curves.of(20**u, v, 0.003 * (0.1 / 0.003) ** w)[-1] for u, v, w in units]
    return float(max(ends)), RANDOM_TRIALS * curves.rounds, (int(np.argmax(ends)) + 1) * curves.rounds


def _asha_tpe(curves: Curves, seed: int, target: float, budget: int) -> int | None:
    """Rounds until a trial reaches the target; None if random's budget does not suffice."""
    spent = 0
    with tempfile.TemporaryDirectory() as folder:
        space = load_space("benchmarks.replay_space")
        search = StudySearch(space, Path(folder), "replay", seed, SearchSettings("tpe", "asha"))
        for number in range(10**6):
            suggestion: Any = search.suggest(f"t{number}")
            curve = curves.of(*suggestion["params"].values())
            for step, value in enumerate(curve, 1):
                spent += 1
                if value >= target:
                    return spent
                if spent >= budget:
                    return None
                result = {"score": float(value), "steps": [(step, float(value))], "finished": step == curves.rounds}
                if step == curves.rounds or search.report(f"t{number}", result):
                    search.on_trial_complete(f"t{number}", result)
                    break
    return None
