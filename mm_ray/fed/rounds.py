"""The round loop: the only one. A generator of round reports; hosts drive it and decide nothing."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, TypeVar

from mm_ray.fed.batched_training import OUT_OF_MEMORY
from mm_ray.fed.cohort import chunks_of, reports_back
from mm_ray.fed.evaluation import dev_metrics
from mm_ray.fed.executor import Executor
from mm_ray.fed.federation import Federation
from mm_ray.fed.lease import Lease
from mm_ray.fed.method import Method
from mm_ray.fed.phase import NetworkRef, Phase, key_settings, shared_inputs
from mm_ray.fed.phase_store import PhaseStore, phase_key
from mm_ray.fed.privacy import epsilon_metric
from mm_ray.fed.server_optimizers import evaluated
from mm_ray.fed.virtual_time import SIM_SECONDS, round_time
from mm_ray.models.network import PARTS
from mm_ray.plugins import digests_of
from mm_ray.types import Arrays, ClientData, ClientUpdate, Cost, RoundReport, ServerState

KEEP_EVERY = 5
"""A killed run recomputes at most this many rounds."""
POLL_S, LONGEST_POLL_S, POLL_GROWTH = 0.2, 5.0, 1.3
"""Seconds between polls for rounds that another run computes. They grow, since a poll of object storage is two listings; with
this growth a run waits at most a third longer than it has to."""


@dataclass(frozen=True)
class PhaseResult:
    """A finished phase: its key and the reports of its rounds."""

    key: str
    reports: tuple[RoundReport, ...]

    def best_round(self, network: str | None) -> int:
        """The first round with the network's best dev accuracy; without a network, the last round."""
        if network is None:
            return self.reports[-1].round
        return max(self.reports, key=lambda report: (report.metrics[dev_top1(network)], -report.round)).round


PhaseResults = Mapping[str, PhaseResult]
Returned = TypeVar("Returned")


def dev_top1(network: str) -> str:
    """The metric by which a network's best round is chosen."""
    return f"dev/{network}_top1"


def run(
    method: Method, federation: Federation, store: PhaseStore, executor: Executor, chunk_size: int
) -> Generator[RoundReport, None, PhaseResults]:
    """All rounds of all phases of a method; returns the outcome of each phase.

    Closing the generator early keeps the state of the last round, so that a later run resumes there.
    """
    outcomes: dict[str, PhaseResult] = {}
    for phase in method.phases:
        outcomes[phase.name] = yield from _PhaseRun(phase, federation, store, executor, chunk_size, outcomes).rounds()
    return outcomes


class Driven(Generic[Returned]):
    """The reports of a generator, one by one; then `value` is what the generator returned."""

    value: Returned

    def __init__(self, rounds: Generator[RoundReport, None, Returned]) -> None:
        self._rounds = rounds

    def __iter__(self) -> Iterator[RoundReport]:
        self.value = yield from self._rounds


def drive(rounds: Generator[RoundReport, None, Returned], *tell: Callable[[RoundReport], None]) -> Returned:
    """Run a generator to its end, pass each report to each listener, and return the generator's result."""
    driven = Driven(rounds)
    for report in driven:
        for listener in tell:
            listener(report)
    return driven.value


def role_params(role: NetworkRef, outcomes: PhaseResults, store: PhaseStore) -> Arrays:
    """The arrays of a role: a network's parts at its best dev round, or what a phase's last state has in `server`."""
    outcome = outcomes[role.phase]
    state = store.load(outcome.key, outcome.best_round(role.network))
    if role.network is None:
        return state.server
    params = evaluated(state)
    return {part: params[part] for part in PARTS[role.network]}


class _PhaseRun:
    """One phase in one run: takes stored rounds, waits for those that another run computes, and computes the rest."""

    def __init__(
        self,
        phase: Phase,
        federation: Federation,
        store: PhaseStore,
        executor: Executor,
        chunk_size: int,
        outcomes: PhaseResults,
    ) -> None:
        self.phase, self.federation, self.store, self.executor = phase, federation, store, executor
        self.chunk_size, self.outcomes = chunk_size, outcomes
        self.content = _key_content(phase, federation, outcomes, executor.device)
        self.key = phase_key(self.content)
        self.reports: list[RoundReport] = []

    def rounds(self) -> Generator[RoundReport, None, PhaseResult]:
        """Stored rounds first; then, holding the lease, the missing ones."""
        lease, pause = Lease(self.store.files, self.key), POLL_S
        while len(self.reports) < self.phase.rounds:
            yield from self._stored()
            if len(self.reports) == self.phase.rounds:
                break
            if not lease.try_take():
                time.sleep(pause)
                pause = min(POLL_GROWTH * pause, LONGEST_POLL_S)
                continue
            with lease:
                yield from self._stored()  # what the holder before us stored between our look and our lease
                yield from self._computed()
        return PhaseResult(self.key, tuple(self.reports))

    def _stored(self) -> Generator[RoundReport, None, None]:
        stored = [r for r in self.store.rounds(self.key) if len(self.reports) < r <= self.phase.rounds]
        if stored:
            fresh = self.store.reports(self.key, stored[-1])[len(self.reports) :]
            for report in fresh:
                self.reports.append(self._with_formulas(replace(report, reused=True)))
                yield self.reports[-1]

    def _computed(self) -> Generator[RoundReport, None, None]:
        if len(self.reports) == self.phase.rounds:
            return
        state = self._begin()
        unsaved: list[RoundReport] = []
        try:
            while len(self.reports) < self.phase.rounds:
                state, report = self._round(state, len(self.reports) + 1)
                keep = self._worth_keeping(report)
                self.reports.append(self._with_formulas(report))
                unsaved.append(report)
                if keep:
                    kept, unsaved = unsaved, []  # a write that the store refuses is not retried
                    self.store.save(self.key, report.round, state, kept)
                yield self.reports[-1]
        finally:
            if unsaved:
                self.store.save(self.key, unsaved[-1].round, state, unsaved)

    def _begin(self) -> ServerState:
        self.store.describe(self.key, self.content)
        sources = {role: role_params(role, self.outcomes, self.store) for role in self.phase.sources}
        self.executor.open(self.phase, shared_inputs(sources), self.federation)
        done = len(self.reports)
        return self.store.load(self.key, done) if done else self.phase.init(self.federation, sources)

    def _round(self, state: ServerState, number: int) -> tuple[ServerState, RoundReport]:
        started, _ = time.perf_counter(), self.executor.spent()
        phase, federation = self.phase, self.federation
        cohort = phase.cohort(federation, number)
        plan = plan_round(phase, federation, number, cohort)
        chunks = chunks_of(plan.in_time, self.chunk_size)
        arrived = self.executor.run_round(state.params, number, chunks, state.clients)
        total = timed_out(plan.late, phase.sim_deadline_s, "simulated ")
        reported = list[ClientData]()
        for chunk, update in zip(chunks, arrived, strict=True):
            total += timed_out(chunk, phase.deadline_s) if update is None else update
            reported += () if update is None else chunk
        state = phase.server_update(state, total)
        metrics = self._metrics(state, total, number)
        seconds, spent = time.perf_counter() - started, self.executor.spent()
        return state, RoundReport(
            phase.name,
            number,
            metrics,
            len(reported),
            seconds,
            bytes_up=sum(plan.costs[client.id].bytes_up for client in reported),
            bytes_down=sum(cost.bytes_down for cost in plan.costs.values()),
            key=self.key,
            refused={str(client): reason for client, reason in sorted(total.refused.items())},
            busy_frac=spent.busy_s / seconds,
            moved_bytes=spent.moved_bytes,
            flops=plan.flops,
            peak_memory_bytes=spent.peak_memory_bytes,
            clients={str(client): [four_digits(value) for value in seen] for client, seen in sorted(total.seen.items())},
        )

    def _with_formulas(self, report: RoundReport) -> RoundReport:
        """The report with FLOPs (missing in older stores) and simulated time (not stored, since no state needs it)."""
        if report.flops and self.federation.profile is None:
            return report
        plan = plan_round(self.phase, self.federation, report.round, self.phase.cohort(self.federation, report.round))
        seconds = {SIM_SECONDS: plan.sim_seconds} if self.federation.profile else {}
        return replace(report, metrics={**report.metrics, **seconds}, flops=plan.flops)

    def _metrics(self, state: ServerState, total: ClientUpdate, number: int) -> dict[str, float]:
        """Training losses, what the phase measured, refused clients, short memory, epsilon, and the networks on the dev set."""
        networks = self.phase.networks
        matrices = self.executor.confusions("dev", networks, evaluated(state), self.phase.model)
        refused = {"refused": float(len(total.refused))} if total.refused else {}
        refused |= {OUT_OF_MEMORY: total.metrics[OUT_OF_MEMORY]} if OUT_OF_MEMORY in total.metrics else {}
        measured = train_metrics(total.metrics) | state.meta.get("metrics", {}) | refused
        return {**measured, **epsilon_metric(self.phase, number, self.federation), **dev_metrics(networks, matrices)}

    def _worth_keeping(self, report: RoundReport) -> bool:
        """Regular rounds for resume, the last for a later continuation, and every new best, since a later phase may start
        there."""
        if report.round % KEEP_EVERY == 0 or report.round == self.phase.rounds:
            return True
        return any(
            all(report.metrics[dev_top1(network)] > earlier.metrics[dev_top1(network)] for earlier in self.reports)
            for network in self.phase.networks
        )


class RoundPlan(NamedTuple):
    """What is known of a round before it is computed."""

    costs: Mapping[int, Cost]
    """Of each client of the cohort, by id."""
    in_time: Sequence[ClientData]
    """The clients whose updates are computed."""
    late: Sequence[ClientData]
    """The clients whose update would miss the simulated deadline."""
    flops: float
    sim_seconds: float
    """0 without devices."""


def plan_round(phase: Phase, federation: Federation, number: int, cohort: Sequence[ClientData]) -> RoundPlan:
    """Which clients of a cohort report back, which of these in time, and what the round costs."""
    costs = {client.id: phase.cost(federation, client) for client in cohort}
    present = [client for client in cohort if reports_back(phase, federation, number, client)]
    flops, profile = sum(costs[client.id].flops for client in present), federation.profile
    if profile is None:
        return RoundPlan(costs, present, (), flops, 0.0)
    seconds = {client.id: profile.seconds(client.id, costs[client.id]) for client in present}
    time_s, late = round_time(seconds, 0.0 if phase.full_participation else phase.sim_deadline_s)
    in_time = [client for client in present if client.id not in late]
    return RoundPlan(costs, in_time, [client for client in present if client.id in late], flops, time_s)


def _key_content(phase: Phase, federation: Federation, outcomes: PhaseResults, device: str = "cpu") -> dict[str, Any]:
    sources = [
        [source.phase, source.network, outcomes[source.phase].key, outcomes[source.phase].best_round(source.network)]
        for source in phase.sources
    ]
    content = {"federation": federation.identity, "sources": sources, "phase": key_settings(phase)}
    if phase.sim_deadline_s and not phase.full_participation and federation.profile:
        content["profile"] = federation.profile.digest
    code = digests_of(phase)  # of a phase of your own; losses and rules have theirs in the settings that name them
    return content | ({"code": code} if code else {}) | ({"device": device} if device != "cpu" else {})


def timed_out(chunk: Sequence[ClientData], deadline_s: float, kind: str = "") -> ClientUpdate:
    """What late clients add to the round's sum: only their names."""
    return ClientUpdate(refused={client.id: f"no answer within {deadline_s:g} {kind}s" for client in chunk})


def four_digits(value: float) -> float:
    """Four significant digits: enough for a table, and short, as a line of `rounds.jsonl` has two such values per client."""
    return float(f"{value:.4g}")


def train_metrics(sums: Mapping[str, float]) -> dict[str, float]:
    """Mean training losses from a round's sums: `NETWORK_loss` over `NETWORK_seen`."""
    names = [key.removesuffix("_loss") for key in sums if key.endswith("_loss")]
    return {f"train/{name}_loss": sums[f"{name}_loss"] / sums[f"{name}_seen"] for name in names}
