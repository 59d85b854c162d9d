from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_ray.config import FeatureConfig, PartitionConfig
from mm_ray.data.feature_table import FeatureTable
from mm_ray.data.partition import make_clients, partition, video_missing
from mm_ray.errors import UserError


def make_table(num_clips=60, num_groups=6, video=True):
    lengths = np.ones(num_clips, np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return FeatureTable(
        audio_flat_XF=np.zeros((num_clips, 2), np.float16),
        audio_offsets_N1=offsets,
        video_flat_XD=np.zeros((num_clips, 3), np.float16) if video else None,
        video_offsets_N1=offsets if video else np.zeros_like(offsets),
        labels_N=np.arange(num_clips) % 3,
        groups_N=np.arange(num_clips) % num_groups,
        group_names=tuple(map(str, range(num_groups))),
        splits_N=(np.arange(num_clips) % 5 == 0).astype(np.int8),
        clip_ids_N=np.arange(num_clips).astype(str),
        class_names=("a", "b", "c"),
        features=FeatureConfig(),
        fingerprint="f",
    )


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=12, max_size=80),
    num_clients=st.integers(1, 6),
    min_clips=st.integers(1, 2),
    alpha=st.sampled_from([1e-3, 0.1, 1.0, 100.0]),
    seed=st.integers(0, 1000),
)
def test_dirichlet_gives_every_clip_once_and_everyone_enough(labels, num_clients, min_clips, alpha, seed):
    labels_N, rows_R = np.array(labels), np.arange(0, len(labels))[::-1]
    config = PartitionConfig(num_clients=num_clients, alpha=alpha, min_clips=min_clips)
    shares = partition(labels_N, np.zeros_like(labels_N), rows_R, config, seed)
    assert len(shares) == num_clients
    assert sorted(np.concatenate(shares)) == sorted(rows_R)
    assert min(map(len, shares)) >= min_clips
    assert all((np.diff(share) > 0).all() for share in shares)
    again = partition(labels_N, np.zeros_like(labels_N), rows_R, config, seed)
    assert all(np.array_equal(one, other) for one, other in zip(shares, again, strict=True))


@given(num_clients=st.integers(1, 100), seed=st.integers(0, 1000), low=st.floats(0, 1), high=st.floats(0, 1))
def test_video_is_missing_at_exact_nested_counts(num_clients, seed, low, high):
    low, high = min(low, high), max(low, high)
    few, many = video_missing(num_clients, low, seed), video_missing(num_clients, high, seed)
    assert (len(few), len(many)) == (round(low * num_clients), round(high * num_clients))
    assert set(few) <= set(many)


def test_alpha_is_the_evenness():
    labels_N = np.arange(3000) % 3

    def spread(alpha):
        config = PartitionConfig(num_clients=10, alpha=alpha, min_clips=1)
        return np.std([len(share) for share in partition(labels_N, labels_N, np.arange(3000), config, 0)])

    assert spread(1000.0) < 10 < spread(0.1)


def test_seeds_differ():
    table = make_table()
    config = PartitionConfig(num_clients=4)
    one, other = ([c.indices.tolist() for c in make_clients(table, config, seed)] for seed in (0, 1))
    assert one != other


def test_natural_is_one_client_a_group():
    clients = make_clients(make_table(), PartitionConfig(kind="natural", video_missing=0), 0)
    assert [client.indices[:2].tolist() for client in clients[:2]] == [[6, 12], [1, 7]]
    assert len(clients) == 6
    assert sum(client.num_clips for client in clients) == len(make_table().rows("train"))


def test_clients_hold_training_rows_only_and_exact_counts_lack_video():
    table = make_table()
    clients = make_clients(table, PartitionConfig(num_clients=8, video_missing=0.5, min_clips=2), 3)
    assert sorted(np.concatenate([client.indices for client in clients])) == table.rows("train").tolist()
    assert [client.id for client in clients] == list(range(8))
    assert sum(client.modalities == ("audio",) for client in clients) == 4
    assert sum(client.modalities == ("audio", "video") for client in clients) == 4


def without_video(table, rows):
    """The table, in which these rows have no video."""
    lengths = np.ones(table.num_clips, np.int64)
    lengths[rows] = 0
    return replace(table, video_offsets_N1=np.concatenate([[0], np.cumsum(lengths)]))


def test_a_group_of_both_kinds_is_two_clients():
    table = without_video(make_table(), [6, 1, 7, 13, 19, 31, 37, 43, 49])  # one clip of group 0, all of group 1
    clients = make_clients(table, PartitionConfig(kind="natural", video_missing=0), 0)
    assert [(c.indices.tolist(), len(c.modalities)) for c in clients[:3]] == [
        ([12, 18, 24, 36, 42, 48, 54], 2),
        ([6], 1),
        ([1, 7, 13, 19, 31, 37, 43, 49], 1),
    ]
    assert len(clients) == 7
    half = make_clients(table, PartitionConfig(kind="natural", video_missing=0.5), 0)
    assert sum(len(c.modalities) == 1 for c in half) == 4  # round(3.5), the two that never had video among them


def test_clips_without_video_are_shared_out_among_the_clients_that_lack_it():
    table = without_video(make_table(), np.arange(0, 60, 3))
    for seed in range(20):
        config = PartitionConfig(num_clients=6, min_clips=3, alpha=0.1, video_missing=0.5)
        clients = make_clients(table, config, seed)
        assert sorted(np.concatenate([client.indices for client in clients])) == table.rows("train").tolist()
        assert min(client.num_clips for client in clients) >= 3
        assert {c.id for c in clients if c.modalities == ("audio",)} == set(video_missing(6, 0.5, seed))
        assert all(table.has_video(c.indices).all() for c in clients if c.modalities == ("audio", "video"))


def test_one_clip_without_video_moves_no_clip_that_has_it():
    """Where nobody has too few, the shares of the clips with video are those that they had without the other clip."""
    table, config = make_table(300), PartitionConfig(num_clients=4, min_clips=1, alpha=100.0)
    table = replace(table, splits_N=np.zeros(300, np.int8))
    fewer = make_clients(replace(table, splits_N=np.where(np.arange(300) == 299, 1, 0).astype(np.int8)), config, 0)
    lacking = video_missing(4, 0.5, 0)
    for before, after in zip(fewer, make_clients(without_video(table, [299]), config, 0), strict=True):
        more = set(after.indices.tolist()) - set(before.indices.tolist())
        assert set(before.indices.tolist()) <= set(after.indices.tolist())
        assert not more or (more == {299} and after.id in lacking)


def test_the_shares_of_data_in_which_every_clip_has_video_are_those_of_the_first_version():
    clients = make_clients(make_table(), PartitionConfig(num_clients=4, min_clips=2), 3)
    first_five = [[9, 16, 17, 24, 27], [4, 6, 7, 8, 13], [3, 11, 12, 18, 22], [1, 2, 31, 34, 36]]
    assert [client.indices[:5].tolist() for client in clients] == first_five
    assert [len(client.modalities) for client in clients] == [2, 2, 1, 1]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (range(60), {}, r"^--data: none of its 48 training clips has video"),
        (
            range(3),
            {"video_missing": 0.0},
            r" 0.0: 2 of 48 training clips have no video, and .* at least 0.25, or",
        ),
        (range(3), {"video_missing": 1.0}, r"video_missing 1.0: leaves no client with video"),
        (
            range(40),
            {"video_missing": 0.25},
            r" 0.25: 16 of 48 .* enough for 2 of the 3 .* use at least 0.5, or",
        ),
        (
            range(55),
            {"video_missing": 0.5},
            r" 0.5: 4 of 48 .* enough for 0 of the 2 clients with video; use fewer --partition",
        ),
    ],
)
def test_kinds_of_clips_that_do_not_go_round(rows, options, message):
    config = PartitionConfig(num_clients=4, min_clips=8, **options)
    with pytest.raises(UserError, match=message):
        make_clients(without_video(make_table(), list(rows)), config, 0)


def test_too_many_clients_are_refused_with_how_many_fit():
    with pytest.raises(UserError, match=r"^--partition.num_clients 40: 48 training .*fill only 9 clients; use at most 9$"):
        make_clients(make_table(), PartitionConfig(num_clients=40), 0)


@pytest.mark.parametrize("missing", [0.95, 1.0])
def test_no_teacher_is_refused(missing):
    with pytest.raises(UserError, match=rf"^--partition.video_missing {missing}: .*no teacher; use at most 0.75$"):
        make_clients(make_table(), PartitionConfig(num_clients=4, video_missing=missing), 0)


def test_data_without_video_is_refused():
    with pytest.raises(UserError, match=r"^--data: this data has no video"):
        make_clients(make_table(video=False), PartitionConfig(num_clients=4), 0)
