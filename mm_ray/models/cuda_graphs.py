"""A function of tensors that a GPU replays: one launch in place of some hundreds, forward and backward (CUDA graphs).

A training step of a small network is a few hundred short kernels, and the host takes longer to launch one than the card to run
it. The kernels are the same as without a graph, so the bits are (tests/models/test_cuda_graphs.py, on a GPU).
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor

from mm_ray.models.layers import Output

Named = Mapping[str, Tensor]
Captured = Callable[..., tuple[Tensor, Tensor]]
Key = tuple[tuple[str, torch.Size], ...]
SEEN = 2
"""Times that tensors of some shapes must come before they are worth a graph: capturing one takes as long as some ten steps."""
MOST_GRAPHS = 16
"""Each holds its activations for good."""


class Graphs:
    """Runs a function as it is on a CPU, and from its graph on a GPU once its shapes have come back.

    Args:
        function: Of weights, which want gradients and always lie in the same memory, and of given tensors.

    """

    def __init__(self, function: Callable[[Named, Named], Output]) -> None:
        self._function = function
        self._seen: Counter[Key] = Counter()
        self._captured: dict[Key, Captured] = {}

    def run(self, weights: Named, given: Named) -> Output:
        """The function's result. On a GPU its tensors are written over by the next call."""
        if next(iter(weights.values())).device.type == "cpu":
            return self._function(weights, given)
        key = tuple((name, tensor.shape) for name, tensor in (*given.items(), *weights.items()))
        self._seen[key] += 1
        if key not in self._captured and self._seen[key] >= SEEN and len(self._captured) < MOST_GRAPHS:
            self._captured[key] = self._capture(weights, given)
        if key not in self._captured:
            return self._function(weights, given)
        logits_KBC, features_KBH = self._captured[key](*given.values(), *weights.values())
        return Output(logits_KBC, features_KBH)

    def _capture(self, weights: Named, given: Named) -> Captured:
        names, count = tuple(given), len(given)

        def flat(*tensors: Tensor) -> tuple[Tensor, Tensor]:
            own = dict(zip(weights, tensors[count:], strict=True))
            output = self._function(own, dict(zip(names, tensors[:count], strict=True)))
            return output.logits_BC, output.features_BH

        sample = (*(tensor.clone() for tensor in given.values()), *weights.values())
        return cast(Captured, torch.cuda.make_graphed_callables(flat, sample))
