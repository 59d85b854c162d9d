"""What every encoder promises, as functions that raise `AssertionError` with a line that says what is wrong.

`mm_ray.testing.check_encoder` runs them. Shape suffixes: B batch, T frames, F features, K clients.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mm_ray.config import FeatureConfig, ModelConfig
from mm_ray.models.batched.network import StackedNetwork
from mm_ray.models.dropout import StackedDropout
from mm_ray.models.encoder import batched_encoder
from mm_ray.models.flat_params import FlatNetwork
from mm_ray.models.layers import Output, Sequence
from mm_ray.models.network import PARTS, init_part, part_of
from mm_ray.models.onnx_export import write_onnx
from mm_ray.models.student import Student
from mm_ray.seeding import torch_stream
from mm_ray.types import Batch, Shapes, StackedBatch

LENGTHS = (17, 3, 40, 1, 9)
"""Frames of the clips that an encoder is checked with."""
GARBAGE = (-4.0, 1e30, torch.nan, torch.inf)
TOLERANCE = 1e-4
"""How close two results are that differ by the order in which floats are summed, absolute or relative."""


@dataclass(frozen=True)
class EncoderCase:
    """An encoder in a small network of its modality, which has the modality's name."""

    modality: str
    model: ModelConfig
    shapes: Shapes

    @property
    def features(self) -> int:
        """Numbers per frame (F)."""
        return self.shapes.features(self.modality)

    def params(self, seed: int = 0) -> dict[str, np.ndarray]:
        """The network's first parameters."""
        return {p: init_part(p, self.model, self.shapes, torch_stream(seed, p)) for p in PARTS[self.modality]}

    def network(self, seed: int = 0) -> FlatNetwork:
        """The network with these."""
        flat = FlatNetwork(self.modality, self.model, self.shapes, "cpu")
        flat.load(self.params(seed))
        return flat

    def encoder(self) -> nn.Module:
        """The encoder alone."""
        return part_of(self.network().network, f"{self.modality}.encoder")

    def clip(self, length: int, name: str = "") -> torch.Tensor:
        """Normal numbers (T, F), the same for the same length and name."""
        return torch.randn(length, self.features, generator=torch_stream(0, "clip", str(length), name))

    def frames(self, lengths: tuple[int, ...] = LENGTHS, longer: int = 0, garbage: float = 0.0) -> torch.Tensor:
        """Clips of these lengths (B, T, F), with garbage behind them."""
        values_BTF = torch.full((len(lengths), max(lengths) + longer, self.features), garbage)
        for row, length in zip(values_BTF, lengths, strict=True):
            row[:length] = self.clip(length)
        return values_BTF


def gives_a_sequence(case: EncoderCase) -> None:
    """Values (B, steps, H) and a mask of zeros and ones, at least one step for each clip, also for one of length 0."""
    lengths = (*LENGTHS, 0)
    encoder, sequence = case.encoder(), _encoded(case, lengths)
    assert isinstance(sequence, Sequence), f"forward gives a {type(sequence).__name__}, not a mm_ray.models.layers.Sequence"
    values, mask_BT = sequence
    assert mask_BT.ndim == 2, f"the mask has the shape {tuple(mask_BT.shape)}; it must be (clips, steps)"
    wanted = (len(lengths), mask_BT.shape[1], encoder.output_size)
    assert tuple(values.shape) == wanted, f"the values have the shape {tuple(values.shape)}, mask and output_size say {wanted}"
    assert set(mask_BT.unique().tolist()) <= {0.0, 1.0}, "the mask holds other numbers than 0 and 1"
    assert (mask_BT.sum(1) >= 1).all(), "a clip has no step; one of length 0 needs one too (see mm_ray.models.layers.within)"
    assert values.isfinite().all(), "the values are not finite"


def padding_changes_no_bit(case: EncoderCase) -> None:
    """What lies behind a clip's length changes nothing."""
    expected = _logits(case, case.frames(longer=5))
    for garbage in GARBAGE:
        found = _logits(case, case.frames(longer=5, garbage=garbage))
        what = f"{garbage} behind a clip's length changes its logits"
        assert found.equal(expected), f"{what}; first of all call mm_ray.models.layers.within"


def a_clip_does_not_depend_on_others(case: EncoderCase) -> None:
    """Neither on the batch around it nor on how far it is padded."""
    together = _logits(case, case.frames())
    alone = torch.cat([_logits(case, case.frames((length,)), (length,)) for length in LENGTHS])
    longer = _logits(case, case.frames(longer=16))
    assert _close(together, longer), "a clip's logits depend on how far it is padded: mask every layer"
    assert _close(together, alone), "a clip's logits depend on the clips that it is batched with"


def dropout_is_an_argument(case: EncoderCase) -> None:
    """Without a generator nothing is random; with one all randomness is the generator's."""
    state = torch.get_rng_state()
    assert _logits(case, case.frames()).equal(_logits(case, case.frames())), "without a generator two calls differ"
    one, again = (_logits(case, case.frames(), generator=torch_stream(0, "dropout")) for _ in range(2))
    assert one.equal(again), "two calls with the same generator differ"
    assert torch.get_rng_state().equal(state), "torch's global random numbers are used; draw from the generator"


def parameters_are_one_flat_vector(case: EncoderCase) -> None:
    """The parameters go into the flat vector and out of it, and training there is training of the module."""
    params = case.params()
    flat = case.network()
    for part, array in flat.parts(flat.params).items():
        assert array.tobytes() == params[part].tobytes(), f"{part} does not come back from the flat vector as it went in"
    constants = {name: buffer.clone() for name, buffer in flat.network.named_buffers()}
    _loss(flat.network(_batch(case, case.frames(), LENGTHS), torch_stream(0, "dropout"))).backward()
    assert flat.grads.isfinite().all(), "a gradient is not finite"
    encoder = part_of(flat.network, f"{case.modality}.encoder")
    still = [name for name, parameter in encoder.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert not still, f"no gradient reaches the parameter {still[0]}"
    changed = [name for name, buffer in flat.network.named_buffers() if not buffer.equal(constants[name])]
    assert not changed, f"{changed[0]} changes while it is used, but is no parameter, so it is not averaged"


def starts_from_its_stream(case: EncoderCase) -> None:
    """The same stream gives the same first parameters, finite ones; another stream others."""
    one, again, other = case.params(), case.params(), case.params(seed=1)
    part = f"{case.modality}.encoder"
    assert np.isfinite(one[part]).all(), "the first parameters are not finite"
    assert one[part].tobytes() == again[part].tobytes(), "the first parameters differ between two builds"
    assert one[part].tobytes() != other[part].tobytes(), "the first parameters do not depend on the seed"


def clients_at_once_are_clients_one_by_one(case: EncoderCase) -> None:
    """Where there is a form for several clients: its outputs and gradients are those of each client alone."""
    if not batched_encoder(case.model.encoder(case.modality)):
        return
    rows = ((17, 3, 9), (40,), (1, 8))
    stacked = StackedNetwork(case.modality, case.model, case.shapes, 4, "cpu")
    for k in range(len(rows)):
        stacked.copy(k).load(case.params(seed=k))
    dropout = StackedDropout([torch_stream(k, "d") for k in range(3)], case.model.dropout, tuple(map(len, rows)))
    output = stacked.forward(_stacked(case, rows), dropout)
    losses = [_loss(Output(output.logits_BC[k, : len(own)], output.features_BH)) for k, own in enumerate(rows)]
    stacked.backward(torch.stack(losses).sum(), len(rows))
    for k, own in enumerate(rows):
        plain = case.network(seed=k)
        alone = plain.network(_batch(case, case.frames(own), own), torch_stream(k, "d"))
        _loss(alone).backward()
        close = _close(output.logits_BC[k, : len(own)], alone.logits_BC)
        assert close, "several clients at once give other logits than one by one"
        assert _close(stacked.grads[k], plain.grads), "several clients at once give other gradients"


def onnx_is_torch(case: EncoderCase) -> None:
    """Where the encoder writes ONNX, and ONNX Runtime is installed: the file gives the network's logits."""
    encoder = case.encoder()
    if not hasattr(encoder, "write_onnx") or case.modality != "audio" or find_spec("onnxruntime") is None:
        return
    import onnxruntime

    names = tuple(map(str, range(case.shapes.num_classes)))
    features = FeatureConfig(audio="precomputed", max_frames=64)
    student = Student(case.network().network, case.model, names, features, case.features)
    with tempfile.TemporaryDirectory() as folder:
        write_onnx(student, Path(folder) / "student.onnx")
        session = onnxruntime.InferenceSession(str(Path(folder) / "student.onnx"))
    given = {"audio": case.frames(longer=5).numpy(), "lengths": np.array(LENGTHS)}
    logits_BC = torch.from_numpy(session.run(None, given)[0])
    assert _close(logits_BC, _logits(case, case.frames())), "the ONNX file gives other logits than torch"


ENCODER_CHECKS: tuple[Callable[[EncoderCase], None], ...] = (
    gives_a_sequence, dropout_is_an_argument, padding_changes_no_bit, a_clip_does_not_depend_on_others,
    parameters_are_one_flat_vector, starts_from_its_stream, clients_at_once_are_clients_one_by_one, onnx_is_torch,
)  # fmt: skip


def _loss(output: Output) -> torch.Tensor:
    return output.logits_BC.square().mean()


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, atol=TOLERANCE, rtol=TOLERANCE)


def _batch(case: EncoderCase, frames_BTF: torch.Tensor, lengths: tuple[int, ...]) -> Batch:
    lengths_B, labels_B, indices_B = torch.tensor(lengths), torch.zeros(len(lengths), dtype=torch.long), np.arange(len(lengths))
    if case.modality == "audio":
        return Batch(frames_BTF, lengths_B, None, None, labels_B, indices_B)
    return Batch(None, None, frames_BTF, lengths_B, labels_B, indices_B)


def _stacked(case: EncoderCase, rows: tuple[tuple[int, ...], ...]) -> StackedBatch:
    """The clips of several clients, with the last clip of each given again where another client has more."""
    lengths_KB = np.stack([np.resize(own, max(map(len, rows))) for own in rows])
    values_KBTF = torch.zeros(*lengths_KB.shape, int(lengths_KB.max()), case.features)
    for values, length in zip(values_KBTF.flatten(0, 1), lengths_KB.ravel(), strict=True):
        values[:length] = case.clip(int(length))
    labels, counts = torch.zeros(lengths_KB.shape, dtype=torch.long), tuple(map(len, rows))
    if case.modality == "audio":
        audio_BTKF = values_KBTF.permute(1, 2, 0, 3).contiguous()
        return StackedBatch(counts, audio_BTKF, lengths_KB, None, None, labels, np.zeros(lengths_KB.shape, int))
    video_KSBD = values_KBTF.transpose(1, 2).contiguous()
    return StackedBatch(counts, None, None, video_KSBD, lengths_KB, labels, np.zeros(lengths_KB.shape, int))


def _encoded(case: EncoderCase, lengths: tuple[int, ...]) -> Sequence:
    with torch.inference_mode():
        sequence: Sequence = case.encoder()(case.frames(lengths), torch.tensor(lengths), None)
    return sequence


def _logits(
    case: EncoderCase,
    frames_BTF: torch.Tensor,
    lengths: tuple[int, ...] = LENGTHS,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    with torch.inference_mode():
        output: Output = case.network().network(_batch(case, frames_BTF, lengths), generator)
    return output.logits_BC
