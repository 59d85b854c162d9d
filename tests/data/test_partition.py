from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_ray.config import FeatureConfig, PartitionConfig
from mm_ray.data.partition import make_clients, partition, video_missing
from mm_ray.data.table import FeatureTable
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


def test_a_client_with_a_clip_without_video_is_audio_only():
    table = make_table()
    offsets = np.minimum(table.video_offsets_N1, 55)
    clients = make_clients(replace(table, video_offsets_N1=offsets), PartitionConfig(kind="natural", video_missing=0), 0)
    lacking = {int(table.groups_N[row]) for row in table.rows("train") if row >= 55}
    assert {client.id for client in clients if client.modalities == ("audio",)} == lacking


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
