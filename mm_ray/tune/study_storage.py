"""Where a study is kept: one Optuna study in a journal file or a database, which survives a killed driver and refuses another
space or experiment."""

import json
import re
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.storages.journal._file import get_lock_file
from optuna.storages.journal._storage import JournalOperation

from mm_ray.errors import UserError, bad_value, in_one_line
from mm_ray.storage import append_lines
from mm_ray.tune.space import Space

JOURNAL = "optuna.journal"
STALE_LOCK_S = 5
"""A driver that is killed while it writes leaves its lock; the next driver removes it after this many seconds."""
RECORD = b'{"op_code":'
"""How a record, and so a journal, begins."""


def open_study(space: Space, run_dir: Path, name: str, storage: str = "", experiment: str = "") -> optuna.Study:
    """The study of a run, made with the space's enqueued trials if it is new. It is called `NAME[-EXPERIMENT]-SPACE`.

    Args:
        space: What is searched; its digest ends the study's name.
        run_dir: The run's folder, in which the journal lies.
        name: The run's name.
        storage: A database's URL (`sqlite:///study.db`) or a journal file elsewhere; empty: `<run_dir>/optuna.journal`.
        experiment: Digest of the base config, which distinguishes runs of the same name in a shared database.

    Raises:
        UserError: The storage cannot be opened, or holds a study of that name with another space or experiment.

    """
    run_dir.mkdir(parents=True, exist_ok=True)
    opened = _open(storage or str(run_dir / JOURNAL))
    full_name = _full_name(space, name, experiment)
    names = optuna.get_all_study_names(opened)
    if full_name in names:
        study = optuna.load_study(study_name=full_name, storage=opened)
    else:
        _refuse_another(names, name, space, experiment)
        study = optuna.create_study(study_name=full_name, storage=opened, directions=space.directions)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(list(space.objectives))
    for params in space.enqueued:
        study.enqueue_trial(params, skip_if_exists=True)
    return study


def check_storage(storage: str) -> None:
    """Open a database before anything else starts.

    Raises:
        UserError: It cannot be opened.

    """
    if "://" in storage:
        _open(storage)


def check_same_study(space: Space, run_dir: Path, name: str, storage: str = "", experiment: str = "") -> None:
    """Refuse what `open_study` would refuse, before a Ray is started or anything is written.

    Raises:
        UserError: See `open_study`.

    """
    place = storage or str(run_dir / JOURNAL)
    if "://" not in place and not Path(place).expanduser().exists():
        return
    names = optuna.get_all_study_names(_open(place))
    if _full_name(space, name, experiment) not in names:
        _refuse_another(names, name, space, experiment)


def _full_name(space: Space, name: str, experiment: str) -> str:
    return "-".join(part for part in (name, experiment, space.digest) if part)


def _open(place: str) -> BaseStorage:
    if "://" not in place:
        path = Path(place).expanduser()
        try:
            _mend(path)
            opened = JournalStorage(StudyJournal(path))
            opened.get_all_studies()
            return opened
        except Exception as error:  # Optuna replays any content, so any error can occur
            reason = f"{type(error).__name__}: {error}"[:200]
            raise UserError(f"{path}: is not a study's journal ({reason}); restore it, or use another --name") from error
    try:
        return RDBStorage(place)
    except Exception as error:  # SQLAlchemy's and the drivers' errors have no common parent
        reason = in_one_line(error)[:200]
        remedy = f"cannot be opened ({type(error).__name__}: {reason}); give sqlite:///FILE, another URL, or leave it out"
        raise bad_value("storage", place, remedy) from error


def _refuse_another(names: list[str], name: str, space: Space, experiment: str) -> None:
    pattern = re.compile(rf"{re.escape(name)}(?:-([0-9a-f]{{8}}))?-([0-9a-f]{{16}})")
    for other in filter(None, map(pattern.fullmatch, names)):
        if other[2] != space.digest:
            remedy = f"its digest is {space.digest}, but this run was started with {other[2]}"
            raise bad_value("space", space.name, f"{remedy}; restore the space or use another --name")
        begun = f"its digest is {experiment or 'unknown'}, but the storage has this study with {other[1] or 'unknown'}"
        raise bad_value("name", name, f"the experiment differs ({begun}); use another --name")


def _mend(path: Path) -> None:
    # A killed driver can leave half a line; the next append would join a record to it and make the journal unreadable. A file
    # that is not a journal is left as it is: --storage may name any file.
    text = path.read_bytes() if path.is_file() else b""
    if not text.startswith(RECORD[: len(text)]):
        raise ValueError("another file")
    if text and not text.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(text.rfind(b"\n") + 1)


class StudyJournal(JournalFileBackend):
    """Optuna's file and lock, with fewer fsyncs.

    Optuna's own class calls fsync for every record: 18 times for a trial with 8 reports, 2 ms each, more than everything else
    that a driver does for the trial. What a killed process wrote survives in any case. After a power cut at most the reports
    since the last trial's end are lost, and the open trials continue from their stored rounds.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), lock_obj=JournalFileSymlinkLock(str(path), grace_period=STALE_LOCK_S))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records: all of them, or none if the disk is full."""
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        ends = any(log["op_code"] == JournalOperation.SET_TRIAL_STATE_VALUES for log in logs)
        with get_lock_file(self._lock):
            append_lines(Path(self._file_path), text, wait_for_disk=ends)
