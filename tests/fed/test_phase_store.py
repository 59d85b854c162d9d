"""The store of phase states."""

import errno
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save

from mm_ray import storage
from mm_ray.errors import UserError
from mm_ray.fed.phase_store import PhaseStore, _safetensors, phase_key
from mm_ray.storage import Storage
from mm_ray.types import Key, RoundReport, ServerState

STATE = ServerState(
    {
        "audio.encoder": np.array([1.5, -0.0, np.nan, np.inf, 1e-45], np.float32),
        "logits": np.arange(6, dtype=np.float64).reshape(2, 3).T,
        Key("control", "audio.encoder"): np.array([2.5], np.float32),
    },
    {Key("momentum", "audio.encoder"): np.array([1e-9], np.float32)},
    {12: {"rows": np.array([[3]], np.int64), Key("control", 'a"/b'): np.zeros(0, np.float32)}, 3: {"rows": np.ones(1)}},
    {"note": "ü", "k": 2, "nested": {"a": [1, None]}},
)


def report(number, **fields):
    return RoundReport("phase1/unimodal", number, {"dev/audio_top1": number / 10}, 2, 0.5, 3, 4, **fields)


@pytest.fixture(params=["path", "uri"])
def store(request, tmp_path):
    root = tmp_path / "a b" / "phases"
    return PhaseStore(str(root) if request.param == "path" else f"file://{tmp_path}/phases")


def test_a_state_comes_back_bit_for_bit(store):
    store.save("k", 12, STATE, [report(12)])
    loaded = store.load("k", 12)
    assert loaded.meta == STATE.meta
    assert (loaded.params.keys(), loaded.server.keys()) == (STATE.params.keys(), STATE.server.keys())
    assert {client: set(own) for client, own in loaded.clients.items()} == {c: set(own) for c, own in STATE.clients.items()}
    found = loaded.flat()
    for path, array in STATE.flat().items():
        assert (found[path].dtype, found[path].shape) == (array.dtype, array.shape)
        assert found[path].tobytes() == array.tobytes()


def test_arrays_of_another_layout_are_refused(store):
    for path in (("other", "x"), ("params",), ("clients", "x", "y"), ("server", "a", "b", "c"), ("params", 3)):
        state = SimpleNamespace(meta={}, flat=lambda path=path: {path: np.zeros(1)})
        store.save("k", 1, state, [report(1)])
        with pytest.raises(UserError, match="is not a phase state of this version"):
            store.load("k", 1)


def test_the_same_state_is_the_same_file(store):
    for key in ("k", "l"):
        store.save(key, 1, STATE, [report(1)])
    names = [f"{key}/round-000001.safetensors" for key in ("k", "l")]
    assert store.files.read(names[0]) == store.files.read(names[1])


def test_rounds_ascend_and_reports_are_the_union_of_the_files(store):
    store.save("k", 12, STATE, [report(11), report(12)])
    store.save("k", 2, STATE, [report(1), report(2)])
    store.save("k", 10, STATE, [report(number) for number in range(3, 11)])
    store.save("k", 5, STATE, [report(number) for number in range(3, 6)])  # another run kept this round as well
    assert store.rounds("k") == [2, 5, 10, 12]
    for stored in (2, 5, 10, 12):
        assert store.reports("k", stored) == [report(number) for number in range(1, stored + 1)]
    assert store.rounds("unknown") == []


def test_a_report_keeps_all_its_fields(store):
    full = report(1, reused=True)
    store.save("k", 1, STATE, [full])
    assert store.reports("k", 1) == [full]


def test_the_description_is_written_once_and_can_be_read(store):
    store.describe("k", {"phase": {"lr": 0.1}})
    store.describe("k", {"phase": "other"})
    assert b'"lr": 0.1' in store.files.read("k/phase.json")
    assert store.rounds("k") == []


@pytest.mark.parametrize("keep", [0, 4, 8, 40, -1, -30])
def test_a_truncated_file_is_refused_in_one_line(store, keep):
    store.save("k", 1, STATE, [report(1)])
    name = "k/round-000001.safetensors"
    store.files.write(name, store.files.read(name)[:keep])
    with pytest.raises(
        UserError, match=r"^--phases .*round-000001\.safetensors'?: is not a phase state .*; delete its folder$"
    ) as caught:
        store.load("k", 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"no state at all", b"\x02" + bytes(7) + b"{}", b"\xff" * 100])
def test_another_file_is_refused_in_one_line(store, data):
    store.files.write("k/round-000001.safetensors", data)
    for read in (store.load, store.reports):
        with pytest.raises(UserError, match=r"^--phases .*: is not a phase state .*; delete its folder$"):
            read("k", 1)


def test_files_that_are_still_written_are_not_seen(store):
    store.save("k", 1, STATE, [report(1)])
    store.files.write("k/.round-000002.safetensors.0123", b"half")
    assert store.files.list("k") == ["round-000001.safetensors"]
    assert store.rounds("k") == [1]


def test_a_write_shows_the_old_file_until_the_new_one_is_whole(tmp_path, monkeypatch):
    files, put, seen = Storage(str(tmp_path)), storage._put, []
    files.write("k/a", b"old")

    def slow_put(filesystem, path, data):
        put(filesystem, path, data[:2])
        seen.append((files.read("k/a"), files.list("k")))
        put(filesystem, path, data)

    monkeypatch.setattr(storage, "_put", slow_put)
    files.write("k/a", b"new content")
    assert seen == [(b"old", ["a"])]
    assert files.read("k/a") == b"new content"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    files, put = Storage(str(tmp_path)), storage._put
    files.write("k/a", b"old")

    def broken_put(filesystem, path, data):
        put(filesystem, path, data[:1])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(storage, "_put", broken_put)
    with pytest.raises(
        UserError, match=r"k/a: no room left \(No space left on device\); make room; then the same command resumes"
    ):
        files.write("k/a", b"new")
    assert files.read("k/a") == b"old"
    assert os.listdir(tmp_path / "k") == ["a"]


def test_files_by_hand(store):
    files = store.files
    assert (files.exists("a"), files.list("")) == (False, [])
    files.write("a", b"12345")
    files.write("sub/b", b"")
    assert (files.exists("a"), files.exists("sub"), files.list("")) == (True, False, ["a"])
    assert (files.read("a"), files.read("a", 2), files.read("a", 99)) == (b"12345", b"12", b"12345")
    files.delete("a")
    files.delete("a")
    assert not files.exists("a")
    with pytest.raises(FileNotFoundError):
        files.read("a")


def test_a_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Storage("~/phases").write("a", b"1")
    assert Path(tmp_path, "phases", "a").read_bytes() == b"1"


def test_an_unknown_kind_of_uri_is_refused():
    with pytest.raises(UserError, match=r"^--phases ftp://x/y: no file system for it .*; use a path, s3:// or gs://$"):
        PhaseStore("ftp://x/y")


def test_the_key_is_a_digest_of_the_content_in_any_order():
    assert phase_key({"a": 1, "b": [1, 2]}) == phase_key({"b": [1, 2], "a": 1})
    assert phase_key({"a": 1}) != phase_key({"a": 2})
    assert len(phase_key({})) == 24


def test_a_folder_that_another_makes_while_it_is_listed_is_no_error(tmp_path):
    files = Storage(str(tmp_path))
    for number in range(500):
        begun = threading.Barrier(2)
        maker = threading.Thread(target=lambda name=str(number), at=begun: (at.wait(), (tmp_path / name).mkdir()))
        maker.start()
        begun.wait()
        assert [files.list(str(number)) for _ in range(6)] == [[]] * 6
        maker.join()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "bool"])
def test_the_library_reads_what_is_written_in_pieces(dtype, tmp_path):
    tensors = {
        '["params", "ü"]': np.arange(6).reshape(2, 3).astype(dtype),
        "scalar": np.array(1, dtype),
        "none": np.zeros((0, 4), dtype),
        "odd": np.arange(3, dtype=np.uint8),
    }
    metadata = {"mm_ray": 'a "quoted" ü {"b": 1}'}
    path = tmp_path / "state.safetensors"
    path.write_bytes(b"".join(bytes(piece) for piece in _safetensors(tensors, metadata)))
    with safe_open(path, "numpy") as file:
        assert file.metadata() == metadata
        assert set(file.keys()) == set(tensors)
        for name, array in tensors.items():
            np.testing.assert_array_equal(file.get_tensor(name), array, strict=True)
    assert path.stat().st_size == len(save(tensors, metadata))


def test_an_array_of_another_byte_order_comes_back_with_its_values(tmp_path):
    store = PhaseStore(str(tmp_path))
    store.save("k", 1, ServerState({"part": np.arange(3, dtype=">f4")}, {}, {}, {}), [])
    np.testing.assert_array_equal(store.load("k", 1).params["part"], [0, 1, 2])
