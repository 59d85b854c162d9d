"""Loading a space: names, digests, and a user's mistakes in one line."""

import textwrap

import pytest

from mm_ray.errors import UserError
from mm_ray.tune.space import load_space

GOOD = """
    def space(trial):
        return {"phase2.temperature": trial.suggest_float("phase2.temperature", 1, 20, log=True)}
"""


def write(tmp_path, text, name="mine.py"):
    path = tmp_path / name
    path.write_text(textwrap.dedent(text))
    return str(path)


def refused(tmp_path, text):
    path = write(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load_space(path)
    assert "\n" not in str(caught.value)
    assert "mine.py" in str(caught.value)
    return str(caught.value)


def test_short_name_path_and_dotted_name(tmp_path, monkeypatch):
    assert load_space("distill").digest == load_space("tune_spaces.distill").digest
    path = write(tmp_path, GOOD, "dotted_space.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "pack").mkdir()
    write(tmp_path / "pack", GOOD, "own_space.py")
    assert load_space(path).digest == load_space("pack.own_space").digest
    assert load_space(path).objectives == {"dev/audio_top1": "max"}


def test_unknown_name_lists_what_is_there():
    with pytest.raises(UserError, match=r"--space distil: did you mean 'distill'\? known names: distill, losses, "):
        load_space("distil")


def test_missing_file():
    with pytest.raises(UserError, match=r"--space nowhere/mine.py: no such file"):
        load_space("nowhere/mine.py")


def test_digest_is_of_the_behaviour_not_of_the_text(tmp_path):
    plain = load_space(write(tmp_path, GOOD)).digest
    assert load_space(write(tmp_path, "# a comment\n" + textwrap.dedent(GOOD))).digest == plain
    assert load_space(write(tmp_path, GOOD.replace("20", "10"))).digest != plain
    assert load_space(write(tmp_path, GOOD.replace("return {", 'return {"phase1.rounds": 7, '))).digest != plain
    assert load_space(write(tmp_path, GOOD + '\n    OBJECTIVES = {"dev/audio_uar": "max"}')).digest != plain
    assert load_space(write(tmp_path, GOOD + '\n    ENQUEUED = [{"phase2.temperature": 2.0}]')).digest == plain


def test_digest_is_pinned():
    # A changed number here makes every study on disk unresumable: change the probes only for a reason.
    assert load_space("distill").digest == "1d5798975defc592"


def test_error_in_the_function_shows_the_users_line(tmp_path):
    message = refused(tmp_path, "def space(trial):\n    x = 1\n    return {'phase1.rounds': trial.suggest_flot('a', 0, 1)}\n")
    assert "mine.py:3: AttributeError:" in message
    assert "suggest_flot" in message


def test_optunas_own_refusal_shows_the_users_line(tmp_path):
    message = refused(tmp_path, "def space(trial):\n    return {'seed': trial.suggest_float('seed', 1, 9, log=True, step=2)}\n")
    assert "mine.py:2: ValueError:" in message


def test_log_with_a_step_is_refused_for_integers_too(tmp_path):
    message = refused(tmp_path, "def space(trial):\n    return {'seed': trial.suggest_int('seed', 1, 9, log=True, step=2)}\n")
    assert "mine.py:2: ValueError:" in message


@pytest.mark.parametrize(
    ("text", "where"), [("def space(trial:\n", "mine.py:1: SyntaxError"), ("\n1 / 0\n", "mine.py:2: Zero")]
)
def test_error_in_the_file_shows_the_users_line(tmp_path, text, where):
    assert where in refused(tmp_path, text)


def test_no_such_config_field(tmp_path):
    message = refused(tmp_path, GOOD.replace('{"phase2.temperature"', '{"phase2.temprature"'))
    assert ": phase2.temprature " in message
    assert "no such field; did you mean temperature? here are: rounds, loss" in message


def test_value_that_the_config_refuses(tmp_path):
    assert ": phase2.temperature -" in refused(tmp_path, GOOD.replace("1, 20, log=True", "-20, -1"))


def test_impure_space(tmp_path):
    text = "import time\ndef space(trial):\n    return {'phase2.temperature': 1 + time.perf_counter() % 1}\n"
    assert "other overrides for the same choices" in refused(tmp_path, text)


def test_enqueued_parameter_that_is_never_suggested(tmp_path):
    text = textwrap.dedent(GOOD) + "ENQUEUED = [{'phase2.weight': 0.0}]\n"
    assert "ENQUEUED names phase2.weight" in refused(tmp_path, text)


def test_no_function_and_wrong_objective(tmp_path):
    assert "the module has no space" in refused(tmp_path, "x = 1\n")
    assert "needs a function space(trial)" in refused(tmp_path, "space = 1\n")
    assert "'max' or 'min'" in refused(tmp_path, textwrap.dedent(GOOD) + "OBJECTIVES = {'a': 'maximize'}\n")
    assert "OBJECTIVES names dev/top1; metrics are: dev/audio_top1" in refused(
        tmp_path, textwrap.dedent(GOOD) + "OBJECTIVES = {'dev/top1': 'max'}\n"
    )
    assert "not bytes: 'min'" in refused(tmp_path, textwrap.dedent(GOOD) + "OBJECTIVES = {'bytes': 'min'}\n")
    assert "AT_LEAST names gain" in refused(tmp_path, textwrap.dedent(GOOD) + "AT_LEAST = {'gain': 0}\n")


def test_returns_no_dict(tmp_path):
    assert "returns a dict" in refused(tmp_path, "def space(trial):\n    return [1]\n")


@pytest.mark.parametrize(
    "name", ["clients.num_actors", "clients.num_cpus", "clients.num_gpus", "data.fold", "data.features.hop_ms"]
)
def test_a_field_without_effect_in_a_trial(tmp_path, name):
    message = refused(tmp_path, GOOD.replace("return {", f'return {{"{name}": 1, '))
    assert f": {name} has no effect in a search space: " in message
    assert message.endswith(f"; give the flag --{name}")


def test_one_of_several_spaces_of_a_file(tmp_path):
    path = write(tmp_path, textwrap.dedent(GOOD) + "\ndef wide(trial):\n    return {'phase2.temperature': 50.0}\n")
    assert load_space(f"{path}:wide").overrides(None) == {"phase2.temperature": 50.0}
    assert load_space(f"{path}:space").digest == load_space(path).digest
