"""Logits over rows: clips of like length share a batch, and each answer stands where its clip stood."""

import numpy as np
import torch

from mm_ray.fed import evaluation
from mm_ray.models.layers import Output
from mm_ray.types import Batch


def test_every_answer_stands_where_its_clip_stood(monkeypatch):
    monkeypatch.setattr(evaluation, "OUTPUT_CLIPS", 3)
    lengths, seen = np.array([5, 1, 9, 1, 7, 2, 3]), []

    def gather(some):
        seen.append(some.tolist())
        return Batch(None, None, None, None, torch.from_numpy(some), some)

    def network(batch):
        assert torch.is_inference_mode_enabled()
        return Output(torch.stack([batch.labels_B * 1.0, batch.labels_B * 10.0], 1), torch.zeros(len(batch.labels_B), 1))

    logits = evaluation.outputs_of(network, gather, lengths)[0]
    assert logits.tolist() == [[i, 10 * i] for i in range(7)]
    assert logits.dtype == np.float32
    assert seen == [[1, 3, 5], [6, 0, 4], [2]]
