"""Recordings on Ray: the answers of one process, in the same order; a file that kills its process is one line."""

import os
from pathlib import Path

import pytest
from media_files import tone, write_wav

from mm_ray.errors import UserError
from mm_ray.models.network import PARTS, init_part
from mm_ray.models.student import load_student, save_student
from mm_ray.predict import main
from mm_ray.prediction import predict_all, windows_of
from mm_ray.runtime import prediction
from mm_ray.runtime.prediction import predict_on_ray
from mm_ray.seeding import torch_stream
from mm_ray.testing import encoder_case


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A student, and 40 recordings of which one is damaged."""
    from fed.tiny import tiny_config

    folder = tmp_path_factory.mktemp("student")
    case = encoder_case("conv_gru", "audio")
    params = {part: init_part(part, case.model, case.shapes, torch_stream(0, part)) for part in PARTS["audio"]}
    features = tiny_config({"data.features.num_mels": 20}).data.features
    save_student(folder, params, case.model, case.shapes, ("a", "b", "c", "d"), features)
    for index in range(40):
        write_wav(folder / "talks" / f"{index:02d}.wav", tone(300 + 20 * index, 0.3, 8000), 8000)
    (folder / "talks" / "17.wav").write_bytes(b"no media" * 100)
    return folder / "student.safetensors"


def test_a_cluster_gives_the_answers_of_one_process(place, local_ray):
    student, names = load_student(place), [str(place.parent / "talks"), str(place.parent / "talks" / "03.wav"), "nowhere.wav"]
    windows = windows_of(student, 0.2, 0.1)
    here = list(predict_all(student, names, windows, jobs=2))
    there = list(predict_on_ray(place, ("", ""), names, windows, "auto"))
    assert len(here) == len(there) == 42
    for one, other in zip(here, there, strict=True):
        if isinstance(one, UserError):
            assert str(other) == str(one)
        else:
            assert (other.file, other.is_silent) == (one.file, one.is_silent)
            assert other.probabilities_WC.tobytes() == one.probabilities_WC.tobytes()


def test_a_file_that_kills_its_process_is_one_line(place, local_ray, monkeypatch):
    import ray

    def deadly(files, some, windows):
        if any(name.endswith("05.wav") for name in some):
            os.kill(os.getpid(), 9)
        return [UserError(Path(name).name) for name in some]

    remote = ray.remote(num_cpus=1, max_retries=0)(deadly)
    monkeypatch.setattr(prediction, "_answers", remote)
    windows = windows_of(load_student(place), None, None)
    lines = [str(answer) for answer in predict_on_ray(place, ("", ""), [str(place.parent / "talks")], windows, "auto")]
    assert lines[5].endswith("05.wav: crashed the process that decoded it; convert it")
    assert [line for i, line in enumerate(lines) if i != 5] == [f"{i:02d}.wav" for i in range(40) if i != 5]


def test_stdin_is_not_the_cluster_s(place):
    with pytest.raises(UserError, match=r"^--address auto: the cluster does not read this machine's stdin; give files"):
        main([str(place), "--address", "auto", "-"])
