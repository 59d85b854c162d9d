"""One page that runs a student in the browser, on what its microphone hears; it needs no server and no network."""

import base64
import html
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from mm_ray.config import PRECOMPUTED
from mm_ray.errors import EnvironmentFailure, bad_value, in_one_line
from mm_ray.storage import write_text

if TYPE_CHECKING:
    from mm_ray.models.student import Student  # loads torch

RUNTIME = "onnxruntime-web@1.30.0"
FETCH = "npm"
"""In place of a folder: let npm fetch the runtime."""
_FILES = {"RUNTIME": "ort.wasm.bundle.min.mjs", "WASM": "ort-wasm-simd-threaded.wasm"}
_PATIENCE_S = 300


def write_demo(target: Path, name: str, student: "Student", package: str) -> None:
    """Write `demo.html` beside `student.onnx`: page, runtime and model in one file of some 20 MB.

    Args:
        target: The export folder.
        name: What the page is called.
        student: One that reads waveforms.
        package: Folder of the unpacked npm package `onnxruntime-web`, or `npm` to fetch it.

    Raises:
        UserError: The student reads features, or `package` is no such folder.
        EnvironmentFailure: npm is not there, or cannot fetch the package.

    """
    if student.features.audio == PRECOMPUTED:
        raise bad_value("demo", package, "this student reads precomputed features, which no microphone gives; leave it out")
    with TemporaryDirectory() as workspace:
        folder = _fetched(Path(workspace)) if package == FETCH else Path(package)
        found = {word: folder / "dist" / file for word, file in _FILES.items()}
        if missing := [path for path in found.values() if not path.is_file()]:
            raise bad_value("demo", package, f"has no {missing[0].name}; give the unpacked npm package {RUNTIME}")
        contents = {word: _embedded(path) for word, path in found.items()}
    notes = json.dumps({"class_names": student.class_names, "sample_rate": student.features.sample_rate})
    contents |= {
        "MODEL": _embedded(target / "student.onnx"),
        "NAME": html.escape(name),
        "NOTES": notes.replace("<", "\\u003c"),
    }
    page = Path(__file__).with_name("demo.html").read_text()
    for word, content in contents.items():
        page = page.replace(f">{word}<", f">{content}<")  # no content has a bracket
    write_text(target / "demo.html", page)


def _embedded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _fetched(workspace: Path) -> Path:
    npm = shutil.which("npm")
    remedy = f"install Node.js, or give the unpacked npm package {RUNTIME} with --demo FOLDER"
    if npm is None:
        raise EnvironmentFailure(f"--demo: npm is not installed; {remedy}")
    try:
        done = subprocess.run([npm, "pack", RUNTIME], cwd=workspace, capture_output=True, text=True, timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired as error:
        raise EnvironmentFailure(f"--demo: npm does not answer within {_PATIENCE_S} s; {remedy}") from error
    packed = next(workspace.glob("*.tgz"), None)
    if done.returncode or packed is None:
        raise EnvironmentFailure(f"--demo: npm cannot fetch {RUNTIME} ({in_one_line(done.stderr)[-200:]}); {remedy}")
    with tarfile.open(packed) as archive:
        archive.extractall(workspace, filter="data")
    return workspace / "package"
