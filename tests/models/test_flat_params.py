"""A network on flat buffers is the network."""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch.nn import functional

from mm_ray.config import ModelConfig
from mm_ray.models.flat_params import FlatNetwork, flat_network, named_tensors
from mm_ray.models.network import PARTS, Network, init_part, part_of, part_size
from mm_ray.seeding import torch_stream
from mm_ray.types import Batch, Shapes

MODEL = ModelConfig(conv_channels=(3, 4, 5), hidden=6, attention_size=7, attention_heads=2, classifier_hidden=8)
SHAPES = Shapes(audio_bins=4, video_features=3, num_classes=4)


def params_of(name, seed=0):
    return {part: init_part(part, MODEL, SHAPES, torch_stream(seed, part)) for part in PARTS[name]}


def make(name):
    flat = FlatNetwork(name, MODEL, SHAPES, "cpu")
    flat.load(params_of(name))
    return flat


def make_batch(size=5):
    rng = np.random.default_rng(0)
    audio, video = (torch.from_numpy(rng.normal(size=(size, n, z)).astype(np.float32)) for n, z in ((20, 4), (3, 3)))
    lengths = torch.tensor([20, 9, 4, 20, 1][:size]), torch.tensor([3, 1, 2, 3, 3][:size])
    return Batch(audio, lengths[0], video, lengths[1], torch.arange(size) % 4, np.arange(size))


@pytest.mark.parametrize("name", PARTS)
def test_parameters_and_gradients_are_views_of_two_buffers(name):
    flat = make(name)
    for buffer, tensors in (
        (flat.params, flat.network.parameters()),
        (flat.grads, (p.grad for p in flat.network.parameters())),
    ):
        begin = buffer.data_ptr()
        offsets = sorted((tensor.data_ptr() - begin) // 4 for tensor in tensors)
        assert (offsets[0], len(set(offsets))) == (0, len(offsets))
        assert offsets[-1] < len(buffer)
    flat.params.fill_(0.5)
    assert all((p == 0.5).all() for p in flat.network.parameters())


@pytest.mark.parametrize("name", PARTS)
def test_training_steps_equal_those_of_a_plain_module(name):
    flat, batch = make(name), make_batch()
    plain = Network(name, MODEL, SHAPES)
    plain.load_state_dict(copy.deepcopy(flat.network.state_dict()))
    for _ in range(3):
        for network in (flat.network, plain):
            output = network(batch)
            every_head = [output.logits_BC, *(output.heads or {}).values()]
            sum(functional.cross_entropy(logits, batch.labels_B) for logits in every_head).backward()
        flat.params -= 0.1 * flat.grads
        flat.grads.zero_()
        with torch.no_grad():
            for parameter in plain.parameters():
                parameter -= 0.1 * parameter.grad
        plain.zero_grad()
    for key, tensor in plain.state_dict().items():
        assert tensor.equal(flat.network.state_dict()[key]), key
    assert flat.network(batch).logits_BC.equal(plain(batch).logits_BC)


def test_read_only_arrays_load_without_a_warning_and_stay_as_they_are():
    params = params_of("av")
    before = {part: array.tobytes() for part, array in params.items()}
    for array in params.values():
        array.flags.writeable = False
    flat = FlatNetwork("av", MODEL, SHAPES, "cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flat.load(params)
    assert {part: array.tobytes() for part, array in flat.parts(flat.params).items()} == before
    flat.params.zero_()
    assert {part: array.tobytes() for part, array in params.items()} == before


def test_parts_are_copies_in_order():
    flat = make("audio")
    parts = flat.parts(flat.params)
    assert list(parts) == ["audio.encoder", "audio.head"]
    assert [len(array) for array in parts.values()] == [part_size(part, MODEL, SHAPES) for part in parts]
    kept = parts["audio.head"].copy()
    flat.params.zero_()
    assert np.array_equal(parts["audio.head"], kept)


def test_a_process_keeps_one_network_of_a_name_and_size():
    assert flat_network("audio", MODEL, SHAPES) is flat_network("audio", MODEL, SHAPES)
    assert flat_network("audio", MODEL, SHAPES) is not flat_network("video", MODEL, SHAPES)


def test_named_tensors_are_the_parameters_by_module():
    params = params_of("audio")
    tensors = named_tensors("audio", params, MODEL, SHAPES)
    assert tensors["audio.encoder.gru.weight_ih_l0"].shape == (18, 5)
    assert tensors["audio.head.classes.bias"].shape == (4,)
    assert sum(tensor.numel() for tensor in tensors.values()) == sum(map(len, params.values()))
    plain = Network("audio", MODEL, SHAPES)
    for part in PARTS["audio"]:
        own = {key.removeprefix(f"{part}."): value for key, value in tensors.items() if key.startswith(part)}
        part_of(plain, part).load_state_dict(own)
    batch = make_batch()
    assert plain(batch).logits_BC.equal(make("audio").network(batch).logits_BC)
