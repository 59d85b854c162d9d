"""The networks: their sizes, that padding never leaks, that dropout is an argument, that the start is one too."""

import numpy as np
import pytest
import torch

from mm_ray.config import ModelConfig
from mm_ray.models.flat_params import FlatNetwork
from mm_ray.models.layers import AttentionPool, MeanPool, Sequence, dropout, length_mask
from mm_ray.models.network import PARTS, READS, build_part, init_part, part_size
from mm_ray.seeding import torch_stream
from mm_ray.types import Batch, Shapes

FEDMULTIMODAL = Shapes(audio_bins=80, video_features=1280, num_classes=51)
SMALL = ModelConfig(conv_channels=(3, 4, 5), hidden=6, attention_size=7, attention_heads=2, classifier_hidden=8, dropout=0.5)
SHAPES = Shapes(audio_bins=4, video_features=3, num_classes=4)
CASES = [("audio", "mean"), ("audio", "attention"), ("video", "mean"), ("av", "mean")]


def make(name, pooling="mean", seed=0):
    model = ModelConfig(**{**vars(SMALL), "audio_pooling": pooling})
    flat = FlatNetwork(name, model, SHAPES, "cpu")
    flat.load({part: init_part(part, model, SHAPES, torch_stream(seed, part)) for part in PARTS[name]})
    return flat


def clips(lengths, seed=0):
    """Clips with these numbers of audio and video frames, each a pair of arrays."""
    rng = np.random.default_rng(seed)
    return [tuple(rng.normal(size=(n, z)).astype(np.float32) for n, z in zip(pair, (4, 3), strict=True)) for pair in lengths]


def batch_of(some, extra=0, garbage=0.0):
    """A batch, padded to its longest clip and by `extra` more frames."""
    audio, video = ([clip[i] for clip in some] for i in (0, 1))
    tensors = [t for arrays in (audio, video) for t in padded(arrays, extra, garbage)]
    return Batch(*tensors, torch.zeros(len(some), dtype=torch.long), np.arange(len(some)))


def padded(arrays, extra, garbage):
    lengths = [len(array) for array in arrays]
    out = torch.full((len(arrays), max(lengths) + extra, arrays[0].shape[1]), garbage)
    for row, array in enumerate(arrays):
        out[row, : len(array)] = torch.from_numpy(array)
    return out, torch.tensor(lengths)


def logits(flat, batch, generator=None):
    with torch.inference_mode():
        return flat.network(batch, generator).logits_BC


@pytest.mark.parametrize(
    ("network", "pooling", "count"),
    [("av", "mean", 826_393), ("audio", "attention", 284_953), ("audio", "mean", 174_867), ("video", "mean", 663_097)],
)
def test_parameter_counts_are_those_of_fedmultimodal(network, pooling, count):
    model = ModelConfig(audio_pooling=pooling)
    assert sum(part_size(part, model, FEDMULTIMODAL) for part in PARTS[network]) == count
    assert len(FlatNetwork(network, model, FEDMULTIMODAL, "cpu").params) == count


@pytest.mark.parametrize(("name", "pooling"), CASES)
def test_a_clip_does_not_depend_on_what_it_is_batched_with(name, pooling):
    flat = make(name, pooling)
    some = clips([(17, 2), (1, 1), (40, 5), (8, 3), (9, 1)])
    together = logits(flat, batch_of(some))
    alone = torch.cat([logits(flat, batch_of([clip])) for clip in some])
    backwards = logits(flat, batch_of(some[::-1])).flip(0)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(together, backwards, atol=1e-5, rtol=0)
    assert together.unique(dim=0).shape[0] == len(some)


@pytest.mark.parametrize("extra", [1, 7, 8, 31])
@pytest.mark.parametrize(("name", "pooling"), CASES)
def test_padding_longer_changes_nothing(name, pooling, extra):
    flat, some = make(name, pooling), clips([(17, 2), (3, 1)])
    torch.testing.assert_close(logits(flat, batch_of(some, extra)), logits(flat, batch_of(some)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "pooling"), CASES)
def test_what_lies_in_the_padding_changes_no_bit(name, pooling):
    flat, some = make(name, pooling), clips([(17, 2), (3, 1)])
    expected = logits(flat, batch_of(some, 5))
    for garbage in (-4.0, 1e30, torch.nan, torch.inf):
        assert logits(flat, batch_of(some, 5, garbage)).equal(expected)


def test_an_audio_clip_of_t_frames_gets_a_step_for_each_begun_eight():
    encoder = make("audio").network.parts["audio_encoder"]
    for frames in (1, 7, 8, 9, 16, 17):
        sequence = encoder(torch.zeros(1, frames, 4), torch.tensor([frames]))
        assert sequence.values_BTH.shape == (1, -(-frames // 8), 6)
        assert sequence.mask_BT.sum() == -(-frames // 8)


def test_a_network_reads_its_modalities_only():
    batch = batch_of(clips([(9, 2)]))
    without_video = batch._replace(video_BSD=None, video_lengths_B=None)
    without_audio = batch._replace(audio_BTF=None, audio_lengths_B=None)
    assert logits(make("audio"), without_video).equal(logits(make("audio"), batch))
    assert logits(make("video"), without_audio).equal(logits(make("video"), batch))
    assert READS["av"] == ("audio", "video")


def test_the_length_mask_by_hand():
    assert length_mask(torch.tensor([2, 0, 3]), 3).tolist() == [[1, 1, 0], [0, 0, 0], [1, 1, 1]]


def test_pools_by_hand():
    values = torch.tensor([[[1.0, 10.0], [3.0, 30.0], [99.0, 99.0]]])
    sequence = Sequence(values, torch.tensor([[1.0, 1.0, 0.0]]))
    assert MeanPool()(sequence).tolist() == [[2.0, 20.0]]
    attention = AttentionPool(hidden=2, size=1, heads=2)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.zero_()
    # Equal scores weigh every real step alike, so that each head gives the mean.
    assert attention(sequence).tolist() == [[2.0, 20.0, 2.0, 20.0]]


@pytest.mark.parametrize(("name", "pooling"), CASES)
def test_dropout_is_off_without_a_generator_and_reproducible_with_one(name, pooling):
    flat, batch = make(name, pooling), batch_of(clips([(33, 4), (20, 3)]))
    off = logits(flat, batch)
    assert off.equal(logits(flat, batch))
    on, again, other = (logits(flat, batch, torch_stream(seed, "dropout")) for seed in (1, 1, 2))
    assert on.equal(again)
    assert not on.equal(off)
    assert not on.equal(other)


def test_dropout_keeps_the_mean_and_draws_from_its_generator_only():
    ones = torch.ones(20_000)
    before = torch.get_rng_state()
    dropped = dropout(ones, 0.25, torch_stream(0, "x"))
    assert set(dropped.tolist()) == {0.0, float(torch.tensor(1.0) / 0.75)}
    assert abs(dropped.mean().item() - 1) < 0.02
    assert dropout(ones, 0.0, torch_stream(0, "x")) is ones
    assert torch.get_rng_state().equal(before)


def test_the_start_depends_on_the_stream_only():
    one = init_part("fusion", SMALL, SHAPES, torch_stream(0, "init"))
    state = torch.get_rng_state()
    torch.rand(3)
    again = init_part("fusion", SMALL, SHAPES, torch_stream(0, "init"))
    other = init_part("fusion", SMALL, SHAPES, torch_stream(0, "other"))
    assert one.dtype == np.float32
    assert one.tobytes() == again.tobytes()
    assert one.tobytes() != other.tobytes()
    torch.set_rng_state(state)


def test_the_start_is_he_uniform_with_zero_biases_and_the_gru_is_torch_s():
    flat = make("audio")
    module = flat.network.parts["audio_encoder"]
    conv = module.convs[0]
    bound = (6 / (4 * 5)) ** 0.5  # fan in: 4 bins times a kernel of 5
    assert 0.5 * bound < conv.weight.abs().max() <= bound
    assert conv.bias.abs().max() == 0
    assert 0.5 * 6**-0.5 < module.gru.weight_hh_l0.abs().max() <= 6**-0.5


def test_an_unknown_part_is_a_head_with_attention():
    head = build_part("fusion", SMALL, SHAPES)
    assert isinstance(head.pool, AttentionPool)
