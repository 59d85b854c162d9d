"""Checks of your own parts: what the package's tests ask of every part of its kind, as functions.

    mm_ray.testing.check_loss("mine.py:my_loss")
    mm_ray.testing.check_encoder("mine.py:MyEncoder")
    mm_ray.testing.check_method("mine.py")
    mm_ray.testing.check_dataset("mine.py", root="recordings")
    mm_ray.testing.check_feature("mine.py:thing")
    mm_ray.testing.check_feature("mine.py:thing", "video")
    mm_ray.testing.check_aggregator("mine.py")
    mm_ray.testing.check_partition("mine.py:halves")
    mm_ray.testing.check_sampler("mine.py")
    mm_ray.testing.check_space("mine.py")

Each raises `AssertionError` with a line that says what is wrong, or `mm_ray.UserError` where the part cannot be loaded.
"""

import inspect
import tempfile
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mm_ray.config import DataConfig, ExperimentConfig, ModelConfig, Phase2Config, flatten, to_dict, with_overrides
from mm_ray.data.audio_features import compute_audio
from mm_ray.data.feature_row import extract
from mm_ray.data.feature_store import fingerprint
from mm_ray.data.load import load_data
from mm_ray.data.manifest import check_manifest, find_manifest, read_manifest
from mm_ray.data.own_partition import own_shares, shares_digest
from mm_ray.data.video_features import video_features
from mm_ray.distill.teacher_output import TeacherOutput, projected
from mm_ray.fed.aggregation import RULES
from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.experiment import plan_experiment, run_experiment
from mm_ray.fed.method import find_method
from mm_ray.fed.phase_store import PhaseStore
from mm_ray.fed.rounds import drive
from mm_ray.models.encoder_checks import ENCODER_CHECKS, EncoderCase
from mm_ray.models.layers import Output
from mm_ray.plugins import resolve
from mm_ray.seeding import numpy_stream, torch_stream
from mm_ray.types import Shapes

Loss = Callable[..., torch.Tensor]
ARGUMENTS = ["student", "target", "labels_B", "settings"]
SETTINGS = Phase2Config(temperature=3.0)
LABELS = torch.tensor([0, 1, 2, 3, 1, 0])
OTHER_SETTINGS: dict[str, float] = {"temperature": 2.0} | {
    f"losses.{name}": value + 1 if isinstance(value, int) else value / 2 + 0.1
    for name, value in flatten(to_dict(SETTINGS.losses)).items()
}
SMALL = {
    "data.synthetic.num_classes": 4, "data.synthetic.num_groups": 8, "data.synthetic.clips_per_class": 20,
    "data.synthetic.labelled": 1.0, "data.features.num_mels": 20, "data.features.hop_ms": 40, "data.features.video_size": 6,
    "partition.num_clients": 6, "model.conv_channels": (4, 4, 8), "model.hidden": 8, "model.attention_size": 8,
    "model.attention_heads": 2, "model.classifier_hidden": 8, "phase1.rounds": 4, "phase2.rounds": 3,
    "clients.sample_frac": 0.5,
}  # fmt: skip
"""A federation so small that a whole experiment takes a second."""


def check_loss(loss: str | Loss) -> None:
    """Check a distillation loss: `loss(student, target, labels_B, settings)` gives a scalar.

    Args:
        loss: A function, or a name such as `mine.py:my_loss`.

    """
    function: Loss = resolve("phase2.loss", loss, "mm_ray.losses", "loss").loss if isinstance(loss, str) else loss
    for check in LOSS_CHECKS:
        check(function)


def draw(name: str) -> torch.Tensor:
    """Six rows of four normal numbers, the same for the same name."""
    return torch.randn(6, 4, generator=torch_stream(0, name))


def teacher_output(logits: torch.Tensor | None = None, features: torch.Tensor | None = None) -> TeacherOutput:
    """A teacher's word on six clips of four classes."""
    return TeacherOutput(draw("teacher") if logits is None else logits, draw("features") if features is None else features)


def student_output(logits: torch.Tensor, features: torch.Tensor | None = None) -> Output:
    """A student's, with gradients."""
    features = draw("own features") if features is None else features
    return Output(logits.clone().requires_grad_(), features.clone().requires_grad_())


def has_the_signature(loss: Loss) -> None:
    """Its arguments have the names by which they are given."""
    names = list(inspect.signature(loss).parameters)
    assert names == ARGUMENTS, f"the loss takes {', '.join(names)}; it needs {', '.join(ARGUMENTS)}"


def is_a_finite_scalar(loss: Loss) -> None:
    """Its value and gradient are finite, and there is a gradient."""
    gradients = _finite(loss, student_output(draw("student")), teacher_output(), LABELS, "on ordinary clips")
    assert any(g.abs().max() > 0 for g in gradients), "the loss has no gradient: the student would learn nothing"


def is_finite_where_the_teacher_is_certain(loss: Loss) -> None:
    """Also where a softmax is 0 and 1."""
    student, target = student_output(-50 * draw("teacher")), teacher_output(50 * draw("teacher"))
    _finite(loss, student, target, LABELS, "where the teacher is certain and the student contradicts")


def is_finite_in_small_batches(loss: Loss) -> None:
    """Also for one clip, and for two that are the same."""
    for rows in ([0], [1, 1]):
        student = student_output(draw("student")[rows], draw("own features")[rows])
        target = teacher_output(draw("teacher")[rows], draw("features")[rows])
        _finite(loss, student, target, LABELS[rows], f"in a batch of {len(rows)}")


def is_least_for_a_student_like_its_teacher(loss: Loss) -> None:
    """No other student loses less."""
    teacher, features = draw("teacher"), projected(teacher_output(), 4, SETTINGS)
    alike = loss(student_output(teacher, features), teacher_output(), LABELS, SETTINGS)
    for i in range(8):
        other = student_output(teacher + draw(f"step{i}"), features + draw(f"features step{i}"))
        value = loss(other, teacher_output(), LABELS, SETTINGS)
        assert alike <= value + 1e-6, f"a student like its teacher loses {alike:.4g}, another one {value:.4g}"


def does_not_see_the_order(loss: Loss) -> None:
    """Clips of a batch may come in any order."""
    student, order = student_output(draw("student")), torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled = Output(student.logits_BC[order], student.features_BH[order])
    target = TeacherOutput(*(values[order] for values in teacher_output()[:2]))  # type: ignore[index]
    value, again = loss(student, teacher_output(), LABELS, SETTINGS), loss(shuffled, target, LABELS[order], SETTINGS)
    assert torch.allclose(again, value, atol=1e-6, rtol=1e-5), "the order of the clips in a batch changes the loss"


def changes_nothing(loss: Loss) -> None:
    """It gives the same again, and leaves what it is given."""
    student, teacher = student_output(draw("student")), teacher_output()
    first = loss(student, teacher, LABELS, SETTINGS)
    assert loss(student, teacher, LABELS, SETTINGS).equal(first), "the loss gives another value for the same clips"
    names = ("teacher", "features", "student", "own features")
    for mine, name in zip((*teacher[:2], *student[:2]), names, strict=True):
        assert mine is not None
        assert mine.equal(draw(name)), f"the loss changes the {name} that it is given"


def names_its_settings(loss: Loss) -> None:
    """A setting that a loss reads in secret would change results under a key that stays the same."""
    uses = getattr(inspect.getmodule(loss), "USES", None)
    if uses is None:  # a loss that names none has all of them in its key
        return
    value = loss(student_output(draw("student")), teacher_output(), LABELS, SETTINGS)
    for name, other in OTHER_SETTINGS.items():
        changed = loss(student_output(draw("student")), teacher_output(), LABELS, with_overrides(SETTINGS, {name: other}))
        assert changed.equal(value) or name in uses, f"the loss reads {name}: add it to USES of its module"


LOSS_CHECKS: tuple[Callable[[Loss], None], ...] = (
    has_the_signature, is_a_finite_scalar, is_finite_where_the_teacher_is_certain, is_finite_in_small_batches,
    is_least_for_a_student_like_its_teacher, does_not_see_the_order, changes_nothing, names_its_settings,
)  # fmt: skip


def _finite(loss: Loss, student: Output, target: TeacherOutput, labels_B: torch.Tensor, where: str) -> list[torch.Tensor]:
    value = loss(student, target, labels_B, SETTINGS)
    assert value.shape == (), f"the loss has the shape {tuple(value.shape)}; a scalar is needed"
    value.backward()
    tensors = [student.logits_BC, student.features_BH]
    gradients = [tensor.grad for tensor in tensors if tensor is not None and tensor.grad is not None]
    assert torch.isfinite(value), f"the loss is {value.item()} {where}"
    assert all(torch.isfinite(g).all() for g in gradients), f"the loss has a gradient that is not finite {where}"
    return gradients


def check_encoder(encoder: str, modality: str = "audio", features: int = 20, **fields: Any) -> None:
    """Check an encoder: masks, dropout, first parameters, the flat vector, and where there are any its form for several clients
    and its ONNX.

    Args:
        encoder: Its name, such as `mine.py:MyEncoder`.
        modality: What it is to read, `audio` or `video`.
        features: Numbers per frame (F).
        fields: Fields of `model`, such as `hidden`.

    """
    case = encoder_case(encoder, modality, features, **fields)
    for check in ENCODER_CHECKS:
        check(case)


def encoder_case(encoder: str, modality: str, features: int = 20, **fields: Any) -> EncoderCase:
    """What the checks of an encoder get: it in a small network."""
    small = {name.removeprefix("model."): value for name, value in SMALL.items() if name.startswith("model.")}
    model = with_overrides(ModelConfig(), {**small, "dropout": 0.2, f"{modality}_encoder": encoder, **fields})
    return EncoderCase(modality, model, Shapes(features, features, num_classes=4))


def check_method(method: str, **fields: Any) -> None:
    """Check a method: its phases, and that it runs on a tiny synthetic federation with the same bits twice.

    Args:
        method: Its name, such as `mine.py`.
        fields: Config fields by dotted name, where it needs others.

    """
    config = with_overrides(ExperimentConfig(), {**SMALL, "method": method, **fields})
    check_phases(config)
    with tempfile.TemporaryDirectory() as folder:
        plan = plan_experiment(config, load_data(config.data, folder))
        runs = [
            drive(run_experiment(plan, PhaseStore(f"{folder}/{name}"), SerialExecutor(), control=False)) for name in ("a", "b")
        ]
    result, roles = runs[0].result, set(plan.method.roles)
    assert set(result["test"]) == roles, f"scored are {sorted(result['test'])}, the method's roles are {sorted(roles)}"
    digests = {run.result["params_digest"] for run in runs}
    assert len(digests) == 1, "two runs of the same config end with different parameters: draw only from mm_ray.seeding"


def check_phases(config: ExperimentConfig) -> None:
    """The phases of a config's method have names of their own, and take from phases before them only."""
    method = find_method(config)
    assert method == find_method(config), "build(config) gives another method each time"
    before: dict[str, Any] = {}
    for phase in method.phases:
        assert phase.name not in before, f"two phases are called {phase.name}"
        assert len(phase.name.split("/")) == 2, f"a phase is called {phase.name}; names are like phase1/unimodal"
        for source in phase.sources:
            assert source.phase in before, f"{phase.name} takes from {source.phase}, which is no phase before it"
            networks = before[source.phase].networks
            assert source.network is None or source.network in networks, f"{source.phase} has no network {source.network}"
        before[phase.name] = phase
    for role, where in method.roles.items():
        assert where.network in before[where.phase].networks, f"{role} is {where.network} of {where.phase}, which has none"


def check_aggregator(rule: str) -> None:
    """Check an aggregator: `combine(changes_KP, bad_frac)` gives one finite change (P,), twice the same, for any K.

    Args:
        rule: Its name, such as `mine.py`.

    """
    combine = resolve("phase1.server.rule", rule, RULES, "combine").combine
    for num_clients in (1, 2, 7):
        changes_KP = numpy_stream(0, "check_aggregator", num_clients).normal(size=(num_clients, 5)).astype(np.float32)
        given_KP = changes_KP.copy()
        change_P, again_P = combine(changes_KP, 0.2), combine(changes_KP, 0.2)
        assert np.shape(change_P) == (5,), f"combine gives the shape {np.shape(change_P)} for ({num_clients}, 5); return (5,)"
        assert np.isfinite(change_P).all(), f"combine gives a change of {num_clients} clients that is not finite"
        assert np.array_equal(change_P, again_P), "combine gives another change the second time"
        assert np.array_equal(changes_KP, given_KP), "combine changes its input, which it must not"


def check_partition(kind: str, **fields: Any) -> None:
    """Check a partition: `partition(table, config, seed)` gives each training clip to one client at most, twice the same.

    Args:
        kind: A name such as `mine.py:halves`, or a CSV file with the columns `clip` and `client`.
        fields: Config fields by dotted name, such as `data.name`; without them it is tried on small synthetic data.

    """
    config = with_overrides(ExperimentConfig(), {**SMALL, "partition.kind": kind, **fields})
    with tempfile.TemporaryDirectory() as folder:
        table = load_data(config.data, folder)
    shares, again = (own_shares(table, config.partition, config.seed) for _ in range(2))
    assert shares_digest(shares) == shares_digest(again), "it gives other shares the second time: draw from the seed only"


def check_sampler(name: str) -> None:
    """Check a sampler: `sampler(seed)` gives an Optuna sampler that suggests the same values for the same seed.

    It is made anew for every trial, as a study does, so that what it knows comes from the study alone.

    Args:
        name: Its name, such as `mine.py:thing`.

    """
    from mm_ray.tune.samplers import trial_suggestions  # loads Optuna, which the other checks need not wait for

    first = trial_suggestions(name)
    assert trial_suggestions(name) == first, "it suggests other values for the same seeds: draw from the seed only"
    assert len({one["x"] for one in first}) > 1, "it suggests the same values for every seed"


def check_space(space: str | Callable[..., dict[str, Any]]) -> None:
    """Check a search space: `space(trial)` suggests something, gives fields that the config accepts, the same for the same
    choices, and can suggest the values of `ENQUEUED`.

    Args:
        space: Its name, such as `mine.py`, or the function.

    """
    from mm_ray.tune.space import load_space, warnings_of_enqueued  # loads Optuna, which the other checks need not wait for

    loaded = load_space(space)
    assert loaded.distributions, "it suggests nothing, so all trials would be the same"
    for line in warnings_of_enqueued(loaded):
        raise AssertionError(f"ENQUEUED lies outside the space: {line}")


def check_feature(feature: str, modality: str = "audio") -> None:
    """Check features of your own: finite, of the same width for clips of any length, and twice the same.

    Args:
        feature: Its name, such as `mine.py:thing`: for audio `thing(waveform_N, sample_rate)`, which gives (T, F), for video
            `thing(frames_SHW3)`, which gives (S, D).
        modality: `audio` or `video`.

    """
    data = with_overrides(ExperimentConfig(), {f"data.features.{modality}": feature}).data
    widths = set()
    for given in _waveforms(data.features.sample_rate) if modality == "audio" else _films():
        first, again = (_computed(given, data, modality) for _ in range(2))
        assert np.array_equal(first, again), "it gives other features the second time: draw no random numbers"
        widths.add(first.shape[1])
    assert len(widths) == 1, f"it gives {sorted(widths)} numbers per frame, depending on the clip; all clips need the same"


def _computed(given: np.ndarray, data: DataConfig, modality: str) -> np.ndarray:
    rate = data.features.sample_rate
    return compute_audio(given, rate, data.features, "a waveform") if modality == "audio" else video_features(given, data)


def _waveforms(rate: int) -> list[np.ndarray]:
    """Noise of 60 ms, the shortest clip there is, of 1 s and of 10 s, and silence."""
    noise_N = numpy_stream(0, "check_feature").uniform(-1, 1, 10 * rate).astype(np.float32)
    return [noise_N[: round(0.06 * rate)], noise_N[:rate], noise_N, np.zeros(rate, np.float32)]


def _films() -> list[np.ndarray]:
    """Frames of several sizes, one to ten of them, and black ones."""
    stream = numpy_stream(0, "check_feature")
    drawn = [stream.integers(0, 256, (*size, 3), np.uint8) for size in ((1, 48, 64), (3, 120, 90), (10, 64, 64))]
    return [*drawn, np.zeros((2, 48, 64, 3), np.uint8)]


def check_dataset(data: str, **fields: Any) -> None:
    """Check a data set: its manifest, and that its last clip becomes finite features, twice the same.

    Args:
        data: Its name, such as `mine.py`.
        fields: Fields of `data`, such as `root`.

    """
    config = with_overrides(ExperimentConfig(), {"data.name": data} | {f"data.{name}": v for name, v in fields.items()}).data
    module, manifest = find_manifest(config.name), read_manifest(config)
    check_manifest(manifest)
    assert read_manifest(config) == manifest, "read(data) gives another manifest the second time"
    groups = Counter(group for group, _ in {(clip.group, clip.splits) for clip in manifest.clips})
    crossing = sorted(group for group, count in groups.items() if count > 1)
    assert not crossing, f"the group {crossing[0]} lies in several splits, so the test set is not new to the student"
    last = len(manifest.clips) - 1
    row, again = (extract(module, last, manifest.clips[-1], config) for _ in range(2))
    assert np.isfinite(row.audio_TF).all(), f"the clip {manifest.clips[-1].id} has features that are not finite"
    assert fingerprint([row]) == fingerprint([again]), f"the clip {manifest.clips[-1].id} has other features the second time"
