"""Simulated seconds on devices of given speed: by hand, equal in every run, and without an effect on bits unless asked for."""

import re

import numpy as np
import pytest
from fed.tiny import Run, tiny_config, tiny_plan

from mm_ray.data.labels import read_confusion
from mm_ray.errors import UserError
from mm_ray.fed.virtual_time import DEVICES, SIM_SECONDS, device_profile, round_time
from mm_ray.types import Cost

MIX = {"clients.profile": "phone,laptop,server"}


def test_a_client_s_round_is_receiving_computing_and_sending():
    profile = device_profile("phone", 1, seed=0)
    phone = DEVICES["phone"]
    # 1 MB down, 0.5 MB up, 10 GFLOP
    expected = 8 / phone.down_mbps + 10 / phone.gflops + 4 / phone.up_mbps
    assert profile.seconds(0, Cost(1_000_000, 500_000, 10e9)) == pytest.approx(expected)


def test_shares_are_those_that_were_asked_for_and_a_client_keeps_its_device():
    many, few = (device_profile("phone:0.7,server:0.3", count, seed=3).gflops_K for count in (10_000, 50))
    assert (many == DEVICES["phone"].gflops).mean() == pytest.approx(0.7, abs=0.02)
    assert set(many) == {DEVICES["phone"].gflops, DEVICES["server"].gflops}
    assert (many[:50] == few).all()
    assert (device_profile("phone:0.7,server:0.3", 50, seed=4).gflops_K != few).any()


def test_a_file_gives_each_client_its_own(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("client, gflops, down_mbps, up_mbps\n1, 2, 8, 4\n0, 1, 16, 8\n")
    profile = device_profile(str(path), 2, seed=0)
    assert [profile.seconds(k, Cost(10**6, 10**6, 4e9)) for k in (0, 1)] == [0.5 + 4 + 1, 1 + 2 + 2]


def test_a_file_of_the_driver_s_folder_is_found_from_another_one(tmp_path, monkeypatch):
    """As in Ray's workers, which have the driver's folder on their path."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "driver").mkdir()
    (tmp_path / "driver" / "mine.csv").write_text("client,gflops,down_mbps,up_mbps\n0,1,16,8\n")
    (tmp_path / "driver" / "swap.csv").write_text("0,1\n1,0\n")
    (tmp_path / "driver" / "who.csv").write_text("clip,client\nnobody,0\n")
    monkeypatch.syspath_prepend(tmp_path / "driver")
    assert device_profile("mine.csv", 1, seed=0).up_mbps_K.tolist() == [8]
    assert read_confusion("swap.csv", 2).tolist() == [[0, 1], [1, 0]]
    with pytest.raises(UserError, match=r"^--partition\.kind who\.csv: names the clip 'nobody'"):
        tiny_plan({"partition.kind": "who.csv"})


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("client,gflops,down_mbps\n0,1,1\n", "has no column 'up_mbps'"),
        ("client,gflops,down_mbps,up_mbps\n1,1,1,1\n", "has no line for client 0; give one for each of 0 to 1"),
        ("client,gflops,down_mbps,up_mbps\n0,1,1,1\n1,1,0,1\n", "must be numbers from 1e-06 to 1e"),
        ("client,gflops,down_mbps,up_mbps\n0,1,1,1\n1,1,nan,1\n", "must be numbers from 1e-06 to 1e"),
        ("client,gflops,down_mbps,up_mbps\n0,1,1,1\n1,1,1e-300,1\n", "must be numbers from 1e-06 to 1e"),
        ("client,gflops,down_mbps,up_mbps\n0,1,1,1\n1,1,1,1\n0,9,9,9\n", "has 2 lines for client 0; give one"),
        ("client;gflops;down_mbps;up_mbps\n", "has no column 'client'"),
        ("client,gflops,down_mbps,up_mbps\n0,fast,1,1\n", "cannot be read as a CSV file of numbers"),
        (None, "cannot be read as a CSV file of numbers"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, text, fault):
    path = tmp_path / "mine.csv"
    if text:
        path.write_text(text)
    with pytest.raises(UserError, match=rf"^--clients\.profile {re.escape(str(path))}: .*{fault}"):
        device_profile(str(path), 2, seed=0)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("phon", "phone"),
        ("phone:0", "above 0"),
        ("phone:half", "above 0"),
        ("phone:1,server:2,phone:3", "twice"),
        ("phone:1e308,server:1e308", "at most 1,000,000"),
    ],
)
def test_a_mix_that_does_not_fit_is_refused(text, fault):
    with pytest.raises(UserError, match=rf"^--clients\.profile .*{fault}"):
        device_profile(text, 2, seed=0)


def test_a_deadline_without_devices_is_refused():
    with pytest.raises(UserError, match=r"^--clients\.sim_deadline_s 3\.0: needs --clients\.profile"):
        tiny_config({"clients.sim_deadline_s": 3.0})


@pytest.mark.parametrize(
    ("deadline_s", "seconds", "late"),
    [(0, 7.0, set()), (9, 7.0, set()), (5, 5.0, {3}), (1, 2.0, {2, 3})],
    ids=["no deadline", "all in time", "one late", "the first is waited for"],
)
def test_a_round_takes_as_long_as_its_slowest_client_or_until_the_deadline(deadline_s, seconds, late):
    assert round_time({1: 2.0, 2: 3.0, 3: 7.0}, deadline_s) == (seconds, late)


def test_devices_change_no_bit_and_no_key_and_stored_rounds_get_the_time_of_the_devices_that_are_asked_for(tmp_path):
    plain, timed = Run(tmp_path / "plain"), Run(tmp_path / "timed", MIX)
    assert plain.bits()[:2] + plain.bits()[3:] == timed.bits()[:2] + timed.bits()[3:]
    assert not any(SIM_SECONDS in report.metrics for report in plain.reports)
    assert SIM_SECONDS not in plain.result
    again, phones = Run(tmp_path / "plain", MIX), Run(tmp_path / "plain", {"clients.profile": "phone"})
    assert again.result["rounds_computed"] == phones.result["rounds_computed"] == 0
    assert again.metrics == timed.metrics
    seconds, slow = ([report.metrics[SIM_SECONDS] for report in run.reports] for run in (again, phones))
    assert all(0 < fast <= own for fast, own in zip(seconds, slow, strict=True))
    assert sum(seconds) < sum(slow)
    assert again.result[SIM_SECONDS] == sum(seconds)
    assert Run(tmp_path / "plain").metrics == plain.metrics


def test_a_round_s_time_is_that_of_its_slowest_client_by_hand():
    plan = tiny_plan(MIX)
    phase, federation = plan.method.phases[0], plan.federation
    client = phase.cohort(federation, 1)[0]
    cost, k = phase.cost(federation, client), client.id
    profile = federation.profile
    by_hand = (
        cost.bytes_down * 8e-6 / profile.down_mbps_K[k]
        + cost.flops * 1e-9 / profile.gflops_K[k]
        + cost.bytes_up * 8e-6 / profile.up_mbps_K[k]
    )
    assert profile.seconds(k, cost) == pytest.approx(by_hand)


def test_late_clients_are_left_out_the_same_ones_in_every_run(tmp_path):
    first = Run(tmp_path / "whole", MIX)
    times = np.array([report.metrics[SIM_SECONDS] for report in first.reports if report.phase == "phase1/unimodal"])
    limit = {**MIX, "clients.sim_deadline_s": float(times.max()) * 0.9}
    runs = [Run(tmp_path / name, limit) for name in ("a", "b")]
    assert runs[0].bits() == runs[1].bits()
    assert runs[0].digest != first.digest
    dropped = [report for report in runs[0].reports if report.refused]
    assert dropped
    for report in dropped:
        assert set(report.refused.values()) == {f"no answer within {limit['clients.sim_deadline_s']:g} simulated s"}
        assert report.metrics[SIM_SECONDS] >= limit["clients.sim_deadline_s"]
        assert report.num_clients >= 1
    assert not any(report.refused for report in runs[0].reports if report.phase == "phase1/teacher_logits")
    other = {**limit, "clients.profile": "phone,laptop,server:2"}
    assert Run(tmp_path / "a", other).keys["phase1/unimodal"] != runs[0].keys["phase1/unimodal"]


def test_a_simulated_deadline_is_refused_with_noise():
    private = {f"phase1.server.{name}": 1.0 for name in ("noise", "clip_norm")}
    with pytest.raises(UserError, match=r"^--clients\.sim_deadline_s 3\.0: .*noise"):
        tiny_plan({**MIX, "clients.sim_deadline_s": 3.0, **private})
