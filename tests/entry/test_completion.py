"""Completion, as bash and zsh themselves do it."""

import shutil
import subprocess
import sys

import pytest

from mm_ray.completion import main
from mm_ray.errors import UserError


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripts")
    for shell in ("bash", "zsh"):
        command = [sys.executable, "-m", "mm_ray", "completion", shell]
        text = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True).stdout
        (folder / shell).write_text(text)
    return folder


def completed(scripts, *words):
    """What bash offers for the last word."""
    line = f'source {scripts}/bash; COMP_WORDS=({" ".join(words)} "") COMP_CWORD={len(words)}'
    if not words[-1].endswith(" "):
        line = f"source {scripts}/bash; COMP_WORDS=({' '.join(words)}) COMP_CWORD={len(words) - 1}"
    line += '; $(complete -p mm-ray | sed -E "s/.*-F ([^ ]+).*/\\1/") mm-ray; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "--norc", "-c", line], capture_output=True, text=True, timeout=600, check=True)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["mm-ray", "t"], ["train", "tune"]),
        (["mm-ray", "tune", "--sear"], ["--searcher"]),
        (["mm-ray", "tune", "--searcher "], ["tpe", "gp", "cmaes", "random", "grid", "nsga2"]),
        (["mm-ray", "train", "--phase2.temp"], ["--phase2.temperature"]),
        (["mm-ray", "train", "--phase2.student_init "], ["phase1", "random"]),
        (["mm-ray", "completion", "z"], ["zsh"]),
    ],
)
def test_bash_completes_commands_flags_and_choices(scripts, words, offered):
    assert completed(scripts, *words) == offered


def test_bash_completes_files(scripts, tmp_path, monkeypatch):
    (tmp_path / "best.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert completed(scripts, "mm-ray", "train", "--config", "be") == ["best.yaml"]


def test_the_script_of_zsh_is_one(scripts):
    text = (scripts / "zsh").read_text()
    assert text.startswith("#compdef mm-ray")
    assert "--phase2.temperature" in text
    if shutil.which("zsh"):
        subprocess.run(["zsh", "-n", scripts / "zsh"], check=True, timeout=600)


def test_another_shell_is_refused():
    with pytest.raises(UserError, match="SHELL: invalid choice: 'fish'"):
        main(["fish"])
