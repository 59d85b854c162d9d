"""The store of phase states: checkpoint, resume, reuse and round-count search at once.

    PHASES/<key>/phase.json                   what the key is the digest of (for people)
    PHASES/<key>/round-000012.safetensors     the state after round 12; its header holds the state's meta and the reports
                                              of the rounds since the kept round before it
    PHASES/<key>/lease-*.json                 who computes at this key right now (mm_ray/fed/lease.py)

A state file is written whole or not at all, and two processes that write the same one write the same bits.
"""

import hashlib
import json
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from mm_ray.errors import UserError, bad_value
from mm_ray.fed.files import Files
from mm_ray.types import RoundReport, ServerState

FORMAT_VERSION = 2
HEADER = "mm_ray"
MAX_HEADER_BYTES = 100_000_000
"""The limit of safetensors; a file that asks for more is something else."""


def phase_key(content: Mapping[str, Any]) -> str:
    """The key of a phase: a digest of all that its result depends on, and of the format's version."""
    text = json.dumps({"version": FORMAT_VERSION, **content}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class PhaseStore:
    """Server states and reports by key and round, on any pyarrow file system.

    Args:
        root: A local path or a URI (`s3://bucket/phases`).

    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.files = Files(root)

    def describe(self, key: str, content: Mapping[str, Any]) -> None:
        """Write what the key is the digest of."""
        name = posixpath.join(key, "phase.json")
        if not self.files.exists(name):
            self.files.write(name, json.dumps(content, indent=2, sort_keys=True).encode())

    def rounds(self, key: str) -> list[int]:
        """The rounds with a stored state, ascending."""
        names = (name for name in self.files.list(key) if name.startswith("round-") and name.endswith(".safetensors"))
        return sorted(int(name[len("round-") : -len(".safetensors")]) for name in names)

    def save(self, key: str, round_number: int, state: ServerState, reports: Sequence[RoundReport]) -> None:
        """Store the state after a round, with the reports of the rounds since the last stored one."""
        header = {"meta": dict(state.meta), "reports": [report.to_json() for report in reports]}
        tensors = {name: np.ascontiguousarray(array) for name, array in state.tensors.items()}
        self.files.write(_state_name(key, round_number), save(tensors, {HEADER: json.dumps(header)}))

    def load(self, key: str, round_number: int) -> ServerState:
        """The state after a round.

        Raises:
            UserError: The file is not a state of this format.

        """
        data = self.files.read(_state_name(key, round_number))
        header = self._header(key, round_number, data)
        try:
            return ServerState(load(data), header["meta"])
        except SafetensorError as error:
            raise self._broken(key, round_number, error) from error

    def copy(self, key: str, round_number: int, target: "PhaseStore") -> None:
        """Copy a stored state, with its reports, into another store that lacks it."""
        name = _state_name(key, round_number)
        if not target.files.exists(name):
            target.files.write(name, self.files.read(name))

    def reports(self, key: str, up_to: int) -> list[RoundReport]:
        """The reports of rounds 1 to `up_to`, which must be a stored round."""
        by_round: dict[int, RoundReport] = {}
        for round_number in self.rounds(key):
            if round_number <= up_to:
                header = self._header(key, round_number, self._head(key, round_number))
                by_round |= {report["round"]: RoundReport(**report) for report in header["reports"]}
        return [by_round[number] for number in sorted(by_round)]

    def _head(self, key: str, round_number: int) -> bytes:
        """Length and header of a state file, without its tensors."""
        name = _state_name(key, round_number)
        size = int.from_bytes(self.files.read(name, 8), "little")
        return self.files.read(name, 8 + min(size, MAX_HEADER_BYTES))

    def _header(self, key: str, round_number: int, data: bytes) -> dict[str, Any]:
        try:
            size = int.from_bytes(data[:8], "little")
            header: dict[str, Any] = json.loads(json.loads(data[8 : 8 + size])["__metadata__"][HEADER])
        except (ValueError, KeyError) as error:
            raise self._broken(key, round_number, error) from error
        return header

    def _broken(self, key: str, round_number: int, error: Exception) -> UserError:
        path = posixpath.join(self.root, _state_name(key, round_number))
        return bad_value("phases", path, f"is not a phase state ({type(error).__name__}); delete its folder")


def _state_name(key: str, round_number: int) -> str:
    return posixpath.join(key, f"round-{round_number:06d}.safetensors")
