"""Dropout masks: rates, and the same mask alone and stacked."""

import pytest
import torch

from mm_ray.models.dropout import StackedDropout, draw, dropout, kept
from mm_ray.seeding import torch_stream


def test_values_are_dropped_at_the_rate_and_the_others_scaled():
    values = torch.ones(200, 50, 20)
    dropped = dropout(values, 0.25, torch_stream(0, "d"))
    assert sorted(set(dropped.flatten().tolist())) == pytest.approx([0.0, 4 / 3])
    assert (dropped == 0).float().mean() == pytest.approx(0.25, abs=0.005)
    assert dropped.mean() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("probability", [1 / 65536, 0.1, 0.5])
def test_the_extremes_of_a_lane(probability):
    lanes = torch.tensor([-32768, 32767], dtype=torch.int16)
    assert kept(lanes, probability).tolist() == pytest.approx([0.0, 1 / (1 - probability)])


def test_without_a_generator_or_a_probability_nothing_changes():
    values = torch.randn(3, 4)
    assert dropout(values, 0.5, None) is values
    assert dropout(values, 0.0, torch_stream(0, "d")) is values


def test_a_draw_goes_on_where_the_last_one_ended():
    whole, cut = torch_stream(0, "d"), torch_stream(0, "d")
    device = torch.device("cpu")
    assert draw(16, whole, device).tolist() == [*draw(8, cut, device).tolist(), *draw(8, cut, device).tolist()]


@pytest.mark.parametrize(("rows", "steps"), [((3, 3), (5, 5)), ((3, 1), (5, 5)), ((2, 3), (4, 5)), ((1, 3), (5, 2))])
def test_a_client_has_the_mask_that_it_has_alone(rows, steps):
    def generators():
        return [torch_stream(0, "d", client) for client in range(2)]

    stacked = StackedDropout(generators(), 0.3, rows).mask(steps, (max(rows), max(steps), 7))
    for own, generator, num_rows, num_steps in zip(stacked, generators(), rows, steps, strict=True):
        alone = dropout(torch.ones(num_rows, num_steps, 7), 0.3, generator)
        assert own[:num_rows, :num_steps].equal(alone)
        assert 0 < (alone == 0).sum() < alone.numel()


def test_no_probability_no_mask():
    assert StackedDropout([torch_stream(0, "d")], 0.0, (3,)).mask([2], (3, 2, 4)) is None
