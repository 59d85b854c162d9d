"""Every module in `mm_ray/models/encoders` is an encoder that keeps its promises, and a fault of an own one is named."""

import pytest
import torch
from fed.tiny import Run, tiny_config, tiny_plan
from torch import nn

from mm_ray.config import MODALITIES, ModelConfig
from mm_ray.errors import UserError
from mm_ray.models.encoder import BATCHED, ENCODERS, check_encoders, exporting, find_encoder, objection_to
from mm_ray.models.encoder_checks import ENCODER_CHECKS
from mm_ray.models.network import part_of
from mm_ray.models.onnx_export import write_onnx
from mm_ray.models.student import load_student, save_student
from mm_ray.plugins import modules_in, resolve
from mm_ray.testing import check_encoder, encoder_case
from mm_ray.types import Shapes

NAMES = modules_in(ENCODERS)


def readable(name):
    return getattr(resolve("", name, ENCODERS).build, "reads", MODALITIES)


CASES = [(name, m) for name in NAMES for m in readable(name)]
FEATURES = 36
"""A square, since an encoder may read pictures."""


def test_the_folders_hold_encoders():
    assert {"conv_gru", "gru", "mlp", "transformer", "resnet"} <= {*NAMES}
    assert {"conv_gru", "gru", "mlp"} <= {*modules_in(BATCHED)} <= {*NAMES}
    assert {*exporting()} == {name for name in NAMES if "audio" in readable(name)}
    assert (readable("resnet"), readable("gru")) == (("audio",), ("audio", "video"))


@pytest.mark.parametrize("check", ENCODER_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("name", "modality"), CASES)
def test_it_keeps_its_promises(name, modality, check):
    check(encoder_case(name, modality, FEATURES))


@pytest.mark.parametrize(("name", "modality"), CASES)
def test_it_holds_parameters_only(name, modality):
    assert [*encoder_case(name, modality, FEATURES).encoder().buffers()] == []


@pytest.mark.parametrize(("name", "modality"), CASES)
def test_an_experiment_runs_with_it(tmp_path, name, modality):
    fields = {f"model.{modality}_encoder": name, "phase1.rounds": 2, "phase2.rounds": 1}
    one, again = (Run(tmp_path / where, fields) for where in "ab")
    assert one.bits() == again.bits()


@pytest.mark.parametrize("method", ["harmony", "fedcmi", "mfcpl", "multifl"])
def test_every_method_takes_other_encoders(tmp_path, method):
    fields = {"method": method, "model.audio_encoder": "transformer", "model.video_encoder": "mlp", "phase1.rounds": 2}
    assert Run(tmp_path, fields | {"phase2.rounds": 1}).result["rounds_computed"]


OWN = """
import torch
from torch import nn
from mm_ray.models.dropout import dropout
from mm_ray.models.layers import Sequence, length_mask, within


class Mine(nn.Module):
    def __init__(self, features, model):
        super().__init__()
        self.linear, self.norm = nn.Linear(features, model.hidden), nn.LayerNorm(model.hidden)
        self.output_size, self.p = model.hidden, model.dropout
        self.register_buffer("window", torch.hann_window(features))
        self.scale = nn.Parameter(torch.rand(model.hidden))
        INIT

    def forward(self, values_BTF, lengths_B, generator=None):
        values_BTF, lengths_B = within(values_BTF, lengths_B)
        values_BTH = self.norm(torch.relu(self.linear(values_BTF * self.window))) * self.scale
        values_BTH = dropout(values_BTH, self.p, generator)
        FORWARD
        return Sequence(values_BTH, length_mask(lengths_B, values_BTH.shape[1]))
"""


def write_own(folder, init="", forward="", replace=("", "")):
    (folder / "mine.py").write_text(OWN.replace("INIT", init).replace("FORWARD", forward).replace(*replace))


def test_an_own_encoder_is_checked_and_trained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_own(tmp_path)
    check_encoder("mine.py:Mine")
    check_encoder("mine.py:Mine", modality="video", hidden=6)
    encoder = encoder_case("mine.py:Mine", "audio").encoder()
    assert encoder.window.equal(torch.hann_window(20))
    assert encoder.norm.weight.eq(1).all()
    assert 0 < encoder.scale.min() < encoder.scale.max() < 1  # the constructor's values
    state = torch.get_rng_state()
    encoder_case("mine.py:Mine", "audio").params()
    assert torch.get_rng_state().equal(state)


FAULTS = {
    "one of length 0 needs one too": {"replace": ("values_BTF, lengths_B = within(values_BTF, lengths_B)", "")},
    "call mm_ray.models.layers.within": {"replace": ("values_BTF, lengths_B = within", "_, lengths_B = within")},
    "not a mm_ray.models.layers.Sequence": {"forward": "return values_BTH"},
    "depend on how far it is padded": {"forward": "values_BTH = values_BTH + values_BTH.shape[1]"},
    "depend on the clips": {"forward": "values_BTH = values_BTH + lengths_B.float().mean()"},
    "without a generator two calls differ": {"forward": "values_BTH = values_BTH + torch.rand(1)"},
    "the values have the shape": {"init": "self.output_size += 1"},
    "encoder.window changes while it is used, but is no parameter": {"forward": "self.window.mul_(1.0 - 1e-3)"},
    "no gradient reaches the parameter scale": {"replace": ("* self.scale", "* self.scale.detach()")},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_an_own_encoder_is_named(tmp_path, monkeypatch, fault):
    monkeypatch.chdir(tmp_path)
    write_own(tmp_path, **FAULTS[fault])
    with pytest.raises(AssertionError, match=fault):
        check_encoder("mine.py:Mine")


REFUSED = {
    r"--model.audio_encoder mine.py:Mine: has BatchNorm: .*; use GroupNorm or LayerNorm$": "self.b = nn.BatchNorm1d(4)",
    r"has torch's dropout, .*mm_ray\.models\.dropout": "self.d = nn.Dropout(0.1)",
    r"has torch's dropout": "self.g = nn.GRU(3, 3, num_layers=2, dropout=0.1)",
    r"uses a parameter in two modules": "self.other = nn.Linear(4, 4); self.other.weight = self.linear.weight",
    r"has no output_size": "del self.output_size",
    r"cannot be built \(.*mine.py:15: ZeroDivisionError": "1 / 0",
    r"reads video only; others: conv_gru, gru, mlp, resnet, transformer$": "self.reads = ('video',)",
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_does_not_federate_is_refused_in_one_line(tmp_path, monkeypatch, fault):
    monkeypatch.chdir(tmp_path)
    write_own(tmp_path, init=REFUSED[fault])
    with pytest.raises(UserError, match=fault) as caught:
        tiny_plan({"model.audio_encoder": "mine.py:Mine"})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("forward", "fault"),
    [
        ("return values_BTH", r"fails on clips of noise \(AssertionError: forward gives a Tensor"),
        ("1 / 0", r"fails on clips of noise \(.*mine\.py:\d+: ZeroDivisionError"),
        ("values_BTH = values_BTH[:, :, :1]", r"the values have the shape"),
    ],
)
def test_what_fails_in_use_is_refused_before_a_client_trains(tmp_path, monkeypatch, forward, fault):
    monkeypatch.chdir(tmp_path)
    write_own(tmp_path, forward=forward)
    with pytest.raises(UserError, match=rf"^--model\.audio_encoder mine\.py:Mine: .*{fault}.*correct the module$"):
        tiny_plan({"model.audio_encoder": "mine.py:Mine"})


def test_an_encoder_without_parameters_is_refused():
    assert objection_to(NoParameters()).startswith("has no parameters")


class NoParameters(torch.nn.Module):
    output_size = 4


def test_sizes_that_cannot_be_joined_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wide.py").write_text(OWN.replace("INIT", "").replace("FORWARD", "").replace("model.hidden", "32"))
    model = ModelConfig(video_encoder="wide.py:Mine")
    with pytest.raises(UserError, match=r"^--model\.video_encoder wide\.py:Mine: gives 32 .*conv_gru 128; the fusion needs"):
        check_encoders(model, Shapes(20, 20, 4))
    check_encoders(model, Shapes(20, 0, 4))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"model.audio_encoder": "transfomer"},
            "--model.audio_encoder transfomer: did you mean 'transformer'? known names: c",
        ),
        (
            {"model.video_encoder": "resnet"},
            "--model.video_encoder resnet: reads audio only; others: conv_gru, frame_cnn, gru",
        ),
        ({"model.audio_encoder": "frame_cnn"}, "--model.audio_encoder frame_cnn: reads video only; others: conv_gru, gru"),
        ({"model.audio_encoder": "transformer", "model.transformer.heads": 3}, "--model.transformer.heads 3: must divide"),
        ({"model.transformer.patch_frames": 100_000}, "--model.transformer.patch_frames 100000: must be between 1 and 1,000"),
        ({"model.transformer.layers": 1_000_000}, "--model.transformer.layers 1000000: must be between 1 and 100"),
        ({"model.mlp.layers": 0}, "--model.mlp.layers 0: must be between 1 and 100"),
        ({"model.hidden": 10_000_000}, "--model.hidden 10000000: must be between 1 and 1,000,000 (default: 128)"),
        (
            {"model.conv_channels": (1, 2, 10**15)},
            "--model.conv_channels 1,2,1000000000000000: must be 3 whole numbers, each",
        ),
        (
            {"model.audio_encoder": "mlp", "model.hidden": 100_000},
            "--model.hidden 100000: gives audio.encoder 10,002,200,000 parameters; at most 1,000,000,000 can be trained",
        ),
        (
            {"model.conv_channels": (1, 300_000, 2000)},
            "--model.conv_channels 1,300000,2000: gives audio.encoder 3,001,850,341 parameters; at most",
        ),
        ({"model.attention_heads": 1_000_000, "model.hidden": 200}, "--model.attention_heads 1000000: gives video.head"),
    ],
)
def test_mistakes_end_in_one_line(fields, text):
    with pytest.raises(UserError) as caught:
        tiny_plan(fields)
    assert str(caught.value).startswith(text)


def test_an_encoder_s_settings_are_read():
    model = ModelConfig(audio_encoder="transformer")
    assert find_encoder("audio", model).build(20, model).patch_frames == 4
    case = encoder_case("mlp", "audio", **{"mlp.layers": 3})
    assert [layer.in_features for layer in case.encoder().layers] == [20, 8, 8]


def save_with(folder, encoder):
    case = encoder_case(encoder, "audio")
    features = tiny_config({"data.features.num_mels": 20}).data.features
    return save_student(folder, case.params(), case.model, case.shapes, ("a", "b", "c", "d"), features)


def test_a_student_s_own_encoder_runs_only_where_it_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_own(tmp_path)
    path = save_with(tmp_path, "mine.py:Mine")
    with pytest.raises(UserError, match=r"^STUDENT .*: its encoder mine.py:Mine is code of its own; give it with --encoder"):
        load_student(path)
    student = load_student(path, "mine.py:Mine")
    encoder = part_of(student.network, "audio.encoder")
    assert encoder.window.equal(torch.hann_window(20))
    with pytest.raises(UserError, match=r"--model.audio_encoder mine.py:Mine: cannot be written as ONNX; of the encoders here"):
        write_onnx(student, tmp_path / "student.onnx")


def test_attention_projections_start_by_glorot(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_own(tmp_path, init="self.attention = nn.MultiheadAttention(8, 2, batch_first=True)")
    encoder = encoder_case("mine.py:Mine", "audio").encoder()
    weight, bound = encoder.attention.in_proj_weight, (6 / 16) ** 0.5
    assert isinstance(encoder.attention, nn.MultiheadAttention)
    assert 0.8 * bound < weight.abs().max() <= bound
    assert not encoder.attention.in_proj_bias.any()
