"""The store of phase states serves checkpoints, resume, reuse and the search over numbers of rounds.

    PHASES/<key>/phase.json                   what the key is the digest of (for people)
    PHASES/<key>/round-000012.safetensors     the state after round 12; its header holds the state's meta and the reports
                                              of the rounds since the kept round before it; a tensor's name is its
                                              path in the state (`ServerState.flat`) as JSON
    PHASES/code.json                          digests of your own code, by name, to report when it changed
    PHASES/<key>/lease-*.json                 who computes at this key right now (mm_ray/fed/lease.py)

A state file is written whole or not at all. Two processes that write the same one write the same tensors; the headers differ,
since they hold the seconds that each process took.
"""

import hashlib
import json
import posixpath
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from mm_ray.errors import StorageError, UserError, bad_value, in_one_line
from mm_ray.storage import Storage
from mm_ray.types import Key, RoundReport, ServerState

FORMAT_VERSION = 4
CODE = "code.json"
HEADER = "mm_ray"
"""One entry, `CHECKSUM CHECKSUM JSON`: checksums of what follows and of the tensors. A changed byte would spread to all later
rounds."""
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
        self.files = Storage(root)

    def describe(self, key: str, content: Mapping[str, Any]) -> None:
        """Write what the key is the digest of."""
        name = posixpath.join(key, "phase.json")
        if not self.files.exists(name):
            self.files.write(name, json.dumps(content, indent=2, sort_keys=True).encode())

    def changed_code(self, used: Mapping[str, str]) -> list[str]:
        """The names whose code differs from all code used with this store before; the new code is recorded.

        Args:
            used: Digests by name (`mm_ray.plugins.code_used`).

        """
        if not used:
            return []
        seen = self._code_seen()
        changed = [name for name, digest in used.items() if digest not in seen.get(name, [digest])]
        merged = {**seen, **{name: sorted({*seen.get(name, []), digest}) for name, digest in used.items()}}
        if merged != seen:
            self.files.write(CODE, json.dumps(merged, indent=2, sort_keys=True).encode())
        return changed

    def _code_seen(self) -> dict[str, list[str]]:
        try:
            seen = json.loads(self.files.read(CODE)) if self.files.exists(CODE) else {}
        except ValueError:
            return {}
        return seen if isinstance(seen, dict) else {}

    def rounds(self, key: str) -> list[int]:
        """The rounds with a stored state, ascending."""
        found = map(_STATE_NAME.fullmatch, self.files.list(key))
        return sorted(int(match[1]) for match in found if match)

    def save(self, key: str, round_number: int, state: ServerState, reports: Sequence[RoundReport]) -> None:
        """Store the state after a round, with the reports of the rounds since the last stored one."""
        header = json.dumps({"meta": dict(state.meta), "reports": [report.to_json() for report in reports]})
        tensors = {
            json.dumps(path): np.ascontiguousarray(array, array.dtype.newbyteorder("<")) for path, array in state.flat().items()
        }
        text = f"{_tensors_checksum(tensors)} {header}"
        pieces = _safetensors(tensors, {HEADER: f"{_checksum([text.encode()])} {text}"})
        self.files.write(_state_name(key, round_number), *pieces)

    def load(self, key: str, round_number: int) -> ServerState:
        """The state after a round.

        Raises:
            UserError: The file is not a state of this format, or was changed since it was written.
            StorageError: The file was removed.

        """
        data = self._read(key, round_number)
        meta, _, check = self._header(key, round_number, data)
        try:
            tensors = load(data)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise self._broken(key, round_number, str(error)) from error
        if _tensors_checksum(tensors) != check:
            raise self._broken(key, round_number, "its tensors were changed")
        try:
            return _state({tuple(json.loads(path)): array for path, array in tensors.items()}, meta)
        except (ValueError, TypeError, RecursionError) as error:
            raise self._broken(key, round_number, f"the names of its tensors: {error}") from error

    def copy(self, key: str, round_number: int, target: "PhaseStore") -> None:
        """Copy a stored state, with its reports, into another store that lacks it."""
        name = _state_name(key, round_number)
        if not target.files.exists(name):
            target.files.write(name, self._read(key, round_number))

    def reports(self, key: str, up_to: int) -> list[RoundReport]:
        """The reports of rounds 1 to `up_to`, or to the last one before a gap: a state file that was removed is computed again.

        Raises:
            UserError: A file is not a state of this format, or its header was changed since it was written.
            StorageError: A file was removed in the meantime.

        """
        found: list[RoundReport] = []
        for round_number in self.rounds(key):
            if round_number <= up_to:
                _, reports, _ = self._header(key, round_number, self._head(key, round_number))
                fresh = [report for report in reports if report.round > len(found)]
                if [report.round for report in fresh] != list(range(len(found) + 1, round_number + 1)):
                    break
                found += fresh
        return found

    def _head(self, key: str, round_number: int) -> bytes:
        """Length and header of a state file, without its tensors."""
        size = int.from_bytes(self._read(key, round_number, 8), "little")
        return self._read(key, round_number, 8 + min(size, MAX_HEADER_BYTES))

    def _read(self, key: str, round_number: int, num_bytes: int | None = None) -> bytes:
        """Bytes of a state file that a listing, or an earlier round, has shown to be there."""
        name = _state_name(key, round_number)
        try:
            return self.files.read(name, num_bytes)
        except FileNotFoundError as error:
            where = posixpath.join(self.root, name)
            raise StorageError(f"{where}: was removed while it was needed; the same command computes it again") from error

    def _header(self, key: str, round_number: int, data: bytes) -> tuple[dict[str, Any], list[RoundReport], str]:
        """Meta and reports, and the checksum that the tensors should have."""
        try:
            size = int.from_bytes(data[:8], "little")
            checksum, _, text = json.loads(data[8 : 8 + size])["__metadata__"][HEADER].partition(" ")
            if _checksum([text.encode()]) != checksum:
                raise ValueError("it was changed")
            tensors, _, content = text.partition(" ")
            header = json.loads(content)
            return dict(header["meta"]), [RoundReport(**report) for report in header["reports"]], tensors
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise self._broken(key, round_number, f"its header: {type(error).__name__} {error}") from error

    def _broken(self, key: str, round_number: int, reason: str) -> UserError:
        path = posixpath.join(self.root, _state_name(key, round_number))
        why = f"is not a phase state of this version ({in_one_line(reason)})"
        return bad_value("phases", path, f"{why}; delete its folder")


_STATE_NAME = re.compile(r"round-([0-9]{6,})\.safetensors")


def _state_name(key: str, round_number: int) -> str:
    return posixpath.join(key, f"round-{round_number:06d}.safetensors")


def _state(flat: Mapping[tuple[Any, ...], np.ndarray], meta: Mapping[str, Any]) -> ServerState:
    """The state whose `flat()` this is."""
    fields: dict[str, dict[Any, np.ndarray]] = {"params": {}, "server": {}}
    clients: dict[int, dict[Any, np.ndarray]] = {}
    for (group, *rest), array in flat.items():
        if group == "clients":
            client, *rest = rest
            clients.setdefault(int(client), {})[_name(rest)] = array
        elif group in fields:
            fields[group][_name(rest)] = array
        else:
            raise ValueError(f"{group} is not part of a state")
    return ServerState(fields["params"], fields["server"], clients, meta)


def _name(path: Sequence[Any]) -> str | Key:
    match path:
        case [str(name)]:
            return name
        case [str(kind), str(of)]:
            return Key(kind, of)
    raise ValueError(f"{path} names no array")


def _safetensors(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    """A safetensors file in pieces: length of the header, header, the bytes of each array. The library's `save` copies all
    arrays into one `bytes`, which doubles the time for a large state.
    """
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0]))
    end, header = 0, dict[str, Any](__metadata__=dict(metadata))
    for name, array in ordered:
        start, end = end, end + array.nbytes
        header[name] = {"dtype": _type_name(array.dtype), "shape": array.shape, "data_offsets": (start, end)}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little")
    yield text
    for _, array in ordered:
        yield array.reshape(-1).view(np.uint8).data


def _type_name(dtype: np.dtype) -> str:
    return "BOOL" if dtype.kind == "b" else f"{_KINDS[dtype.kind]}{8 * dtype.itemsize}"


_KINDS = {"i": "I", "u": "U", "f": "F"}


def _tensors_checksum(tensors: Mapping[str, np.ndarray]) -> str:
    """Of names, types, shapes and bytes."""
    described = {name: f"{name} {array.dtype} {array.shape}".encode() for name, array in tensors.items()}
    return _checksum(piece for name in sorted(tensors) for piece in (described[name], tensors[name]))


def _checksum(pieces: Iterable[Any]) -> str:
    value = 0
    for piece in pieces:
        value = zlib.crc32(piece, value)
    return f"{value:08x}"
