"""DP-FedAvg: the noise is what the accountant is told, the cohort is Poisson, epsilon is known where it can be known."""

import math

import numpy as np
import pytest
from fed.test_phase_keys import DISTILL, SMALL, keys_of
from fed.tiny import Run, tiny_plan

from mm_ray.config import ServerConfig
from mm_ray.errors import UserError
from mm_ray.fed.cohort import poisson_cohort
from mm_ray.fed.privacy import DpEvent, add_gaussian_noise, delta_of, epsilon_of
from mm_ray.types import ClientData, ClientUpdate

PRIVATE = {f"phase{n}.server.{name}": value for n in (1, 2) for name, value in {"clip_norm": 1.0, "noise": 1.5}.items()}
SERVER = ServerConfig(clip_norm=2.0, noise=1.5)
META = {"noise_seed": 1, "stream": "s", "noised_rounds": 0, "holders": {"a": 10}}


def test_the_noise_has_the_deviation_of_multiplier_times_norm_and_is_divided_by_the_expected_number():
    total = add_gaussian_noise(
        SERVER, ClientUpdate({"a": 3.0}, {"a": np.full(20_000, 6, np.float32)}), 0.5, META, {"a": 20_000}
    )
    assert total.sums["a"].mean() == pytest.approx(6, abs=0.1)
    assert total.sums["a"].std() == pytest.approx(3.0, rel=0.03)
    assert total.weights == {"a": 5.0}, "q times the holders, whoever came"


def test_every_part_and_round_has_noise_of_its_own_also_where_nobody_came():
    sizes, meta = {"a": 50, "b": 50}, META | {"holders": {"a": 10, "b": 10}}
    first = add_gaussian_noise(SERVER, ClientUpdate(), 0.5, meta, sizes)
    later = add_gaussian_noise(SERVER, ClientUpdate(), 0.5, meta | {"noised_rounds": 1}, sizes)
    draws = [first.sums["a"], first.sums["b"], later.sums["a"], later.sums["b"]]
    assert len({draw.tobytes() for draw in draws}) == 4
    assert add_gaussian_noise(SERVER, ClientUpdate(), 0.5, meta, sizes).sums["a"].tobytes() == draws[0].tobytes()


def test_the_plain_gaussian_mechanism_by_hand():
    # One round, everybody in it: Renyi divergence alpha / (2 z^2); epsilon of (z=1, delta=1e-5) is below that of the old
    # conversion min(alpha/2 + ln(1/delta)/(alpha-1)) = 1/2 + sqrt(2 ln(1/delta)) = 5.30, and above 4.4, the exact value.
    epsilon = epsilon_of([DpEvent(1.0, 1.0, 1)], 1e-5)
    assert 4.37 < epsilon < 0.5 + math.sqrt(2 * math.log(1e5))


def test_epsilon_grows_with_rounds_and_sampling_and_falls_with_noise():
    base = epsilon_of([DpEvent(0.3, 1.5, 10)], 1e-3)
    assert epsilon_of([DpEvent(0.3, 1.5, 5), DpEvent(0.3, 1.5, 5)], 1e-3) == pytest.approx(base)
    assert epsilon_of([DpEvent(0.3, 1.5, 20)], 1e-3) > base
    assert epsilon_of([DpEvent(0.6, 1.5, 10)], 1e-3) > base
    assert epsilon_of([DpEvent(0.3, 3.0, 10)], 1e-3) < base


def test_the_cohort_takes_each_client_by_itself():
    clients = [ClientData(i, ("audio",), np.arange(1), np.zeros(1, np.int64)) for i in range(1000)]
    sizes = [len(poisson_cohort(clients, 0.3, 0, "s", r)) for r in range(1, 41)]
    assert np.mean(sizes) == pytest.approx(300, abs=10)
    assert np.std(sizes) == pytest.approx(math.sqrt(1000 * 0.3 * 0.7), rel=0.4)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("private"), PRIVATE)


def test_a_private_run_tells_its_epsilon(run):
    phases = [phase for phase in run.plan.method.phases if phase.networks]
    spent = [DpEvent(0.5, 1.5, phase.rounds) for phase in phases]
    assert run.result["privacy"] == {"epsilon": epsilon_of(spent, delta_of(6)), "delta": delta_of(6)}
    told = [report.metrics.get("privacy/epsilon") for report in run.reports if report.phase == phases[0].name]
    assert told == [epsilon_of([DpEvent(0.5, 1.5, n)], delta_of(6)) for n in range(1, phases[0].rounds + 1)]
    assert not any(name.startswith("train/") for report in run.reports for name in report.metrics)


def test_it_goes_on_with_the_noise_of_an_uninterrupted_run(run, tmp_path):
    Run(tmp_path, PRIVATE | {"phase2.rounds": 1})
    assert Run(tmp_path, PRIVATE).bits() == run.bits()
    one = {"clients.chunk_size": 1, "clients.vectorize": "off"}
    assert Run(tmp_path / "one", PRIVATE | one).states.keys() == run.states.keys()


def test_a_phase_without_noise_leaves_no_bound(tmp_path):
    half = {name: value for name, value in PRIVATE.items() if name.startswith("phase2")}
    assert Run(tmp_path, half).result["privacy"]["epsilon"] is None
    assert "privacy" not in Run(tmp_path / "plain").result


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ({"phase1.server.noise": 1.0}, r"^--phase1\.server\.noise 1\.0: needs --phase1\.server\.clip_norm"),
        (
            PRIVATE | {"phase1.server.rule": "median"},
            r"^--phase1\.server\.noise 1\.5: needs --phase1\.server\.rule mean",
        ),
        (PRIVATE | {"phase1.local.scaffold": True}, r"^--phase1\.server\.noise 1\.5: with --phase1\.local\.scaffold"),
        (PRIVATE | {"clients.deadline_s": 2.0}, r"^--clients\.deadline_s 2\.0: with --phase1\.server\.noise, lateness"),
        (PRIVATE | {"method": "mfcpl"}, r"^--phase1\.server\.noise 1\.5: in mfcpl/joint"),
    ],
)
def test_what_it_does_not_cover_is_refused(overrides, line):
    ordered = dict(sorted(overrides.items()))  # clip_norm before noise
    with pytest.raises(UserError, match=line):
        tiny_plan(ordered)


def test_the_noise_enters_the_key():
    clip = {"phase2.server.clip_norm": 1.0}
    assert keys_of(tiny_plan(SMALL | clip))[DISTILL] != keys_of(tiny_plan(SMALL | clip | {"phase2.server.noise": 1.0}))[DISTILL]
