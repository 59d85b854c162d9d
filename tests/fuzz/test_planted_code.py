"""A pickle under the name of each file that is read, and code named in files that others wrote: nothing of it runs."""

import io
import json
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from fed.tiny import tiny_config
from fuzz.cases import judged, tiny_student

from mm_ray.config import DataConfig
from mm_ray.data.datasets.avdigits import _read_mnist
from mm_ray.data.feature_store_reader import read_store
from mm_ray.data.load import load_data
from mm_ray.data.manifest import read_manifest
from mm_ray.errors import UserError
from mm_ray.fed.lease import Lease
from mm_ray.fed.method import find_method
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.models.student import load_student
from mm_ray.runtime.run_folder import open_folder
from mm_ray.tune.flags import resumed
from mm_ray.tune.space import load_space
from mm_ray.tune.study_log import read_trials
from mm_ray.tune.study_storage import JOURNAL, open_study


class Planted:
    """Unpickled, it makes a file."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return open, (self.trace, "w")


@pytest.fixture
def trace(tmp_path):
    """The file that a planted pickle makes, if it is unpickled."""
    return tmp_path / "trace"


@pytest.fixture(params=["pickle", "torch", "npz"])
def planted(request, trace):
    """A planted pickle, bare, as torch's zip or as numpy's archive."""
    file = io.BytesIO()
    if request.param == "pickle":
        pickle.dump(Planted(trace), file)
    elif request.param == "torch":
        torch.save(Planted(trace), file)
    else:
        np.savez(file, images=np.array([Planted(trace)], object), labels=np.zeros(1))
    return file.getvalue()


def test_the_pickle_works(trace):
    pickle.loads(pickle.dumps(Planted(trace))).close()
    assert trace.exists()


def test_it_is_refused_or_passed_over_wherever_a_file_is_read(tmp_path, planted, trace):
    config, space, student = tiny_config(), load_space("distill"), tiny_student(tmp_path)
    phases = PhaseStore(str(tmp_path / "phases"))
    names = ("phases/k/round-000005.safetensors", "phases/k/lease-x.json", "study/study.json", f"study/{JOURNAL}",
             "study/trials.jsonl", "mnist.npz", "list/manifest.csv", "run/config.yaml", "store/part-0.parquet",
             "store/rejected.parquet")  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(planted)

    def with_student(file):
        whole = file.read_bytes()
        file.write_bytes(planted)
        good = judged(lambda: load_student(student), student)
        file.write_bytes(whole)
        return good

    assert not with_student(student)
    assert not with_student(student.with_suffix(".json"))
    assert not judged(lambda: phases.load("k", 5))
    assert not judged(lambda: phases.reports("k", 5))
    assert Lease(phases.files, "k").try_take()
    assert not judged(lambda: resumed("study", str(tmp_path)))
    judged(lambda: open_study(space, tmp_path / "study", "s"))
    judged(lambda: read_trials(tmp_path / "study"))
    assert not judged(lambda: _read_mnist(tmp_path / "mnist.npz"))
    assert not judged(lambda: read_manifest(DataConfig(name="csv", root=str(tmp_path / "list"))))
    assert not judged(lambda: open_folder(str(tmp_path), "run", config))
    assert not judged(lambda: read_store(tmp_path / "store", 0))
    assert load_data(config.data, str(tmp_path / "features")).num_clips
    assert not trace.exists()


def test_weights_of_a_video_network_are_tensors_alone(tmp_path, planted, trace):
    pytest.importorskip("torchvision", reason="needs mm-ray[video]")
    from mm_ray.data.features import mobilenet_v2

    place = tmp_path / "weights.pth"
    place.write_bytes(planted)
    assert not judged(lambda: mobilenet_v2._network(str(place), "cpu"))
    assert not trace.exists()


def test_an_archive_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "mnist.npz", "w") as archive:
        archive.writestr("../escaped.npy", b"x")
        archive.writestr("/tmp/escaped.npy", b"x")
    assert not judged(lambda: _read_mnist(tmp_path / "mnist.npz"))
    assert not list(tmp_path.parent.glob("escaped*"))


SPY = """
import sys
sys.addaudithook(lambda event, args: print("IMPORTED", args[0]) if event == "import" and args[0].startswith("lab") else None)
"""


def imported(tmp_path, code):
    (tmp_path / "lab.py").write_text("print('lab runs')\n")
    done = subprocess.run([sys.executable, "-c", SPY + code], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    return "lab" in done.stdout, done


def loaded(folder, section, field):
    """Whether the planted code ran when a student was loaded whose description names it in a field, and the process."""
    student = tiny_student(folder)
    described = json.loads(student.with_suffix(".json").read_text())
    described[section][field] = "lab:run"
    student.with_suffix(".json").write_text(json.dumps(described))
    code = "from pathlib import Path\nfrom mm_ray.models.student import load_student\nload_student(Path('student.safetensors'))"
    return imported(folder, code)


def test_a_student_names_no_code(tmp_path):
    ran, done = loaded(tmp_path, "features", "video")
    assert (ran, done.returncode) == (False, 0), done


def test_a_student_s_encoder_is_not_imported_unasked(tmp_path):
    ran, done = loaded(tmp_path, "model", "audio_encoder")
    assert not ran, done
    assert "its encoder lab:run is code of its own; give it with --encoder lab:run" in done.stderr


def test_a_config_file_cannot_name_a_class_for_a_group(tmp_path):
    (tmp_path / "c.yaml").write_text('phase1: \'{"class_path": "lab.X"}\'\nspace: lab\n')
    code = "from mm_ray.cli import *\nparse(experiment_parser('x', ''), ['--config=c.yaml'])"
    ran, done = imported(tmp_path, code)
    assert not ran, done
    assert "phase1 is no config field" in done.stderr


def test_a_config_imports_what_it_names_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "mine.py").write_text("1 / 0\n")
    (tmp_path / "lab" / "other.py").write_text("raise SystemExit('other ran')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        UserError, match=r"--method lab.mine: cannot be imported \(.*mine.py:1: ZeroDivisionError: division by zero\); correct"
    ):
        find_method(tiny_config({"method": "lab.mine"}))
    for name in ("lab/other", "../lab/other", "./lab.other", "lab", "os"):
        with pytest.raises(UserError, match=r"known names|cannot be imported"):
            find_method(tiny_config({"method": name}))
    with pytest.raises(UserError, match=r"--method os\.path: the module has no build"):
        find_method(tiny_config({"method": "os.path"}))
    assert "lab.other" not in sys.modules
