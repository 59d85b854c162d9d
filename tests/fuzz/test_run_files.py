"""What runs and studies leave and read again: phase states, claims, students, journals, rows."""

import json

import numpy as np
import pytest
from fed.tiny import table_of, tiny_config
from fuzz.cases import CASES, ODD_VALUES, judged, mutants, tiny_student
from safetensors.numpy import load_file, save

from mm_ray.compare.cells import ComparisonRun, Setting
from mm_ray.compare.results import CellResults, row_of
from mm_ray.errors import UserError
from mm_ray.fed.lease import Lease
from mm_ray.fed.phase_store import HEADER, PhaseStore, _checksum, _tensors_checksum
from mm_ray.models.student import load_student
from mm_ray.prediction import predict
from mm_ray.tune.flags import resumed
from mm_ray.tune.space import load_space
from mm_ray.tune.study_log import read_trials
from mm_ray.tune.study_storage import JOURNAL, open_study
from mm_ray.types import RoundReport, ServerState

TENSORS = {"audio.encoder": np.arange(40, dtype=np.float32), "audio.head": np.ones((3, 2), np.float64)}
STATE = ServerState(TENSORS, meta={"holders": {"audio.encoder": 3}})


def report(number):
    return RoundReport("phase1/unimodal", number, {"dev/audio_top1": number / 10}, 2, 0.5, 3, 4)


def test_a_phase_state_made_worse_is_never_taken_for_another(tmp_path):
    store = PhaseStore(str(tmp_path))
    store.save("k", 5, STATE, [report(number) for number in range(1, 6)])
    path, reports = tmp_path / "k" / "round-000005.safetensors", store.reports("k", 5)
    whole = path.read_bytes()

    def read():
        loaded, told = store.load("k", 5), store.reports("k", 5)
        assert loaded.meta == STATE.meta
        assert {name: array.tobytes() for name, array in loaded.params.items()} == {n: a.tobytes() for n, a in TENSORS.items()}
        assert told == reports

    for data in mutants(whole, CASES["states"], seed=2):
        path.write_bytes(data)
        judged(read, path)


@pytest.mark.parametrize("cases", [CASES["phase headers"]])
def test_a_header_of_another_version_is_refused(tmp_path, cases):
    store, tensors = PhaseStore(str(tmp_path)), {"a": np.zeros(3, np.float32)}
    texts = ("x", "[]", "{}", '{"meta": 3, "reports": []}', '{"meta": {}, "reports": 3}', '{"meta": {}, "reports": [3]}',
             '{"meta": {}, "reports": [{"round": 1, "phase": "x", "new_field": 1}]}')  # fmt: skip
    assert len(texts) == cases
    for text in texts:
        content = f"{_tensors_checksum(tensors)} {text}"
        store.files.write("k/round-000001.safetensors", save(tensors, {HEADER: f"{_checksum([content.encode()])} {content}"}))
        for read in (store.load, store.reports):
            with pytest.raises(UserError, match=r"round-000001.safetensors: is not a phase state of this version"):
                read("k", 1)


def test_reports_end_before_a_state_that_was_removed(tmp_path):
    store = PhaseStore(str(tmp_path))
    for number in (2, 4, 6):
        store.save("k", number, STATE, [report(number - 1), report(number)])
    (tmp_path / "k" / "round-000004.safetensors").unlink()
    assert [one.round for one in store.reports("k", 6)] == [1, 2]


def test_other_files_beside_the_states_are_passed_over(tmp_path):
    store = PhaseStore(str(tmp_path))
    store.save("k", 5, STATE, [report(5)])
    for name in ("round-abc.safetensors", "round-.safetensors", "round-7.safetensors", "round-000009.safetensors.part", "x"):
        (tmp_path / "k" / name).write_bytes(b"x")
    (tmp_path / "k" / "round-000010.safetensors").mkdir()
    assert store.rounds("k") == [5]


def test_a_claim_that_cannot_be_read_is_no_claim(tmp_path):
    files = PhaseStore(str(tmp_path)).files
    other = Lease(files, "k")
    assert other.try_take()
    (path,) = (tmp_path / "k").iterdir()
    whole = path.read_bytes()
    for data in (*mutants(whole, CASES["claims"] - 5, seed=3), b"[]", b"3", b'{"pid": "x"}', b"[" * 5_000, b"null"):
        path.write_bytes(data)
        lease = Lease(files, "k")
        taken = lease.try_take()
        assert taken or path.exists()
        if taken:
            lease._delete(lease._mine)


def test_a_student_made_worse(tmp_path):
    path = tiny_student(tmp_path)
    described = path.with_suffix(".json")
    for file in (path, described):
        whole = file.read_bytes()
        for data in mutants(whole, CASES["students"] // 2, seed=4):
            file.write_bytes(data)
            judged(lambda: load_student(path), path, described)
        file.write_bytes(whole)
    content = json.loads(described.read_text())
    for change in (
        {"class_names": ["a"]},
        {"class_names": 3},
        {"features": content["features"] | {"num_mels": "20"}},
        {"features": content["features"] | {"num_mels": 10**9}},
        {"features": content["features"] | {"code": "os"}},
        {"model": content["model"] | {"hidden": 10**9}},
        {"model": content["model"] | {"conv_channels": 5}},
        {"shapes": []},
    ):
        described.write_text(json.dumps(content | change))
        assert not judged(lambda: load_student(path), path, described), change
    assert not judged(lambda: load_student(tmp_path))


def test_a_student_with_odd_fields_is_refused_or_predicts(tmp_path, shared_data):
    """Also the sizes that no memory holds; they cost none. What loads must hear a recording without an error."""
    path, count = tiny_student(tmp_path), 0
    sound, described = str(shared_data / "fsdd/recordings/0_george_0.wav"), path.with_suffix(".json")
    content = json.loads(described.read_text())
    for group in ("features", "model", "shapes"):
        for name in content[group]:
            for value in ODD_VALUES:
                described.write_text(json.dumps(content | {group: content[group] | {name: value}}))
                judged(lambda: predict(load_student(path), sound), path, described)
                count += 1
    described.write_text(json.dumps(content))
    tensors = load_file(path)
    for name, array in tensors.items():
        path.write_bytes(save(tensors | {name: np.full_like(array, np.nan)}))
        with pytest.raises(UserError, match="holds numbers that are not finite"):
            load_student(path)
        count += 1
    assert count == CASES["student fields"]


def test_a_storage_that_is_no_journal_stays_as_it_is(tmp_path):
    others = (b"line one\nmy dear last line", b'{"a": 1}', b'[1]\n{"x"', b"SQLite format 3\x00\nabc", b'{"op":1}\n{')
    assert len(others) == CASES["journals of others"]
    for number, data in enumerate(others):
        path = tmp_path / f"{number}.txt"
        path.write_bytes(data)
        assert not judged(lambda path=path: open_study(load_space("distill"), tmp_path, "s", str(path)), path)


def test_cells_made_worse(tmp_path):
    cell, results = ComparisonRun("control", Setting(0.5, 5.0), 0, 0), CellResults(tmp_path, tiny_config())
    scores = {"student": {"top1": 0.5, "uar": 0.5, "macro_f1": 0.5}}
    recalls = {"student": [0.5, 0.25]}
    results.write(cell, {"test": scores, "dev": scores, "per_class": recalls, "rounds_computed": 3, "rounds_reused": 4})
    (path,) = (tmp_path / "cells").iterdir()
    good = 0
    for data in mutants(path.read_bytes(), CASES["cells"], seed=8):
        path.write_bytes(data)
        good += judged(lambda: row_of(cell, results.read(cell), table_of(tiny_config().data)), path)
    assert 0 < good < CASES["cells"], "some damage is none, some is"


def test_the_files_of_a_study_made_worse(tmp_path):
    space, study_json, journal = load_space("distill"), tmp_path / "study.json", tmp_path / JOURNAL
    study = open_study(space, tmp_path, "s")
    for number in range(3):
        study.tell(study.ask(), number / 10)
    whole, share, opened, went_on = journal.read_bytes(), CASES["journals"] // 2, 0, 0
    for data in mutants(whole, share, seed=5):
        journal.write_bytes(data)
        opened += judged(lambda: open_study(space, tmp_path, "s").get_trials())  # a torn end is cut off, so the file may change
    for data in mutants(json.dumps({"space": "distill", "trials": 4, "other": 1}).encode(), share, seed=6):
        study_json.write_bytes(data)
        went_on += judged(lambda: resumed(tmp_path.name, str(tmp_path.parent)), study_json)
    assert 0 < opened < share
    assert 0 < went_on < share


def test_rows_of_trials_made_worse(tmp_path):
    path = tmp_path / "trials.jsonl"
    row = {"state": "COMPLETE", "params": {}, "overrides": {}, "metrics": {}, "curve": []}
    rows = [{"number": number, **row} for number in range(4)]
    whole = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(whole + b'{"number": 4, "sta')
    assert read_trials(tmp_path) == rows
    for data in mutants(whole, CASES["rows"], seed=7):
        path.write_bytes(data)
        judged(lambda: read_trials(tmp_path), path)
