"""The pages: blocks that carry `<!-- run -->` are executed, links lead somewhere, no file names a place of one machine."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from mm_ray.config import FIELDS

ROOT = Path(__file__).resolve().parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", *DOCS]
LINKING = [*PAGES, *sorted((ROOT / "benchmarks" / "results").rglob("*.md"))]
LONGEST_LINE = 120
LONGEST_EXAMPLE = 20
RETIRED = (
    "so many a ",
    "at most so many",
    "so often",
    "hangs on",
    "is told",
    "begins anew",
    "begin anew",
    "the sight ",
    "a clip a ",
)
# `<!-- run slow -->` also keeps a block out of `make test-quick`.
BLOCK = re.compile(r"^<!-- run( slow)? -->\n```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARKER = re.compile(r"^<!-- run\b", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")
NAMED_FILE = re.compile(r"`((?:mm_ray|tests|tune_spaces|clusters|docs|benchmarks)/[\w./-]*)`")
MACHINE_PATH = re.compile(r"(?<![\w./])/(work|root|home)/\w")


class Block(NamedTuple):
    language: str
    text: str
    line: int
    slow: bool


def blocks_of(text: str) -> list[Block]:
    return [Block(m[2], m[3], text.count("\n", 0, m.start()) + 1, bool(m[1])) for m in BLOCK.finditer(text)]


def dead_links(page: Path) -> list[str]:
    return [link for link in LINK.findall(FENCE.sub("", page.read_text())) if not (page.parent / link).exists()]


def too_long(text: str) -> list[str]:
    """Lines beyond the limit; a row of a table can't be split."""
    return [line for line in text.splitlines() if len(line) > LONGEST_LINE and not line.startswith("|")]


def missing_files(text: str) -> list[str]:
    """Files and folders of the project that a page names and that are not there."""
    return [name for name in NAMED_FILE.findall(FENCE.sub("", text)) if not (ROOT / name).exists()]


def retired(text: str) -> list[str]:
    """Phrases that the project's English does without."""
    return [phrase for phrase in RETIRED if phrase in " ".join(text.split()).lower()]


def run(block: Block, folder: Path) -> subprocess.CompletedProcess:
    """Run a block in an empty folder; `python` is the interpreter of the tests, also where its folder has no such name."""
    (folder / "bin").mkdir()
    for name in ("python", "python3"):
        (folder / "bin" / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        (folder / "bin" / name).chmod(0o755)
    (folder / "cwd").mkdir()
    command = ["bash", "-euo", "pipefail", "-c"] if block.language == "bash" else [sys.executable, "-c"]
    return subprocess.run(
        [*command, block.text], cwd=folder / "cwd", env=environment(folder), capture_output=True, text=True, timeout=600
    )


def environment(folder: Path) -> dict[str, str]:
    # A reader has no Ray running: a block must not join the one of other tests.
    kept = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    path = [str(folder / "bin"), str(Path(sys.executable).parent), kept["PATH"]]
    return kept | {"PYTHONPATH": str(ROOT), "PATH": os.pathsep.join(path)}


RUNNABLE = [
    pytest.param(block, id=f"{page.name}:{block.line}", marks=[pytest.mark.slow] if block.slow else [])
    for page in PAGES
    for block in blocks_of(page.read_text())
]


@pytest.mark.thorough
@pytest.mark.parametrize("block", RUNNABLE)
def test_a_block_runs(block, tmp_path):
    done = run(block, tmp_path)
    assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_marker_stands_before_a_block_that_can_run(page):
    text = page.read_text()
    assert len(MARKER.findall(text)) == len(blocks_of(text))


KINDS = ["a method", "a loss", "a data set", "a feature", "an encoder", "an aggregator", "a search space"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_extension_has_a_short_example_that_runs(kind):
    text = (ROOT / "docs" / "architecture.md").read_text()
    section = text.split(f"### Add {kind}\n")[1].split("\n### ")[0]
    (block,) = blocks_of(section)
    assert 0 < len([line for line in block.text.splitlines() if line]) <= LONGEST_EXAMPLE


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_lines_of_prose_fit(page):
    assert too_long(page.read_text()) == []


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_prose_has_no_retired_phrase(page):
    assert retired(page.read_text()) == []


def test_help_has_no_retired_phrase():
    assert {name: found for name, info in FIELDS.items() if (found := retired(info.description or ""))} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_exist(page):
    assert missing_files(page.read_text()) == []


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_exist(page):
    assert dead_links(page) == []


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_tracked_file_names_a_place_of_one_machine():
    files = [(path, path.read_text(errors="ignore")) for path in tracked_files()]
    assert [str(path.relative_to(ROOT)) for path, text in files if MACHINE_PATH.search(text)] == []


PAGE = """# Title
<!-- run -->
```bash
python -c 'import mm_ray' && touch made
```
```bash
false
```
<!-- run slow -->
```python
import pathlib
assert not pathlib.Path("made").exists()
```
"""


def test_marked_blocks_are_found():
    assert [(b.language, b.line, b.slow) for b in blocks_of(PAGE)] == [("bash", 2, False), ("python", 9, True)]


@pytest.mark.parametrize("index", [0, 1])
def test_a_marked_block_runs_alone(index, tmp_path):
    assert run(blocks_of(PAGE)[index], tmp_path).returncode == 0


@pytest.mark.parametrize("block", [Block("bash", "false | true\ntrue", 1, False), Block("python", "1/0", 1, False)])
def test_a_block_that_fails_is_noticed(block, tmp_path):
    assert run(block, tmp_path).returncode != 0


def test_dead_links_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("[a](b.md) [c](page.md#x) [d](https://e.org/f) [g](#h)\n```\nx[i](j)\n```\n")
    assert dead_links(page) == ["b.md"]


def test_long_lines_and_missing_files_are_found():
    assert too_long(f"a\n{'b' * 121}\n| {'c' * 121} |\n{'d' * 120}\n") == ["b" * 121]
    assert missing_files("`mm_ray/config.py` `mm_ray/no.py` `config.yaml`\n```\n`mm_ray/x`\n```\n") == ["mm_ray/no.py"]


def test_retired_phrases_are_found():
    assert retired("It is\ntold, and hangs on\nthat.") == ["hangs on", "is told"]


@pytest.mark.parametrize(("text", "expected"), [("/{}/ab", True), ("x '/{}/a'", True), ("my/{}/a", False), ("../{}/a", False)])
def test_machine_paths_are_found(text, expected):
    assert bool(MACHINE_PATH.search(text.format("home"))) is expected
