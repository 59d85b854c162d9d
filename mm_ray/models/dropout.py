"""Dropout masks from explicit generators: 16 random bits a value, so that a draw costs a seventh of `bernoulli_`.

A mask is drawn in the order clip, step, channel, and depends on nothing but its size, the probability and the generator. So
a client's masks are the same whether it is trained alone or stacked with others (`mm_ray.models.batched.network`).

Shape suffixes: B batch, T steps, C channels, K clients.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

LANES = 4
"""Values per 64-bit draw."""
LANE_VALUES = 1 << 16


def dropout(values: Tensor, probability: float, generator: torch.Generator | None) -> Tensor:
    """Inverted dropout of (B, C) or (B, T, C) with an explicit generator; the identity without one."""
    if generator is None or probability == 0:
        return values
    lanes = draw(values.numel(), generator, values.device)
    return values * kept(lanes[: values.numel()].view(values.shape), probability)


def draw(count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """At least `count` random int16, whole draws of 64 bits."""
    words = torch.empty(num_words(count), dtype=torch.int64, device=device)
    return words.random_(-(2**63), None, generator=generator).view(torch.int16)


def num_words(count: int) -> int:
    """64-bit draws for this many values."""
    return -(-count // LANES)


def kept(lanes: Tensor, probability: float) -> Tensor:
    """0 for a dropped value, 1 / (1 - probability) for a kept one; the probability is rounded to 1/65,536."""
    mask = torch.empty(lanes.shape, device=lanes.device)
    torch.ge(lanes, round(probability * LANE_VALUES) - LANE_VALUES // 2, out=mask)
    return mask.div_(1 - probability)


class StackedDropout:
    """The masks of K clients for one batch each.

    Args:
        generators: One per client; each is asked for the client's own number of values, as `dropout` would.
        probability: Of dropping a value.
        rows_K: Clips in each client's batch.

    """

    def __init__(self, generators: Sequence[torch.Generator], probability: float, rows_K: Sequence[int]) -> None:
        self._generators, self._probability, self._rows_K = generators, probability, rows_K

    def mask(self, steps_K: Sequence[int], shape_BTC: tuple[int, int, int]) -> Tensor | None:
        """A mask (K, B, T, C) for values of which client k has `rows_K[k]` clips and `steps_K[k]` steps; None: keep all."""
        if self._probability == 0:
            return None
        num_channels = shape_BTC[2]
        counts = [rows * steps * num_channels for rows, steps in zip(self._rows_K, steps_K, strict=True)]
        device = self._generators[0].device
        words_KW = torch.empty(len(counts), num_words(max(counts)), dtype=torch.int64, device=device)
        for words, count, generator in zip(words_KW, counts, self._generators, strict=True):
            words[: num_words(count)].random_(-(2**63), None, generator=generator)
        return kept(self._placed(words_KW.view(torch.int16), counts, steps_K, shape_BTC), self._probability)

    def _placed(self, lanes_KL: Tensor, counts: list[int], steps_K: Sequence[int], shape_BTC: tuple[int, int, int]) -> Tensor:
        num_rows, num_steps, num_channels = shape_BTC
        full = num_rows * num_steps * num_channels
        if min(counts) == full:
            return lanes_KL[:, :full].view(-1, *shape_BTC)
        placed = lanes_KL.new_zeros(len(counts), *shape_BTC)
        for own, lanes, count, rows, steps in zip(placed, lanes_KL, counts, self._rows_K, steps_K, strict=True):
            own[:rows, :steps] = lanes[:count].view(rows, steps, num_channels)
        return placed
