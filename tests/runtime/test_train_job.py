"""What the worker of a Train job gives back."""

import errno
import pickle
from types import SimpleNamespace

import pytest

from mm_ray.errors import StorageError
from mm_ray.runtime import train_job


def work(monkeypatch, error):
    def fail(job, table):
        raise error

    monkeypatch.setattr(train_job, "_run_here", fail)
    return train_job._worker({"job": pickle.dumps(SimpleNamespace(folder="runs/run")), "table": [None]})


def test_a_full_disk_is_returned_so_that_train_does_not_try_again(monkeypatch):
    refusal = pickle.loads(pickle.dumps(work(monkeypatch, OSError(errno.ENOSPC, "No space left on device"))))
    assert isinstance(refusal, StorageError)
    assert str(refusal).startswith("runs/run: no room left (No space left on device); make room")


def test_what_may_go_well_the_next_time_is_raised(monkeypatch):
    with pytest.raises(OSError, match=r"^lost$"):
        work(monkeypatch, OSError("lost"))
