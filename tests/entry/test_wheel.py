"""The wheel, installed into an environment of its own: the README's Python lines, the commands and the spaces are there."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from test_docs import ROOT, blocks_of

pytestmark = pytest.mark.slow
(LINES,) = (block.text for block in blocks_of((ROOT / "README.md").read_text()) if block.language == "python")


def call(*command, cwd):
    outside = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "RAY_ADDRESS")}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=outside, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of programs of an environment that has the wheel, and sees what it depends on in that of the tests."""
    folder = tmp_path_factory.mktemp("wheel")
    call(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder / "dist", cwd=ROOT)
    (wheel,) = (folder / "dist").glob("*.whl")
    call(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    call(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    site = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])", cwd=folder).strip())
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    return python.parent


def test_the_lines_of_the_readme_run(installed, tmp_path):
    code = f"{LINES}\nprint(mm_ray.__file__)"
    out = call(installed / "python", "-c", code, cwd=tmp_path).splitlines()
    assert out[-1].startswith(str(installed.parent))
    student, control = map(float, out[-2].split())
    assert 0 <= student <= 1
    assert 0 <= control <= 1


def test_the_commands_and_the_spaces_are_there(installed, tmp_path):
    assert call(installed / "mm-ray", "--version", cwd=tmp_path).startswith("mm_ray ")
    assert "--trials N" in call(installed / "mm-ray", "tune", "--help", cwd=tmp_path)
    code = "from mm_ray.tune.space import load_space; print(load_space('distill').name)"
    assert call(installed / "python", "-c", code, cwd=tmp_path) == "distill\n"
