"""`--help`: the command's own flags first, config fields by group, and nothing heavy is loaded for it."""

import resource
import subprocess
import sys

import pytest

from mm_ray.cli import experiment_parser
from mm_ray.config import FIELDS
from mm_ray.errors import UserError
from mm_ray.tune.flags import add_study_flags

COMMANDS = ["mm_ray.train", "mm_ray.tune", "mm_ray.compare", "mm_ray.prepare", "mm_ray.predict", "mm_ray.export"]
HEAVY = "('torch', 'ray', 'optuna', 'pandas', 'plotly')"
QUICK_S = 1.0
"""Of processor time; it takes 0.3 s, and took 4.4 s when torch and Ray were imported before the flags were read."""


def shown(capsys, *argv):
    parser = experiment_parser("mm_ray.tune", "Search.")
    add_study_flags(parser)
    with pytest.raises(SystemExit) as end:
        parser.parse_args(argv)
    assert not end.value.code
    return capsys.readouterr().out


@pytest.mark.parametrize("module", COMMANDS)
def test_help_is_quick_and_loads_nothing_heavy(module):
    code = f"import runpy, sys; sys.argv = ['x', '--help']\ntry: runpy.run_module({module!r}, run_name='__main__')\n"
    code += f"finally: print([name for name in {HEAVY} if name in sys.modules])"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: python -m {module} [")
    assert done.stdout.endswith("\n[]\n")
    assert after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime < QUICK_S


def test_the_first_screen_has_the_commands_own_flags(capsys):
    text = shown(capsys, "--help")
    assert "--trials N" in text
    assert "--phase2.rounds" not in text
    assert "  phase2      Federated distillation into the student. (37)\n" in text
    assert len(text.splitlines()) < 50


def test_a_group_shows_its_fields_and_those_within(capsys):
    for argv in (("--help", "phase2"), ("--help=phase2",), ("--seed", "1", "-h", "phase2")):
        text = shown(capsys, *argv)
        assert "--phase2.temperature FLOAT" in text
        assert "--phase2.local.lr FLOAT" in text
        assert "--phase1" not in text
        assert "--trials" not in text


def test_all_of_it_has_each_field_once_with_one_default(capsys):
    text = shown(capsys, "--help-all")
    assert [name for name in FIELDS if text.count(f"  --{name} ") != 1] == []
    assert "(default: )" not in text
    assert "--trials N" in text


def test_an_unknown_group_names_those_there_are():
    with pytest.raises(UserError, match=r"^--help phase3: no such group of fields; there are: data, partition, model, phase1"):
        experiment_parser("mm_ray.train", "").parse_args(["--help", "phase3"])
