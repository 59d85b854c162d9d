"""Data that lacks a split: one line, or dev clips from train; by hand-made tables."""

from dataclasses import replace

import numpy as np
import pytest
from data.test_partition import make_table
from fed.tiny import table_of, tiny_config

from mm_ray.data.load import with_dev_from_train
from mm_ray.errors import UserError
from mm_ray.fed.experiment import plan_experiment
from mm_ray.types import UNLABELLED


def with_splits(codes):
    """60 clips in 6 groups of 10, each with all 3 classes; a split for each group."""
    table = make_table()
    return replace(table, labels_N=np.arange(60) // 6 % 3, splits_N=np.array(codes, np.int8)[table.groups_N])


@pytest.mark.parametrize(
    ("codes", "problem"),
    [
        ((0, 0, 0, 0, 0, 2), r"^--data mine: has no dev clips \(50 train, 0 dev, 10 test\).*--data.dev_from_train 0.2"),
        ((0, 0, 0, 0, 1, 1), r"^--data mine: has no test clips \(40 train, 20 dev, 0 test\)"),
        ((1, 1, 1, 2, 2, 2), r"^--data mine: has no clips to train on \(0 train, 30 dev, 30 test\)"),
    ],
)
def test_an_empty_split_is_refused(codes, problem):
    with pytest.raises(UserError, match=problem):
        with_splits(codes).check_splits("mine")


def test_a_split_without_video_is_refused():
    table = with_splits((0, 0, 0, 0, 1, 2))
    table.check_splits("mine")
    lengths = np.where(table.splits_N == 1, 0, 1)
    with pytest.raises(UserError, match=r"^--data mine: no dev clip has video"):
        replace(table, video_offsets_N1=np.concatenate([[0], np.cumsum(lengths)])).check_splits("mine")


def test_a_run_without_dev_clips_does_not_begin():
    config = tiny_config()
    table = table_of(config.data)
    with pytest.raises(UserError, match=r"^--data synthetic: has no dev clips"):
        plan_experiment(config, replace(table, splits_N=np.where(table.splits_N == 1, 2, table.splits_N)))


def test_dev_clips_are_taken_from_train_by_group(caplog):
    table = with_splits((0, 0, 0, 0, 0, 2))
    taken = with_dev_from_train(table, 0.4)
    homes = {int(group): set(taken.splits_N[taken.groups_N == group].tolist()) for group in range(6)}
    assert all(len(splits) == 1 for splits in homes.values())
    assert homes[5] == {2}
    assert sum(splits == {1} for splits in homes.values()) == 2  # two of five groups
    assert taken.fingerprint != table.fingerprint
    assert with_dev_from_train(table, 0.4).fingerprint == taken.fingerprint != with_dev_from_train(table, 0.2).fingerprint
    assert "--data.dev_from_train 0.4: 20 of 50 training clips (2 of 5 groups) are the dev split now" in caplog.text
    assert with_dev_from_train(table, 0.0) is table
    hidden = replace(table, labels_N=np.where(np.isin(table.groups_N, (0, 1)), UNLABELLED, table.labels_N))
    again = with_dev_from_train(hidden, 0.4)
    assert {int(group) for group in again.groups_N[again.rows("dev")]} < {2, 3, 4}  # dev clips need their class


@pytest.mark.parametrize(
    ("codes", "problem"),
    [
        ((0, 0, 0, 0, 1, 2), r"^--data.dev_from_train 0.2: the data has 10 dev clips of its own; leave it out$"),
        ((0, 0, 2, 2, 2, 2), r"^--data.dev_from_train 0.2: no class has three groups"),
    ],
)
def test_dev_clips_that_cannot_or_need_not_be_taken(codes, problem):
    with pytest.raises(UserError, match=problem):
        with_dev_from_train(with_splits(codes), 0.2)
