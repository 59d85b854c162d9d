"""The student's files."""

import json

import pytest
import torch

from mm_ray.config import FeatureConfig, ModelConfig, to_dict
from mm_ray.errors import UserError
from mm_ray.models.flat_params import FlatNetwork
from mm_ray.models.network import PARTS, init_part
from mm_ray.models.student import load_student, save_student
from mm_ray.seeding import torch_stream
from mm_ray.types import Batch, Shapes

MODEL = ModelConfig(conv_channels=(3, 4, 5), hidden=6, attention_size=7, audio_pooling="attention", classifier_hidden=8)
SHAPES = Shapes(audio_bins=4, video_features=3, num_classes=2)
FEATURES = FeatureConfig(num_mels=4, hop_ms=10)
PARAMS = {part: init_part(part, MODEL, SHAPES, torch_stream(0, part)) for part in PARTS["audio"]}


@pytest.fixture
def path(tmp_path):
    return save_student(tmp_path, PARAMS, MODEL, SHAPES, ("no", "yes"), FEATURES)


def test_a_student_comes_back_with_the_same_logits(path):
    student = load_student(path)
    assert (student.class_names, student.features) == (("no", "yes"), FEATURES)
    flat = FlatNetwork("audio", MODEL, SHAPES, "cpu")
    flat.load(PARAMS)
    audio = torch.rand(2, 20, 4, generator=torch_stream(0, "audio"))
    batch = Batch(audio, torch.tensor([20, 7]), None, None, torch.zeros(2, dtype=torch.long), None)
    assert student.network(batch).logits_BC.equal(flat.network(batch).logits_BC)


def test_the_description_is_plain_json(path):
    assert json.loads(path.with_suffix(".json").read_text()) == {
        "class_names": ["no", "yes"],
        "features": vars(FEATURES),
        "model": to_dict(MODEL)
        | {"conv_channels": [3, 4, 5], "resnet": {"channels": [16, 32, 64]}}
        | {"frame_cnn": {"channels": [16, 32]}},
        "shapes": vars(SHAPES),
    }


def break_json(path):
    path.with_suffix(".json").write_text("{")


def break_tensors(path):
    path.write_bytes(path.read_bytes()[:-100])


def drop_field(path):
    path.with_suffix(".json").write_text(json.dumps({"class_names": []}))


def other_size(path):
    text = path.with_suffix(".json").read_text()
    path.with_suffix(".json").write_text(text.replace('"hidden": 6', '"hidden": 9'))


def no_tensors(path):
    path.unlink()


def no_json(path):
    path.with_suffix(".json").unlink()


@pytest.mark.parametrize("fault", [break_json, break_tensors, drop_field, other_size, no_tensors, no_json])
def test_what_is_no_student_is_refused_in_one_line(path, fault):
    fault(path)
    with pytest.raises(UserError, match=r"^STUDENT .*; give a run's student\.safetensors$") as caught:
        load_student(path)
    assert "\n" not in str(caught.value)
