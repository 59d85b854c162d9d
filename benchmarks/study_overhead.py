"""200 no-op trials of 8 reports, two at once: the whole stack of a study, and bare Ray Tune with `reuse_actors`."""

import tempfile
import time
from pathlib import Path
from typing import Any

from ray import tune

from benchmarks.results import write_result
from benchmarks.study_sharing import BASE
from mm_ray.config import ExperimentConfig, with_overrides
from mm_ray.data.feature_table import FeatureTable
from mm_ray.data.load import load_data
from mm_ray.runtime.cluster import connect
from mm_ray.tune import study as study_module
from mm_ray.tune.live_table import LiveTable
from mm_ray.tune.schedulers import StudyScheduler
from mm_ray.tune.searcher import SearchSettings, TrialDirCallback
from mm_ray.tune.space import load_space
from mm_ray.tune.stopping import Budget, StopConditions
from mm_ray.tune.study import Runner, Study
from mm_ray.tune.study_log import StudyLog

TRIALS, REPORTS, REPEATS = 200, 8, 3


class NoOp:
    """Stands in for a trial: eight reports of nothing."""

    def __init__(self) -> None:
        self.reports = 0

    def step(self) -> dict[str, Any]:
        self.reports += 1
        report = {
            "phase": "phase2/distill",
            "round": self.reports,
            "reused": False,
            "seed": 0,
            "metrics": {"dev/audio_top1": 0.5},
        }
        return {
            "score": 0.5, "steps": [(self.reports, 0.5)], "round": self.reports, "phase2_round": self.reports, "best_round": 1,
            "rounds_computed": self.reports, "rounds_reused": 0, "seconds": 0.0, "seed_scores": [], "reports": [report],
            "finished": self.reports == REPORTS,
        }  # fmt: skip

    def close(self) -> None:
        pass


def begin_nothing(*trial: Any) -> NoOp:
    """The study's trainable, with its client actor, around a trial that does nothing."""
    return NoOp()


class Bare(tune.Trainable):
    """Eight reports of nothing."""

    def setup(self, config: dict[str, Any]) -> None:
        self.reports = 0

    def step(self) -> dict[str, Any]:
        self.reports += 1
        return {"score": 0.5, "done": self.reports == REPORTS}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.reports = 0
        return True


def overhead() -> None:
    """Write `results/study_overhead.json`: alternating runs of both, and the median of the ratios."""
    config: ExperimentConfig = with_overrides(ExperimentConfig(), BASE)
    cluster, pairs = connect(""), []
    with tempfile.TemporaryDirectory() as folder:
        table = load_data(config.data, Path(folder) / "features")
        for repeat in range(REPEATS):
            bare_s = _bare(Path(folder) / f"bare-{repeat}")
            whole_s = _whole(config, table, Path(folder), repeat, cluster)
            pairs.append({"whole_s": whole_s, "bare_s": bare_s, "ratio": whole_s / bare_s})
            print(pairs[-1], flush=True)
    ratio = sorted(pair["ratio"] for pair in pairs)[REPEATS // 2]
    write_result("study_overhead", {"trials": TRIALS, "reports": REPORTS, "runs": pairs, "median_ratio": ratio})


def _bare(folder: Path) -> float:
    bundles = tune.PlacementGroupFactory([{}, {"CPU": 1}], strategy="PACK")
    started = time.perf_counter()
    tune.Tuner(
        tune.with_resources(Bare, bundles),
        param_space={"x": tune.uniform(0, 1)},
        tune_config=tune.TuneConfig(num_samples=TRIALS, reuse_actors=True, max_concurrent_trials=2),
        run_config=tune.RunConfig(
            name="bare",
            storage_path=str(folder),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    ).fit()
    return time.perf_counter() - started


def _whole(config: ExperimentConfig, table: FeatureTable, folder: Path, repeat: int, cluster: Any) -> float:
    study = Study(
        config, load_space("benchmarks.replay_space"), folder / f"study-{repeat}", f"{folder}/phases", TRIALS,
        search=SearchSettings("random", "asha"),
    )  # fmt: skip
    search, runner = study.open_search(), Runner(study, table, cluster)
    study_module.begin_trial = begin_nothing  # type: ignore[assignment]
    started = time.perf_counter()
    with LiveTable(TRIALS) as live:
        log = StudyLog(study.folder, live)
        search.before_end = log.end
        runner.fit(search, TRIALS, Budget(search, StopConditions()), [TrialDirCallback(search), log], StudyScheduler(search))
    seconds = time.perf_counter() - started
    assert search.remaining(TRIALS) == 0
    return seconds
