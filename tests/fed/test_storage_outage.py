"""Storage that fails for a while: the run waits, says so once, and ends in the same bits; one that stays away ends the run."""

import errno
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

import pytest
from fed.tiny import Run
from pyarrow import fs

from mm_ray import storage
from mm_ray.errors import StorageError, UserError
from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.storage import Storage

pytestmark = pytest.mark.thorough

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


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_folder_that_may_not_be_written_is_not_waited_for(tmp_path, monkeypatch, caplog, number):
    def refuse(filesystem, path, data):
        raise OSError(number, os.strerror(number), path)

    files = Storage(str(tmp_path))
    monkeypatch.setattr(storage, "_put", refuse)
    with pytest.raises(StorageError, match=r"/k/a: cannot be used \(.*\); give write permission there, or use another path"):
        files.write("k/a", b"x")
    assert not caplog.records


def test_a_place_that_may_not_be_written_is_refused_before_a_run_begins(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(UserError, match=r"^--phases .*: cannot be used .*; give a folder that can be written$"):
        storage.check_place(str(tmp_path))


def test_a_folder_that_is_removed_while_a_file_is_written_is_made_again(tmp_path, monkeypatch):
    files, put, removed = Storage(str(tmp_path)), storage._put, []

    def late(filesystem, path, data):
        if not removed:
            removed.append(shutil.rmtree(tmp_path / "k"))
        put(filesystem, path, data)

    monkeypatch.setattr(storage, "_put", late)
    files.write("k/a", b"x")
    assert files.read("k/a") == b"x"


def test_a_full_disk_names_the_file_that_grows(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    (tmp_path / "trials.jsonl").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"trials.jsonl: no room left"):
        storage.append_lines(tmp_path / "trials.jsonl", "row\n")


class Emptied(SerialExecutor):
    """Empties the phase store when a phase of a name begins, or in a round."""

    def __init__(self, root, phase, round_number=0):
        self.root, self.where = root, (phase, round_number)

    def _strike(self, *where):
        if where == self.where:
            self.where = None
            for folder in self.root.iterdir():
                shutil.rmtree(folder)

    def open(self, phase, material, federation):
        super().open(phase, material, federation)
        self._strike(phase.name, 0)

    def run_round(self, params, round_number, chunks, clients):
        self._strike(self._phase.name, round_number)
        return super().run_round(params, round_number, chunks, clients)


@pytest.mark.parametrize(
    "where",
    [("phase1/unimodal", 0), ("phase1/unimodal", 3), ("phase1/fusion", 0), ("phase1/fusion", 1), ("phase2/distill", 0),
     ("phase2/distill", 3), ("phase2/distill", 4)],
)  # fmt: skip
def test_a_phase_store_that_is_emptied_is_one_line_or_nothing(tmp_path, where):
    """The run ends, or says in one line that a state is gone; then the same command ends equal."""
    calm = Run(tmp_path / "calm", ROUNDS)
    with suppress(StorageError):
        Run(tmp_path / "phases", ROUNDS, executor=Emptied(tmp_path / "phases", *where))
    assert Run(tmp_path / "phases", ROUNDS).bits() == calm.bits()


def test_any_state_that_is_removed_is_computed_again(tmp_path):
    calm = Run(tmp_path, ROUNDS)
    for path in sorted(tmp_path.glob("*/round-*")):
        path.unlink()
        again = Run(tmp_path, ROUNDS)
        assert again.bits() == calm.bits()
        assert 0 < again.result["rounds_computed"] < len(calm.reports)
