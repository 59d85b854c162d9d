"""Where a student predicts, and where encoders compute features."""

from threading import Thread

import numpy as np
import pytest
import torch
from media_files import tone, write_wav

import mm_ray
from mm_ray.config import FeatureConfig
from mm_ray.devices import encoder_device, encoders_on, find_device
from mm_ray.errors import UserError
from mm_ray.evaluate.windows import predict_windows
from mm_ray.models.network import PARTS, init_part
from mm_ray.models.student import load_student, save_student
from mm_ray.plugins import modules_in
from mm_ray.predict import main
from mm_ray.seeding import torch_stream
from mm_ray.testing import encoder_case

HAS_GPU = torch.cuda.is_available()
RATE = 16_000


@pytest.mark.parametrize(
    ("asked", "has_gpu", "device"),
    [("auto", False, "cpu"), ("auto", True, "cuda"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_the_device_that_is_asked_for(monkeypatch, asked, has_gpu, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    assert find_device(asked) == device
    assert torch.backends.cudnn.deterministic == (device == "cuda")


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ("cuda", r"^--device cuda: torch \S+ finds no GPU here; use auto or cpu$"),
        ("gpu", "^--device gpu: must be auto, cpu"),
    ],
)
def test_a_device_that_there_is_not_is_one_line(monkeypatch, asked, line):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=line):
        find_device(asked)


def save(folder, encoder="conv_gru"):
    case = encoder_case(encoder, "audio")
    params = {part: init_part(part, case.model, case.shapes, torch_stream(0, part)) for part in PARTS["audio"]}
    return save_student(folder, params, case.model, case.shapes, ("a", "b", "c", "d"), FeatureConfig(num_mels=20))


def test_the_command_and_the_api_take_it(tmp_path, monkeypatch, capsys):
    place, wav = save(tmp_path), str(write_wav(tmp_path / "a.wav", tone(440, 1.0, RATE)))
    main([str(place), wav, "--device", "cpu"])
    assert capsys.readouterr().out.count("\n") == 1
    assert mm_ray.load_student(tmp_path, device="cpu").student.device == torch.device("cpu")
    with pytest.raises(UserError, match=r"^--device cuda: with --address the cluster's CPUs predict"):
        main([str(place), wav, "--device", "cuda", "--address", "auto"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert mm_ray.load_student(tmp_path).student.device == torch.device("cpu")
    with pytest.raises(UserError, match=r"^--device cuda: torch .* finds no GPU here"):
        main([str(place), wav, "--device", "cuda"])


@pytest.mark.parametrize("encoder", sorted({*modules_in("mm_ray.models.encoders")} - {"frame_cnn"}))
def test_batches_follow_the_network(tmp_path, encoder):
    """`meta`, in a GPU's place, refuses what lies elsewhere, and has no numbers to fetch."""
    student = load_student(save(tmp_path, encoder))
    student.network.to("meta")
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        predict_windows(student, tone(440, 1.0, RATE), RATE)


@pytest.mark.skipif(not HAS_GPU, reason="needs a GPU")
@pytest.mark.parametrize("encoder", ["conv_gru", "transformer"])
def test_a_gpu_predicts_what_the_cpu_does(tmp_path, encoder):
    place, waveform_N = save(tmp_path, encoder), tone(440, 12.0, RATE)
    found = [predict_windows(load_student(place, device=device), waveform_N, RATE)[1] for device in ("cpu", "cuda")]
    np.testing.assert_allclose(*found, atol=1e-4)


def test_encoders_of_other_threads_stay_where_they_are():
    seen = []
    with encoders_on("cuda"):
        other = Thread(target=lambda: seen.append(encoder_device()))
        other.start()
        other.join()
        assert encoder_device() == "cuda"
    assert (seen, encoder_device()) == (["cpu"], "cpu")
