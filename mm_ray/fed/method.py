"""A method: its list of phases, and which network plays which role in the result."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mm_ray.config import ExperimentConfig, Phase1Config, Phase2Config
from mm_ray.fed.phase import NetworkRef, Phase
from mm_ray.plugins import resolve


@dataclass(frozen=True)
class Method:
    """Phases in order, and those roles of `result.json` that the method has."""

    phases: tuple[Phase, ...]
    student: NetworkRef | None
    """The audio network that every client ends with."""
    teacher: NetworkRef | None = None
    """The audiovisual network, if all clients share one, even if it is not used to teach."""
    phase1_audio: NetworkRef | None = None
    """The audio network before phase 2."""

    @property
    def roles(self) -> dict[str, NetworkRef]:
        """The roles that the method has, by name."""
        named = {"student": self.student, "teacher": self.teacher, "phase1_audio": self.phase1_audio}
        return {name: role for name, role in named.items() if role}

    @property
    def main(self) -> NetworkRef:
        """The network by which the method is judged: the student, or else the audiovisual one."""
        return next(iter(self.roles.values()))


class Trial(Protocol):
    """What a method's `space(trial)` gets: the suggestions of an Optuna trial."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of a few values."""


PHASE1_RATES = (0.02, 0.05, 0.1)
"""Few values, among them the config's default, so that methods and trials share phase 1."""


def phase1_rate(trial: Trial) -> dict[str, Any]:
    """The part of the search space that all methods share: phase 1's learning rate."""
    return {"phase1.local.lr": trial.suggest_categorical("phase1.local.lr", PHASE1_RATES)}


def learning_rates(trial: Trial) -> dict[str, Any]:
    """Both phases' learning rates: the search space of a method that has no `space(trial)`."""
    return phase1_rate(trial) | {"phase2.local.lr": trial.suggest_float("phase2.local.lr", 0.003, 0.1, log=True)}


def loss_weight(trial: Trial) -> dict[str, Any]:
    """The weight of a method's own loss."""
    return {"phase2.loss_weight": trial.suggest_float("phase2.loss_weight", 0.1, 1.0)}


def find_method(config: ExperimentConfig) -> Method:
    """The method that the config names.

    Raises:
        UserError: An unknown name.

    """
    method: Method = resolve("method", config.method, "mm_ray.methods", "build").build(config)
    return method


def training(config: ExperimentConfig, settings: Phase1Config | Phase2Config) -> dict[str, Any]:
    """What every training phase takes from the config: the model, and the local training, server and clients of its phase."""
    clients = config.clients
    return {
        "section": "phase1" if settings is config.phase1 else "phase2",
        "model": config.model,
        "local": settings.local,
        "server": settings.server,
        "sample_frac": clients.sample_frac,
        "dropout_frac": clients.dropout_frac,
        "deadline_s": clients.deadline_s,
        "sim_deadline_s": clients.sim_deadline_s,
        "chunk_size": clients.chunk_size,
        "vectorize": clients.vectorize != "off",
        "precision": "float32" if clients.precision == "auto" else clients.precision,
    }


def total_rounds(config: ExperimentConfig) -> int:
    """Rounds of both phases. A method without a phase 2 runs this many, so that all methods have equally many."""
    return config.phase1.rounds + config.phase2.rounds
