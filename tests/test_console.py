"""Names of users and files on the terminal: text, whatever it holds."""

import ast
import io
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from media_files import tone, write_wav
from rich.progress import Progress
from rich.table import Table

from mm_ray.console import PlainConsole, text_column
from mm_ray.prepare.__main__ import main

PACKAGE = Path(__file__).resolve().parent.parent / "mm_ray"
ODD = "[/x] [bold] :dog: [link=http://h]"


def shown(what):
    out = io.StringIO()
    PlainConsole(file=out, width=120).print(what)
    return out.getvalue()


def test_in_a_notebook_what_is_kept_is_not_shown(monkeypatch):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert PlainConsole().is_jupyter
    with redirect_stdout(io.StringIO()) as kept:
        PlainConsole().print("a line")
    assert kept.getvalue() == "a line\n"


def test_markup_emoji_and_escapes_are_letters():
    table = Table(ODD, title=ODD)
    table.add_row(ODD)
    assert shown(table).count(ODD) == 3
    assert shown(f"{ODD}\n\x1b[31mred\x07") == f"{ODD}\n\\x1b[31mred\\x07\n"


def test_bars_show_names_as_they_are():
    out = io.StringIO()
    with Progress(text_column("{task.description}"), console=PlainConsole(file=out, width=120, force_terminal=True)) as bars:
        bars.add_task(ODD)
    assert ODD in out.getvalue()


def test_nothing_else_in_the_package_prints_with_rich():
    """Every console is a `PlainConsole`, every column of text a `text_column`, every bar has its own columns."""
    made = {
        (file.name, node.func.id)
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id in ("Console", "TextColumn") or (node.func.id == "Progress" and not node.args)
    }
    assert made == {("console.py", "TextColumn")}


@pytest.fixture
def root(tmp_path):
    for number, label in enumerate(("[bold]", "[laughter]", ":dog:")):
        write_wav(tmp_path / "root" / label / f"{number}.wav", tone(300 + number, 0.1, 8000), 8000)
    return tmp_path / "root"


def test_a_store_of_odd_names(root, tmp_path, capsys):
    store = tmp_path / "a[/b] [v1]"
    main(["folder", str(root), "--out", str(store), "--serial"])
    assert f"store: {store}; train on it with --data {store}\n" in capsys.readouterr().out
    main(["--inspect", str(store)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{store}: folder")
    assert [line.split()[0] for line in lines[2:5]] == [":dog:", "[bold]", "[laughter]"]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_ends_it_without_a_word(root, tmp_path, unbuffered):
    environment = {"PYTHONUNBUFFERED": unbuffered, "PYTHONPATH": str(PACKAGE.parent), "PATH": ""}
    command = [sys.executable, "-m", "mm_ray.prepare", "folder", str(root), "--out", str(tmp_path / "store"), "--serial"]
    done = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    done.stdout.close()
    assert (done.stderr.read(), done.wait(60)) == ("", 0)
