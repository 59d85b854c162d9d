"""Storage that fails for a while: the run waits, says so once, and ends in the same bits; one that stays away ends the run."""

import time

import pytest
from fed.tiny import Run
from pyarrow import fs

from mm_ray import storage
from mm_ray.errors import StorageError
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.storage import Storage

ROUNDS = {"phase1.rounds": 8, "phase2.rounds": 4}
FOR_EVER = 10**9


class Flaky(fs.FileSystemHandler):
    """A real folder behind a file system of its own, whose next `failing` calls fail."""

    def __init__(self):
        self.inner, self.failing = fs.LocalFileSystem(), 0

    def __getattribute__(self, name):
        if name in ("inner", "failing", "get_type_name") or name.startswith("__"):
            return super().__getattribute__(name)
        if self.failing:
            self.failing -= 1
            raise OSError("the bucket is away")
        if name in ("get_file_info", "get_file_info_selector"):
            return self.inner.get_file_info
        if name == "create_dir":
            return lambda path, recursive: self.inner.create_dir(path, recursive=recursive)
        return getattr(self.inner, name)

    def get_type_name(self):
        return "flaky"


for name in Flaky.__abstractmethods__:
    if name != "get_type_name":
        setattr(Flaky, name, None)
Flaky.__abstractmethods__ = frozenset()


@pytest.fixture
def flaky(tmp_path, monkeypatch):
    """Makes every `Storage` one on a flaky file system."""
    handler = Flaky()
    monkeypatch.setattr(storage, "_open_storage", lambda root: (fs.PyFileSystem(handler), root))
    (tmp_path / "phases").mkdir()
    return handler


def test_a_run_waits_for_storage_that_is_away_and_ends_in_the_same_bits(tmp_path, monkeypatch, caplog):
    calm = Run(tmp_path / "calm", ROUNDS)
    handler, outages = Flaky(), []
    monkeypatch.setattr(storage, "_open_storage", lambda root: (fs.PyFileSystem(handler), root))

    def tell(report):
        if (report.phase, report.round) in {("phase1/unimodal", 2), ("phase2/distill", 2)}:
            handler.failing = 3
            outages.append(report.phase)

    for key in calm.keys.values():
        (tmp_path / "phases" / key).mkdir(parents=True)
    hunted = Run(tmp_path / "phases", ROUNDS, tell=tell)
    assert (len(outages), handler.failing) == (2, 0)
    assert hunted.bits() == calm.bits()
    warnings = [record.getMessage() for record in caplog.records if record.name == storage.__name__]
    assert len(warnings) == 2, "one line an outage"
    assert "does not answer (the bucket is away); waiting up to 120 s" in warnings[0]


def test_storage_that_stays_away_ends_the_run_in_one_line(tmp_path, flaky, monkeypatch):
    files = Storage(str(tmp_path / "phases"))
    files.write("a", b"old")
    flaky.failing = FOR_EVER
    monkeypatch.setattr(storage, "PATIENCE_S", 0.4)
    started = time.monotonic()
    with pytest.raises(StorageError, match=r"phases/a: does not answer \(the bucket is away\); try again when it does"):
        files.write("a", b"new")
    assert time.monotonic() - started > 0.2
    flaky.failing = 0
    assert files.read("a") == b"old"


def test_a_missing_file_is_not_waited_for(tmp_path, flaky, caplog):
    with pytest.raises(FileNotFoundError):
        PhaseStore(str(tmp_path / "phases")).files.read("nothing")
    assert not caplog.records
