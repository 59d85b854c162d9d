"""The batches of several clients in one piece hold what each client's own batch holds."""

import numpy as np
import pytest
import torch
from fed.tiny import table_of, tiny_config

from mm_ray.data.batching import Frames, gather, gather_stacked

ROWS = [np.array([3, 60, 7]), np.array([41]), np.array([12, 0, 79])]


@pytest.fixture(scope="module")
def table():
    return table_of(tiny_config().data)


def labels_of(table):
    return [table.labels_N[rows] for rows in ROWS]


@pytest.fixture
def stacked(table):
    return gather_stacked(table, ROWS, labels_of(table), ("audio", "video"), torch.device("cpu"))


def test_each_client_s_clips(table, stacked):
    assert stacked.rows_K == (3, 1, 3)
    for k, rows in enumerate(ROWS):
        own = gather(table, rows, ("audio", "video"))
        audio, video = stacked.audio_BTKF[: len(rows), :, k], stacked.video_KSBD[k, :, : len(rows)].transpose(0, 1)
        for ours, theirs in ((audio, own.audio_BTF), (video, own.video_BSD)):
            steps = theirs.shape[1]
            assert ours[:, :steps].equal(theirs)
            assert not ours[:, steps:].any()
        assert stacked.audio_lengths_KB[k, : len(rows)].tolist() == own.audio_lengths_B.tolist()
        assert stacked.video_lengths_KB[k, : len(rows)].tolist() == own.video_lengths_B.tolist()
        assert stacked.labels_KB[k, : len(rows)].equal(own.labels_B)
        assert stacked.indices_KB[k, : len(rows)].tolist() == rows.tolist()


def test_rows_that_fill_up_are_real_clips(table, stacked):
    assert stacked.indices_KB[1].tolist() == [41, 41, 41]
    assert (stacked.audio_lengths_KB > 0).all()


def test_a_modality_that_is_not_asked_for(table):
    batch = gather_stacked(table, ROWS, labels_of(table), ("video",), torch.device("cpu"))
    assert batch.audio_BTKF is None
    assert batch.audio_lengths_KB is None
    assert batch.video_KSBD is not None


def test_frames_on_a_device_are_those_on_the_host():
    flat = np.arange(24, dtype=np.float16).reshape(8, 3)
    rows, past = np.array([[0, 1, 2], [6, 7, 8]]), np.array([[False, False, True], [False, False, True]])
    host, there = Frames(flat, None), Frames(flat, torch.from_numpy(flat.copy()))
    for where in (past, None):
        assert torch.equal(host.take(rows, where), there.take(rows, where))
