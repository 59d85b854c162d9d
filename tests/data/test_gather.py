import pickle
import warnings

import numpy as np
import pytest
import torch

from mm_ray.config import FeatureConfig
from mm_ray.data.batching import gather
from mm_ray.data.feature_table import FeatureTable
from mm_ray.types import Shapes


def make_table(video=True):
    """Three clips of 2, 1 and 3 audio frames (2 bins) and 1, 0 and 2 video frames (3 features)."""
    table = FeatureTable(
        audio_flat_XF=np.arange(1, 13, dtype=np.float16).reshape(6, 2),
        audio_offsets_N1=np.array([0, 2, 3, 6]),
        video_flat_XD=np.arange(1, 10, dtype=np.float16).reshape(3, 3) if video else None,
        video_offsets_N1=np.array([0, 1, 1, 3]) if video else np.zeros(4, np.int64),
        labels_N=np.array([0, 1, 0]),
        groups_N=np.array([0, 0, 1]),
        group_names=("x", "y"),
        splits_N=np.array([0, 2, 0], np.int8),
        clip_ids_N=np.array(["a", "b", "c"]),
        class_names=("no", "yes"),
        features=FeatureConfig(),
        fingerprint="f",
    )
    for value in vars(table).values():
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
    return table


def test_values_are_equal_and_padding_is_zero():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batch = gather(make_table(), np.array([2, 1]), ("audio", "video"))
    assert batch.audio_BTF.tolist() == [[[7, 8], [9, 10], [11, 12]], [[5, 6], [0, 0], [0, 0]]]
    assert batch.audio_lengths_B.tolist() == [3, 1]
    assert batch.video_BSD.tolist() == [[[4, 5, 6], [7, 8, 9]], [[0, 0, 0], [0, 0, 0]]]
    assert batch.video_lengths_B.tolist() == [2, 0]
    assert batch.labels_B.tolist() == [0, 1]
    assert batch.indices_B.tolist() == [2, 1]
    assert batch.audio_BTF.dtype == batch.video_BSD.dtype == torch.float32
    assert batch.size == 2


def test_the_longest_clip_of_the_batch_decides_the_padding():
    assert gather(make_table(), np.array([1]), ("audio",)).audio_BTF.shape == (1, 1, 2)


@pytest.mark.parametrize(("modalities", "video", "present"), [(("audio",), True, "audio"), (("video",), True, "video")])
def test_a_modality_that_is_not_asked_for_is_none(modalities, video, present):
    batch = gather(make_table(video), np.array([0]), modalities)
    assert (batch.audio_BTF is None, batch.audio_lengths_B is None) == (present == "video",) * 2
    assert (batch.video_BSD is None, batch.video_lengths_B is None) == (present == "audio",) * 2


def test_a_modality_that_the_data_lacks_is_none():
    assert gather(make_table(video=False), np.array([0]), ("audio", "video")).video_BSD is None


def test_padding_hides_nothing_that_is_not_finite():
    table = make_table()
    table.audio_flat_XF.flags.writeable = True
    table.audio_flat_XF[3:] = np.inf
    batch = gather(table, np.array([0, 1]), ("audio",))
    assert batch.audio_BTF.tolist() == [[[1, 2], [3, 4]], [[5, 6], [0, 0]]]


def test_table_answers():
    table = make_table()
    assert table.rows("train").tolist() == [0, 2]
    assert table.rows("dev").tolist() == []
    assert table.shapes == Shapes(2, 3, 2)
    assert make_table(video=False).shapes.video_features == 0
    rows = np.array([2, 1])
    assert table.has_video(rows).tolist() == [True, False]
    assert table.audio_lengths(rows).tolist() == [3, 1]
    assert table.num_clips == 3


def test_arrays_pickle_out_of_band():
    buffers = []
    blob = pickle.dumps(make_table(), protocol=5, buffer_callback=buffers.append)
    copy = pickle.loads(blob, buffers=buffers)
    assert copy.audio_flat_XF.tolist() == make_table().audio_flat_XF.tolist()
    assert len(buffers) >= 7
