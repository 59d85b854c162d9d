"""Where a local Ray keeps its files, and what a person reads if it does not start; nothing here starts one."""

import os
import signal
import stat
import time

import pytest
import ray

from mm_ray.cli import run_main
from mm_ray.errors import EnvironmentFailure
from mm_ray.runtime import local_ray
from mm_ray.runtime.local_ray import BELOW_TMP, KEEP_S, SOCKET_PATH_BYTES, private_folder, start_local_ray


@pytest.fixture
def any_length(monkeypatch):
    """Paths of pytest's folders are longer than a socket's may be."""
    monkeypatch.setattr(local_ray, "SOCKET_PATH_BYTES", 4096)


@pytest.fixture(autouse=True)
def no_wishes(monkeypatch):
    for name in ("RAY_TMPDIR", "TMPDIR", "RAY_ADDRESS"):  # the last one is put back for the tests that share a Ray
        monkeypatch.delenv(name, raising=False)


def test_nobody_else_can_enter(tmp_path, monkeypatch, any_length):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    folder = private_folder()
    assert folder.parent == tmp_path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_folder_of_ray_goes_before_that_of_all_programs(tmp_path, monkeypatch, any_length):
    (tmp_path / "ray").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "ray"))
    assert private_folder().parent == tmp_path / "ray"


@pytest.mark.parametrize("extra", [0, 1])
def test_a_path_that_is_too_long_for_a_socket_is_left_aside(tmp_path, monkeypatch, extra):
    monkeypatch.setattr(local_ray, "SOCKET_PATH_BYTES", len(os.fsencode(tmp_path)) + BELOW_TMP - extra)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    if extra:
        monkeypatch.setattr(local_ray.tempfile, "mkdtemp", lambda prefix, dir: str(tmp_path) if str(dir) == "/tmp" else 1 / 0)
        assert private_folder() == tmp_path
    else:
        assert private_folder().parent == tmp_path


def test_tmp_is_always_short_enough():
    assert len("/tmp") + BELOW_TMP <= SOCKET_PATH_BYTES


def test_no_place_for_it_is_one_line(monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(EnvironmentFailure, match=r"/tmp cannot be written.*set RAY_TMPDIR .* at most 25 bytes"):
        private_folder()


def test_folders_of_runs_that_ended_long_ago_are_removed(tmp_path, monkeypatch, any_length):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    running = private_folder()  # locked by this process
    fresh, old, named = tmp_path / "mm_ray-fresh123", tmp_path / "mm_ray-old12345", tmp_path / "mm_ray-of-somebody"
    for folder in (fresh, old, named):
        (folder / "r").mkdir(parents=True)
    for folder in (running, old, named):
        os.utime(folder, (time.time() - KEEP_S - 9,) * 2)
    latest = private_folder()
    assert set(tmp_path.iterdir()) == {running, fresh, named, latest}


def failing(monkeypatch, tmp_path, *errors):
    """Let Ray's starts fail, one after the other, and then succeed; the list of the starts."""
    starts, coming = [], list(errors)

    def init(**settings):
        starts.append(settings)
        if coming:
            raise coming.pop(0)

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    return starts


SLOW = Exception("The current node timed out during startup. This could happen because some of\nthe raylet failed")


def test_a_time_out_is_tried_once_more(monkeypatch, tmp_path, any_length, capsys):
    starts = failing(monkeypatch, tmp_path, SLOW)
    start_local_ray(0)
    assert len(starts) == 2
    assert capsys.readouterr().err == "Ray did not start in time; trying once more\n"


def test_a_second_time_out_is_one_line_with_the_log_and_the_remedy(monkeypatch, tmp_path, any_length):
    starts = failing(monkeypatch, tmp_path, SLOW, SLOW)
    with pytest.raises(EnvironmentFailure) as caught:
        start_local_ray(0)
    assert len(starts) == 2
    line = str(caught.value)
    assert line.startswith("Ray does not start on this machine (Exception: The current node timed out during startup.")
    assert f"; log: {tmp_path}/mm_ray-" in line
    assert "end other work on the machine" in line
    assert "\n" not in line


def test_what_a_second_try_would_not_mend_is_said_at_once(monkeypatch, tmp_path, any_length):
    starts = failing(monkeypatch, tmp_path, ValueError("no such device"))
    with pytest.raises(EnvironmentFailure, match=r"\(ValueError: no such device\)"):
        start_local_ray(0)
    assert len(starts) == 1


def test_a_long_wait_is_said(monkeypatch, tmp_path, any_length, capsys):
    failing(monkeypatch, tmp_path)
    monkeypatch.setattr(local_ray, "SLOW_S", 0.01)
    monkeypatch.setattr(ray, "init", lambda **_: time.sleep(0.3))
    start_local_ray(0)
    assert capsys.readouterr().err.startswith(f"still waiting for Ray to start, after 0 s; its log: {tmp_path}/mm_ray-")


def test_an_address_of_another_cluster_is_not_passed_on_to_its_processes(monkeypatch, tmp_path, any_length):
    failing(monkeypatch, tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", "10.1.2.3:6379")
    start_local_ray(0)
    assert "RAY_ADDRESS" not in os.environ


def test_ray_gets_the_cpus_that_this_process_may_use(monkeypatch, tmp_path, any_length):
    starts = failing(monkeypatch, tmp_path)
    monkeypatch.setattr(local_ray, "usable_cpus", lambda: 3)
    start_local_ray(num_gpus=1)
    assert (starts[0]["num_cpus"], starts[0]["num_gpus"]) == (3, 1)


def test_a_machine_that_fails_ends_a_command_with_1(capsys, monkeypatch):
    def main(argv):
        raise EnvironmentFailure("no Ray")

    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    with pytest.raises(SystemExit) as ended:
        run_main(main)
    assert (ended.value.code, capsys.readouterr().err) == (1, "error: no Ray\n")
