"""A study whose driver, trials and client actors are killed at random moments ends as the one that was left in peace."""

import contextlib
import json
import os
import random
import signal
import time
from pathlib import Path

import optuna
import pytest
from entry.process import finish, run, start
from fed.tiny import tiny_flags
from optuna.storages.journal._storage import JournalOperation

from mm_ray.tune.study_storage import JOURNAL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TUNE = "mm_ray.tune"
TARGETS = ("client", "trial", "client", "driver", "client", "trial", "client", "trial", "client", "everything")
"""Two trials' processes at most die between two drivers: Tune takes a fourth death for the trial's own fault."""
CREATED = f'"op_code":{JournalOperation.CREATE_TRIAL.value},'
MIN_KILLS = len(TARGETS)
"""`python -m benchmarks.chaos` makes a hundred faults of more kinds."""
SPACE = """
def space(trial):
    return {
        "phase1.rounds": trial.suggest_int("phase1.rounds", 8, 12, step=2),
        "phase2.temperature": trial.suggest_float("phase2.temperature", 1, 20, log=True),
        "phase2.local.lr": trial.suggest_float("phase2.local.lr", 1e-4, 0.3, log=True),
        "phase2.rounds": trial.suggest_int("phase2.rounds", 6, 18, step=6),
    }
"""


def flags(address, trials):
    tiny = tiny_flags({"clients.num_actors": 2, "clients.num_cpus": 1})  # all of the CPUs: one trial at a time
    return [
        *tiny,
        "--space=mine.py",
        "--scheduler=asha",
        "--test_seeds=0",
        f"--trials={trials}",
        "--name=study",
        f"--address={address}",
    ]


def processes(kind):
    """Ray's processes of a kind below this one's raylet; other Rays on the machine are not looked at."""
    title = {"trial": b"ray::ResourceTrainable", "client": b"ray::ClientActor"}[kind]
    parents, found = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            found += [int(folder.name)] if (folder / "cmdline").read_bytes().startswith(title) else []
        except (FileNotFoundError, ProcessLookupError):
            continue
    return [pid for pid in found if descends(pid, parents)]


def descends(pid, parents):
    while pid in parents and pid != os.getpid():
        pid = parents[pid]
    return pid == os.getpid()


def victims(target, driver):
    if target == "driver":
        return [driver.pid]
    if target == "everything":
        return [driver.pid, *processes("trial"), *processes("client")]
    return processes(target)[:1]


def kill(target, driver):
    killed = 0
    for pid in victims(target, driver):
        try:
            os.kill(pid, signal.SIGKILL)
            killed += 1
        except ProcessLookupError:
            continue
    return killed > 0


def story(folder):
    """What a study knows of its trials."""
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL)))
    study = optuna.load_study(study_name=None, storage=storage)
    return [(t.number, t.state.name, t.params, t.values, t.intermediate_values) for t in study.get_trials(deepcopy=False)]


def rows(folder):
    text = (folder / "trials.jsonl").read_text()
    lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]  # the last one may be written just now
    return [(row["number"], row["state"], row["score"], row["rounds_computed"] + row["rounds_reused"]) for row in lines]


def digest(folder):
    return json.loads((folder / "result.json").read_text())["params_digest"]


def test_a_kill_of_every_kind(tmp_path, local_ray):
    chance, killed = random.Random(3), []
    for name in ("hunted", "calm"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text(SPACE)
    trials, driver = 4, start(TUNE, flags(local_ray, 4), tmp_path / "hunted")
    while True:
        driver.join(chance.uniform(0.2, 2.0))
        if not driver.is_alive():
            if driver.exitcode == 0:
                if len(killed) >= MIN_KILLS:
                    break
                trials += 2
            driver = start(TUNE, flags(local_ray, trials), tmp_path / "hunted")
        elif len(killed) < MIN_KILLS:
            target = TARGETS[len(killed) % len(TARGETS)]
            if (tmp_path / "hunted/runs/study/optuna.journal").exists() and kill(target, driver):
                killed.append(target)
                print(f"{time.monotonic():.0f} s: {target} killed", flush=True)
        assert driver.exitcode in (None, 0, -signal.SIGKILL), finish(driver, tmp_path / "hunted")
    calm = run(TUNE, flags(local_ray, trials), tmp_path / "calm")
    assert (calm.code, calm.err) == (0, "")
    hunted, peace = (tmp_path / name / "runs" / "study" for name in ("hunted", "calm"))
    assert story(hunted) == story(peace)
    assert sorted(rows(hunted)) == sorted(rows(peace))
    assert digest(hunted) == digest(peace)
    assert "COMPLETE" in {state for _, state, *_ in story(peace)} <= {"COMPLETE", "PRUNED"}
    assert set(killed) == set(TARGETS)


def test_a_process_that_dies_between_two_trials_costs_none_of_them(tmp_path, local_ray):
    """While a reused process takes up the next trial, Tune takes its death for the trial's end at once."""
    (tmp_path / "mine.py").write_text(SPACE)
    folder, struck = tmp_path / "runs" / "study", 0
    driver = start(TUNE, flags(local_ray, 3), tmp_path)
    while driver.is_alive():
        time.sleep(0.002)
        ended = len(rows(folder)) if (folder / "trials.jsonl").exists() else 0
        trial = next(iter(processes("trial")), None) if struck < min(ended, 2) else None
        if trial:
            struck += 1
            os.kill(trial, signal.SIGSTOP)  # so that it does not take up the trial that is asked for now
            while (folder / JOURNAL).read_text().count(CREATED) <= struck:
                time.sleep(0.01)
            time.sleep(1)
            with contextlib.suppress(ProcessLookupError):  # the driver may have ended it meanwhile
                os.kill(trial, signal.SIGKILL)
    done = finish(driver, tmp_path)
    assert (done.code, struck) == (0, 2), done
    assert [number for number, *_ in rows(folder)] == [0, 1, 2]
    assert {state for _, state, *_ in rows(folder)} <= {"COMPLETE", "PRUNED"}


def test_control_c_ends_in_good_order_and_says_how_to_go_on(tmp_path, local_ray):
    (tmp_path / "mine.py").write_text(SPACE)
    folder = tmp_path / "runs" / "study"
    driver = start(TUNE, flags(local_ray, 3), tmp_path)
    until = time.monotonic() + 300
    while driver.is_alive() and not (folder / "trials.jsonl").exists() and time.monotonic() < until:
        driver.join(0.05)
    os.kill(driver.pid, signal.SIGINT)
    stopped = finish(driver, tmp_path, 200)
    assert (stopped.code, stopped.err) == (130, "")
    assert "stopped; resume with: python -m mm_ray.tune --resume study\n" in stopped.out
    assert (folder / "report.html").exists()
    assert not (folder / "result.json").exists()
    assert {row[1] for row in rows(folder)} <= {"COMPLETE", "PRUNED"}
    done = run(TUNE, ["--resume=study", f"--address={local_ray}"], tmp_path, 300)
    assert (done.code, done.err) == (0, "")
    assert [number for number, *_ in sorted(rows(folder))] == [0, 1, 2]
    assert digest(folder)
