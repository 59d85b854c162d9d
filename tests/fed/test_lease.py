"""Who computes at a key: one holder, a second one who waits, and what happens when the holder is gone."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from mm_ray.fed import lease as lease_module
from mm_ray.fed.lease import Lease
from mm_ray.storage import Storage

HOLD = """
import sys, time
from mm_ray.storage import Storage
from mm_ray.fed.lease import Lease
with_lease = Lease(Storage(sys.argv[1]), "k")
assert with_lease.try_take()
with with_lease:
    print("held", flush=True)
    time.sleep(120)
"""


@pytest.fixture
def files(tmp_path):
    return Storage(str(tmp_path))


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_taker_waits_until_the_first_is_done(files):
    first, second = Lease(files, "k"), Lease(files, "k")
    assert first.try_take()
    with first:
        assert not second.try_take()
        assert Lease(files, "other").try_take()
    assert second.try_take()


def test_the_lease_is_given_back_when_the_work_fails(files):
    first = Lease(files, "k")
    assert first.try_take()
    with pytest.raises(RuntimeError), first:
        raise RuntimeError
    assert files.list("k") == []


def test_a_lease_that_another_took_over_is_not_deleted(files):
    first, second = Lease(files, "k"), Lease(files, "k")
    assert first.try_take()
    with first:
        second._write()
    assert files.list("k") == [second._mine]


def test_of_many_who_claim_at_once_never_two_hold(files):
    barrier, holding, most = threading.Barrier(8), threading.Semaphore(0), []

    def claim():
        lease, taken = Lease(files, "k"), False
        barrier.wait()
        while not taken:
            taken = lease.try_take()
        with lease:
            holding.release()
            most.append(holding._value)
            time.sleep(0.002)
            holding.acquire()

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8


@pytest.mark.parametrize("reaped", [True, False], ids=["reaped", "zombie"])
def test_the_lease_of_a_killed_process_is_taken_over_at_once(files, holder, reaped):
    waiter = Lease(files, "k")
    assert not waiter.try_take()
    holder.send_signal(signal.SIGKILL)
    # Where nobody asks for its end, as in a container without an init, a killed process stays in the table as a zombie.
    os.waitid(os.P_PID, holder.pid, os.WEXITED | (0 if reaped else os.WNOWAIT))
    if reaped:
        holder.returncode = -signal.SIGKILL
    assert waiter.try_take()


def test_a_reused_process_id_is_another_process(files, monkeypatch):
    first, second = Lease(files, "k"), Lease(files, "k")
    assert first.try_take()
    monkeypatch.setattr(lease_module, "_process", lambda pid: f"{pid}/started later")
    assert second.try_take()


def from_elsewhere(files, monkeypatch, host="elsewhere"):
    """A lease that a process of another machine holds."""
    other = Lease(files, "k")
    with monkeypatch.context() as patch:
        patch.setattr(lease_module, "_host", lambda: host)
        assert other.try_take()
    return other


def test_a_lease_of_another_machine_is_taken_over_when_it_was_not_renewed(files, monkeypatch):
    monkeypatch.setattr(lease_module, "EXPIRY_S", 0.15)
    from_elsewhere(files, monkeypatch)
    waiter = Lease(files, "k")
    assert not waiter.try_take()
    time.sleep(0.2)
    assert waiter.try_take()


def test_a_lease_of_another_machine_that_is_renewed_is_respected(files, monkeypatch):
    monkeypatch.setattr(lease_module, "EXPIRY_S", 0.3)
    monkeypatch.setattr(lease_module, "RENEWAL_S", 0.05)
    other = from_elsewhere(files, monkeypatch)
    waiter = Lease(files, "k")
    with other, monkeypatch.context() as patch:
        real = lease_module._host
        # The renewing thread writes its host anew each time: the waiter is the one on another machine here.
        patch.setattr(waiter, "_is_dead", lambda name, claim: Lease._is_dead(waiter, name, {**claim, "host": f"not {real()}"}))
        until = time.monotonic() + 0.8
        while time.monotonic() < until:
            assert not waiter.try_take()
            time.sleep(0.05)
    assert waiter.try_take()


def test_without_process_start_times_a_dead_holder_s_lease_expires(files, monkeypatch):
    # No /proc, as on macOS: all that can be seen is that the lease is renewed no more.
    monkeypatch.setattr(lease_module, "_process", lambda pid: "")
    monkeypatch.setattr(lease_module, "EXPIRY_S", 0.15)
    assert Lease(files, "k").try_take()
    waiter = Lease(files, "k")
    assert not waiter.try_take()
    time.sleep(0.2)
    assert waiter.try_take()


def test_a_lease_file_that_is_no_lease_is_no_lease(files):
    files.write("k/lease-torn.json", b"{")
    assert Lease(files, "k").try_take()
