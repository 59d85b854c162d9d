"""Optuna's journal file, which waits for the disk only where a trial's state changes."""

import json
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.storages.journal._file import get_lock_file
from optuna.storages.journal._storage import JournalOperation

from mm_ray.storage import append_lines

STALE_LOCK_S = 5
"""A driver that was killed while it wrote leaves its lock; the next one waits this long before it removes it."""


class StudyJournal(JournalFileBackend):
    """The same file and the same lock.

    Optuna's own waits for the disk at every record: 18 times a trial of 8 reports, 2 ms each, more than all else that a
    driver does for it. What a killed process wrote survives it in any case; a machine that loses power loses at most the
    reports since the last trial ended, and those trials go on from their stored rounds.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), lock_obj=JournalFileSymlinkLock(str(path), grace_period=STALE_LOCK_S))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records: all of them, or none if there is no room."""
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        ends = any(log["op_code"] == JournalOperation.SET_TRIAL_STATE_VALUES for log in logs)
        with get_lock_file(self._lock):
            append_lines(Path(self._file_path), text, wait_for_disk=ends)
