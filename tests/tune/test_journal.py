"""Where studies are kept: names with both digests, databases, and what does not belong."""

import json
import resource

import optuna
import pytest
from tune.spaces import PLAIN, play, space_of

from mm_ray.errors import UserError
from mm_ray.tune.searcher import SearchSettings, StudySearch
from mm_ray.tune.study_storage import StudyJournal, check_same_study, open_study


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def test_a_study_in_sqlite_goes_on(tmp_path):
    space, settings = space_of(tmp_path), SearchSettings("tpe", "asha", f"sqlite:///{tmp_path}/study.db", "a" * 8)
    play(StudySearch(space, tmp_path / "run", "run", 5, settings), 0, 3, lambda params: 0.5, rounds=6)
    again = StudySearch(space, tmp_path / "run", "run", 5, settings)
    assert again.remaining(5) == 2
    assert again.study.study_name == f"run-{'a' * 8}-{space.digest}"
    assert not (tmp_path / "run" / "optuna.journal").exists()


def test_two_runs_share_a_database_and_no_trials(tmp_path):
    space, storage = space_of(tmp_path), f"sqlite:///{tmp_path}/study.db"
    one = open_study(space, tmp_path / "one", "one", storage, "a" * 8)
    two = open_study(space, tmp_path / "two", "two", storage, "b" * 8)
    one.ask()
    assert (len(one.trials), len(two.trials)) == (1, 0)


def test_another_space_or_experiment_is_refused_with_both_digests(tmp_path):
    space, storage = space_of(tmp_path), f"sqlite:///{tmp_path}/study.db"
    open_study(space, tmp_path / "run", "run", storage, "a" * 8)
    with pytest.raises(UserError, match=f"its digest is {'b' * 8}, but the storage has this study with {'a' * 8}"):
        open_study(space, tmp_path / "elsewhere", "run", storage, "b" * 8)
    other = space_of(tmp_path, PLAIN.replace("20", "10"))
    with pytest.raises(UserError, match=f"its digest is {other.digest}, but this run was started with {space.digest}"):
        open_study(other, tmp_path / "run", "run", storage, "a" * 8)


@pytest.mark.parametrize("storage", ["", "sqlite:///{}/study.db", "{}/elsewhere"])
def test_another_space_is_refused_before_anything_is_opened_for_writing(tmp_path, storage):
    space, place = space_of(tmp_path), storage.format(tmp_path)
    if "://" not in storage:
        check_same_study(space, tmp_path / "run", "run", place, "a" * 8)
        assert not any(path.name in ("run", "elsewhere") for path in tmp_path.iterdir())
    open_study(space, tmp_path / "run", "run", place, "a" * 8)
    check_same_study(space, tmp_path / "run", "run", place, "a" * 8)
    other = space_of(tmp_path, PLAIN.replace("20", "10"))
    with pytest.raises(UserError, match=f"its digest is {other.digest}, but this run was started with {space.digest}"):
        check_same_study(other, tmp_path / "run", "run", place, "a" * 8)


@pytest.mark.parametrize("url", ["nothing://here", "sqlite:////nowhere/at/all/study.db"])
def test_a_storage_that_cannot_be_opened(tmp_path, url):
    with pytest.raises(UserError, match=r"--storage .*cannot be opened") as caught:
        open_study(space_of(tmp_path), tmp_path / "run", "run", url)
    assert "\n" not in str(caught.value)


def test_a_journal_elsewhere(tmp_path):
    open_study(space_of(tmp_path), tmp_path / "run", "run", str(tmp_path / "my.journal"))
    assert (tmp_path / "my.journal").exists()


def test_a_record_for_which_there_is_no_room_leaves_nothing(tmp_path):
    journal, path = StudyJournal(tmp_path / "journal"), tmp_path / "journal"
    journal.append_logs([{"op_code": 0, "first": 1}])
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))  # the kernel writes ten bytes, then refuses
    try:
        with pytest.raises(OSError, match="File too large"):
            journal.append_logs([{"op_code": 0, "second": "x" * 100}])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    journal.append_logs([{"op_code": 0, "third": 3}])
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"op_code": 0, "first": 1},
        {"op_code": 0, "third": 3},
    ]
