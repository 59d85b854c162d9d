"""The device of a client actor."""

import pytest
import ray
import torch

from mm_ray.errors import EnvironmentFailure
from mm_ray.runtime.device import select_device


def test_a_gpu_that_torch_does_not_find_is_no_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(ray, "get_gpu_ids", list)
    assert select_device() == "cpu"
    monkeypatch.setattr(ray, "get_gpu_ids", lambda: [3])
    with pytest.raises(EnvironmentFailure, match=r"client actor GPU 3 on .*finds none there; .*--clients.num_gpus 0$"):
        select_device()
