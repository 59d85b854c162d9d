"""A federation so small that a whole experiment takes a fifth of a second: six clients, three of them with video."""

import hashlib
import json
import tempfile
from functools import lru_cache

import numpy as np

from mm_ray.config import ExperimentConfig, with_overrides
from mm_ray.data.load import load_data
from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.experiment import plan_experiment, run_experiment
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.fed.rounds import drive

# Easy sound and large steps, so that accuracies move and the best rounds are not the first ones.
TINY = {
    "data.synthetic.num_classes": 4,
    "data.synthetic.num_groups": 8,
    "data.synthetic.clips_per_class": 20,
    "data.synthetic.audio_snr_db": 40.0,
    "data.synthetic.label_noise": 0.0,
    "data.synthetic.labelled": 1.0,
    "data.features.num_mels": 20,
    "data.features.hop_ms": 40,
    "data.features.video_size": 6,
    "partition.num_clients": 6,
    "model.conv_channels": [4, 4, 8],
    "model.hidden": 8,
    "model.attention_size": 8,
    "model.attention_heads": 2,
    "model.classifier_hidden": 8,
    "phase1.rounds": 4,
    "phase1.local.lr": 0.1,
    "phase2.rounds": 3,
    "phase2.local.lr": 0.1,
    "clients.sample_frac": 0.5,
    "seed": 1,
}


def tiny_config(overrides=()):
    """The tiny config with some fields replaced, by dotted name."""
    fields = TINY | dict(overrides)
    return with_overrides(ExperimentConfig(), fields | {"model.conv_channels": tuple(fields["model.conv_channels"])})


def tiny_flags(overrides=()):
    """The same as flags."""
    fields = TINY | dict(overrides)
    return [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in fields.items()]


@lru_cache(maxsize=4)
def table_of(data):
    """The features of some data: one table for all tests of a process, so its arrays can only be read."""
    with tempfile.TemporaryDirectory() as cache:
        table = load_data(data, cache)
    for value in vars(table).values():
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
    return table


def tiny_plan(overrides=()):
    config = tiny_config(overrides)
    return plan_experiment(config, table_of(config.data))


class Run:
    """An experiment that ran to its end: its reports, its result, and digests of all that it leaves."""

    def __init__(self, root, overrides=(), executor=None, control=False, plan=None, tell=lambda report: None):
        self.plan, self.store, self.reports = plan or tiny_plan(overrides), PhaseStore(str(root)), []
        rounds = run_experiment(self.plan, self.store, executor or SerialExecutor(), control)
        self.tested = drive(rounds, self.reports.append, tell)
        self.finished, self.result = self.tested.finished, self.tested.result

    @property
    def digest(self):
        """The student's digest."""
        return self.result["params_digest"]

    @property
    def keys(self):
        """Key by phase."""
        return {name: outcome.key for name, outcome in self.finished.outcomes.items()}

    @property
    def states(self):
        """Digest of each phase's last state."""
        last = {name: (outcome.key, outcome.reports[-1].round) for name, outcome in self.finished.outcomes.items()}
        return {name: state_digest(self.store.load(*where)) for name, where in last.items()}

    @property
    def metrics(self):
        """The metrics of every round, without times."""
        return [(report.phase, report.round, dict(report.metrics)) for report in self.reports]

    def bits(self):
        """All that must be equal between two runs of the same experiment, however they were run."""
        return *self.outcome(), self.keys

    def outcome(self):
        """The same without the keys, which also depend on own code and on the kind of device."""
        return self.digest, self.states, self.metrics, self.result["test"]


def state_digest(state):
    digest = hashlib.sha256()
    for path, array in sorted(state.flat().items()):
        digest.update(f"{path} {array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()
