"""One experiment's figures, updated round by round: the score so far, the other metrics, and what it cost."""

from typing import Any

from mm_ray.fed.method import Method
from mm_ray.fed.rounds import dev_top1
from mm_ray.fed.virtual_time import SIM_SECONDS
from mm_ray.types import RoundReport


class TrialMetrics:
    """Collects reports.

    Args:
        method: The method whose rounds come.
        objective: The metric that is the score: `dev/audio_top1` or a similar one. Like all metrics it is read at the round
            with the network's best top-1, since the phase passes on that round.

    """

    def __init__(self, method: Method, objective: str) -> None:
        self._main, self._last = method.main, method.phases[-1]
        self._phase1, self._objective = method.phase1_audio, objective
        self._top1: dict[str, float] = {}
        self._costs = {"bytes": 0, "compute_s": 0.0, "rounds": 0, "flops": 0.0}
        self.score = 0.0
        """Of phase 1's audio network until the last phase begins."""
        self.metrics: dict[str, float] = {}
        self.position = {"round": 0, "phase2_round": 0, "best_round": 0, "rounds_computed": 0, "rounds_reused": 0}
        self.steps: list[tuple[int, float]] = []
        """The last phase's rounds, each with the objective in it."""

    def add(self, report: RoundReport) -> None:
        """Note a round."""
        self.position["round"] += 1
        self.position["rounds_reused" if report.reused else "rounds_computed"] += 1
        self._costs["bytes"] += report.bytes_up + report.bytes_down
        self._costs["compute_s"] += report.seconds
        self._costs["rounds"] += 1
        self._costs["flops"] += report.flops
        if SIM_SECONDS in report.metrics:
            self._costs[SIM_SECONDS] = self._costs.get(SIM_SECONDS, 0.0) + report.metrics[SIM_SECONDS]
        top1 = report.metrics.get(dev_top1(str(self._main.network)))
        if top1 is not None and top1 > self._top1.get(report.phase, -1.0):
            self._top1[report.phase] = top1
            self.metrics = {name: value for name, value in report.metrics.items() if name.startswith("dev/")}
            self.score = self.metrics.get(self._objective, top1)
            self.position["best_round"] = report.round
        if report.phase == self._last.name:
            self.position["phase2_round"] = report.round
            self.steps.append((report.round, report.metrics.get(self._objective, self.score if top1 is None else top1)))

    def values(self) -> dict[str, Any]:
        """All metrics that a space may name (`mm_ray.tune.space.METRICS`), as far as they exist."""
        gain = {}
        if self._phase1 and {self._phase1.phase, self._last.name} <= set(self._top1):
            gain = {"dev/gain_top1": self._top1[self._last.name] - self._top1[self._phase1.phase]}
        return {**self.metrics, **gain, **self._costs}
