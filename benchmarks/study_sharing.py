"""24 trials that share a phase 1 of 70 % of each: wall time against the ideal, time outside rounds, and equal bits."""

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.results import write_result
from benchmarks.sleepy import ROUND_S
from mm_ray.config import ExperimentConfig, with_overrides
from mm_ray.data.feature_table import FeatureTable
from mm_ray.data.load import load_data
from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.experiment import params_digest, plan_experiment, run_rounds
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.fed.rounds import drive
from mm_ray.runtime.cluster import connect
from mm_ray.tune.searcher import SearchSettings
from mm_ray.tune.space import load_space
from mm_ray.tune.study import Runner, Study
from mm_ray.tune.study_log import read_trials

TRIALS, AT_ONCE = 24, 2
PHASE1_ROUNDS, PHASE2_ROUNDS = 56, 24
RECOMPUTED = (0, 7, 23)
BASE: dict[str, Any] = {
    "data.synthetic.num_classes": 4, "data.synthetic.num_groups": 8, "data.synthetic.clips_per_class": 20,
    "data.features.num_mels": 20, "data.features.hop_ms": 40, "data.features.video_size": 6, "partition.num_clients": 6,
    "model.conv_channels": (4, 4, 8), "model.hidden": 8, "model.attention_size": 8, "model.attention_heads": 2,
    "model.classifier_hidden": 8, "clients.sample_frac": 0.5, "phase1.rounds": PHASE1_ROUNDS, "phase2.rounds": PHASE2_ROUNDS,
}  # fmt: skip


def sharing() -> None:
    """Write `results/study_sharing.json`."""
    config: ExperimentConfig = with_overrides(ExperimentConfig(), BASE | {"method": "benchmarks.sleepy"})
    with tempfile.TemporaryDirectory() as folder:
        table = load_data(config.data, Path(folder) / "features")
        study = Study(
            config, load_space("benchmarks.replay_space"), Path(folder) / "study", f"{folder}/phases", TRIALS,
            search=SearchSettings("random"),
        )  # fmt: skip
        search, _ = Runner(study, table, connect("")).run()
        rows = read_trials(study.folder)
        times = [(t.datetime_start, t.datetime_complete) for t in search.study.trials]
        equal = [
            _same_bits(row, config, table, study.phases, f"{folder}/fresh-{row['number']}")
            for row in rows
            if row["number"] in RECOMPUTED
        ]
    write_result("study_sharing", _figures(rows, times) | {"recomputed": len(equal), "equal_digests": sum(equal)})


def _figures(rows: list[dict[str, Any]], times: list[Any]) -> dict[str, Any]:
    own = {row["number"]: [report for report in row["curve"] if not report["reused"]] for row in rows}
    computed = [report for reports in own.values() for report in reports]
    first_s, second_s = (sum(r["seconds"] for r in computed if r["phase"].startswith("phase2") is two) for two in (False, True))
    begun, ended = min(start for start, _ in times), max(end for _, end in times)
    wall_s = (ended - begun).total_seconds()
    trial_s = first_s + second_s / len(rows)
    ideal_s, unshared_s = first_s + second_s / AT_ONCE, trial_s * len(rows) / AT_ONCE
    shared_s = wall_s - first_s
    return {
        "trials": len(rows), "at_once": AT_ONCE, "round_s": ROUND_S,
        "rounds_asked": sum(row["rounds_computed"] + row["rounds_reused"] for row in rows),
        "rounds_computed": len(computed),
        "phase1_frac": first_s / trial_s, "trial_s": trial_s, "phase2_s": second_s / len(rows),
        "wall_s": wall_s, "ideal_s": ideal_s, "wall_over_ideal": wall_s / ideal_s,
        "unshared_s": unshared_s, "gain": unshared_s / wall_s, "ideal_gain": unshared_s / ideal_s,
        "limit_of_gain": trial_s / (second_s / len(rows)),
        "in_rounds_frac": second_s / (AT_ONCE * shared_s),
    }  # fmt: skip


def _same_bits(row: dict[str, Any], base: ExperimentConfig, table: FeatureTable, stored: str, fresh: str) -> bool:
    plan = plan_experiment(with_overrides(base, row["overrides"] | {"method": "modality_mirror"}), table)
    digests = []
    for place in (stored, fresh):
        store = PhaseStore(place)
        finished = drive(run_rounds(plan, store, SerialExecutor()))
        digests.append(params_digest(finished, plan.method.main, store))
    return digests[0] == digests[1]
