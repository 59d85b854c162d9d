from dataclasses import replace

import numpy as np
import pytest

from mm_ray.config import DataConfig, SyntheticConfig
from mm_ray.data.datasets import synthetic
from mm_ray.errors import UserError
from mm_ray.types import UNLABELLED

DIALS = SyntheticConfig(num_classes=4, num_groups=10, clips_per_class=20, labelled=1.0)


def read(**dials):
    return synthetic.read(DataConfig(synthetic=replace(DIALS, **dials)))


@pytest.mark.parametrize("dials", [{}, {"num_groups": 3}, {"num_groups": 40, "clips_per_class": 10}, {"num_classes": 2}])
def test_groups_never_cross_a_split_and_every_class_is_in_each(dials):
    manifest = read(**dials, label_noise=0.0)
    homes = {clip.group: clip.splits for clip in manifest.clips}
    assert all(homes[clip.group] == clip.splits for clip in manifest.clips)
    for split in ("train", "dev", "test"):
        assert len({clip.label for clip in manifest.clips if clip.splits == (split,)}) == len(manifest.class_names)


def test_of_ten_groups_five_train_and_four_test():
    splits = [clip.splits[0] for clip in read().clips]
    assert [splits.count(split) for split in ("train", "dev", "test")] == [40, 8, 32]


def test_labels_of_training_clips_are_hidden_and_nested():
    few, more, whole = (read(labelled=share, label_noise=0.3).clips for share in (0.25, 0.5, 1.0))
    known_few, known_more = ({clip.id: clip.label for clip in clips if clip.label != UNLABELLED} for clips in (few, more))
    assert known_few.items() < known_more.items() < {clip.id: clip.label for clip in whole}.items()
    hidden = [clip for clip in few if clip.label == UNLABELLED]
    assert {clip.splits for clip in hidden} == {("train",)}
    assert 0.5 < len(hidden) / 40 < 0.95


def test_label_noise_flips_training_labels_only_and_is_nested():
    clean, some, more = (read(label_noise=noise).clips for noise in (0.0, 0.3, 0.6))
    flipped_some, flipped_more = (
        {a.id for a, b in zip(noisy, clean, strict=True) if a.label != b.label} for noisy in (some, more)
    )
    assert {clip.splits for clip in some if clip.id in flipped_some} == {("train",)}
    assert flipped_some < flipped_more
    assert 0.1 < len(flipped_some) / 40 < 0.5
    assert [clip.source for clip in some] == [clip.source for clip in clean]


def test_recordings_are_seeded_and_in_range():
    data = DataConfig(synthetic=DIALS)
    clips = synthetic.read(data).clips
    one, again, other = (synthetic.load(clip, data) for clip in (clips[0], clips[0], clips[4]))
    assert np.array_equal(one.waveform_N, again.waveform_N)
    assert np.array_equal(one.frames, again.frames)
    assert not np.array_equal(one.frames, other.frames)
    assert one.waveform_N.dtype == np.float32
    assert 0.8 * 16_000 <= len(one.waveform_N) <= 1.2 * 16_000
    assert np.abs(one.waveform_N).max() <= 1
    assert (one.frames.shape, one.frames.dtype) == ((8, 24, 24), np.uint8)


def test_seed_and_dials_change_the_source():
    sources = {read(**dials).clips[0].source for dials in ({}, {"data_seed": 1}, {"audio_snr_db": 3.0}, {"video_noise": 0.1})}
    assert len(sources) == 4


def test_too_few_groups():
    with pytest.raises(UserError, match=r"^--data.synthetic.num_groups 2: needs at least 3"):
        read(num_groups=2)
