"""`clients.num_gpus auto`: a chunk is measured, and actors share a GPU as its memory allows. No GPU: limits are stated."""

import pytest
from fed.tiny import Run, table_of, tiny_config, tiny_plan

from mm_ray.errors import UserError
from mm_ray.fed import measured_cost
from mm_ray.fed.measured_cost import ChunkCost, chunks_to_measure, measure_chunk
from mm_ray.runtime import gpu_sharing
from mm_ray.runtime.cluster import Cluster, Node
from mm_ray.runtime.device import DeviceMemory, device_memory
from mm_ray.runtime.gpu_sharing import CONTEXT_BYTES, GIB, actors_per_gpu, before_measuring, measure, share_gpus
from mm_ray.runtime.placement import place_run

MEMORY = DeviceMemory(10 * GIB, 16 * GIB)  # 8 GiB of it are used


def costs(*peaks_gib, first=8):
    """Of a chunk of `first` clients and its halves."""
    return [ChunkCost(-(-first // 2**i), int(peak * GIB), 0.012) for i, peak in enumerate(peaks_gib)]


@pytest.mark.parametrize(
    ("peak_gib", "most", "actors"),
    [(1, 4, 4), (1, 2, 2), (2.5, 4, 2), (2, 4, 3), (3.7, 4, 2), (3.71, 4, 1), (8, 4, 1), (1, 0, 1)],
)
def test_as_many_actors_as_fit(peak_gib, most, actors):
    share = actors_per_gpu(costs(peak_gib), MEMORY, most)
    assert share.actors == actors
    assert actors * share.num_gpus <= 1 < (actors + 1) * share.num_gpus
    assert share.used_bytes == actors * costs(peak_gib)[0].peak_bytes + (actors - 1) * CONTEXT_BYTES <= 0.8 * MEMORY.free_bytes


def test_the_choice_is_one_line():
    line = actors_per_gpu(costs(1.5, first=50), MEMORY, 3).line()
    assert line == ("GPU: 3 client actors per GPU, chunks of 50 clients, 5.7 of 16 GiB; a training step of a chunk takes 12 ms")
    assert "1 client actor per GPU, chunks of 1 client, 6.0 of 16 GiB" in actors_per_gpu(costs(6, first=1), MEMORY, 4).line()


@pytest.mark.parametrize(
    ("found", "wanted", "message"),
    [
        (costs(9, 5), 0, r"^--clients\.chunk_size 8: a chunk needs 9\.0 GiB, and .* 8\.0 GiB are free for it; use 4$"),
        (costs(30, 15, 7.9), 0, r"^--clients\.chunk_size 8: .*; use 2$"),
        (costs(30, 15, 9, 8.1), 0, r"^--clients\.num_gpus auto: .*a single client does not fit; use 0 to train on the CPU"),
        (costs(3), 3, r"^--clients\.num_actors 3: each client actor needs 3\.0 GiB, .*; use 2 per GPU, or 0"),
        (
            [ChunkCost(8, GIB, 1.0, fits=False), *costs(1, first=4)],
            0,
            r"^--clients\.chunk_size 8: a chunk needs more than 1\.0 GiB",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(found, wanted, message):
    with pytest.raises(UserError, match=message):
        actors_per_gpu(found, MEMORY, 4, wanted)


def test_the_users_number_of_actors_is_taken_if_it_fits():
    assert actors_per_gpu(costs(0.1), MEMORY, 4, wanted=7).actors == 7


def plans_of(overrides=()):
    return [tiny_plan({"clients.num_gpus": "auto", **dict(overrides)})]


def test_without_a_gpu_auto_trains_on_the_cpu(capsys):
    cluster, plans = Cluster("test", (Node(4.0),)), plans_of()
    clients = plans[0].config.clients
    assert before_measuring(clients, cluster).num_gpus == 0
    assert share_gpus(plans, table_of(plans[0].config.data), cluster).num_gpus == 0
    assert capsys.readouterr().out == "--clients.num_gpus auto: no GPU here, so the clients train on the CPU\n"
    given = tiny_plan({"clients.num_gpus": 0.5})
    assert share_gpus([given], None, cluster) is given.config.clients


@pytest.mark.parametrize(
    ("overrides", "nodes", "per_trial", "actors"),
    [
        ({"clients.chunk_size": 1}, [Node(8.0, 1.0)], False, 4),  # a cohort of 4 clients, so 4 chunks
        ({"clients.chunk_size": 2}, [Node(8.0, 1.0)], False, 2),
        ({"clients.chunk_size": 2}, [Node(8.0, 1.0)], True, 4),
        ({"clients.chunk_size": 1}, [Node(8.0, 1.0), Node(8.0, 1.0)], False, 2),
        ({"clients.chunk_size": 1}, [Node(3.0, 1.0)], False, 3),
        ({"clients.num_actors": 2}, [Node(8.0, 1.0)], False, 2),
    ],
)
def test_no_more_actors_than_chunks_and_cpus(monkeypatch, capsys, overrides, nodes, per_trial, actors):
    cluster, plans = Cluster("test", tuple(nodes)), plans_of(overrides)
    monkeypatch.setattr(gpu_sharing, "measure", lambda *_: (costs(0.1), MEMORY))
    clients = share_gpus(plans, None, cluster, per_trial)
    assert f"GPU: {actors} client actors per GPU" in capsys.readouterr().out
    assert place_run(clients, cluster).num_actors == actors * len(nodes)


def test_a_chunk_is_measured_on_an_actor_and_halved_until_it_fits(local_ray, monkeypatch):
    plans = plans_of({"clients.num_cpus": 0.25, "clients.chunk_size": 4})
    on_cpu = tiny_config({"clients.num_cpus": 0.25, "clients.chunk_size": 4}).clients
    sizes = iter([False, False, True])
    monkeypatch.setattr(gpu_sharing, "fits", lambda cost, memory: next(sizes))
    found, memory = measure(plans, table_of(plans[0].config.data), on_cpu)
    assert [cost.num_clients for cost in found] == [4, 2, 1]
    assert all(0 < cost.peak_bytes < memory.total_bytes for cost in found)
    assert all(0 < cost.step_s < 60 for cost in found)


def test_the_most_expensive_chunk_of_each_training_phase_is_measured():
    plan = tiny_plan({"clients.chunk_size": 2})
    jobs = chunks_to_measure(plan.method.phases, plan.federation, 2)
    assert [job.phase.name for job in jobs] == ["phase1/unimodal", "phase1/fusion", "phase2/distill"]
    for job in jobs:
        own = sum(min(client.num_clips, 16) for client in job.clients)
        cohort = job.phase.cohort(plan.federation, 1)
        chunks = [cohort[i : i + 2] for i in range(0, len(cohort), 2)]
        assert own == max(sum(min(client.num_clips, 16) for client in chunk) for chunk in chunks)  # clips of equal length


@pytest.mark.parametrize("method", ["modality_mirror", "harmony", "fedcmi", "central_audio"])
def test_every_kind_of_phase_can_be_measured(method):
    plan = tiny_plan({"method": method})
    for job in chunks_to_measure(plan.method.phases, plan.federation, 3):
        cost = measure_chunk(job, plan.federation.table, 1, "cpu", lambda: 123)
        assert (cost.num_clients, cost.peak_bytes, cost.fits) == (len(job.clients), 123, True)


def test_a_chunk_that_ran_in_smaller_stacks_does_not_fit(monkeypatch):
    plan = tiny_plan()
    job = chunks_to_measure(plan.method.phases, plan.federation, 3)[0]
    real = measured_cost.train_batched

    def short(*args):
        from mm_ray.fed.batched_training import OUT_OF_MEMORY

        return [update + type(update)(metrics={OUT_OF_MEMORY: 1.0}) for update in real(*args)]

    monkeypatch.setattr(measured_cost, "train_batched", short)
    assert not measure_chunk(job, plan.federation.table, 1, "cpu").fits


def test_auto_changes_neither_keys_nor_bits(tmp_path):
    given, auto = Run(tmp_path / "given"), Run(tmp_path / "auto", {"clients.num_gpus": "auto"})
    assert auto.bits() == given.bits()
    assert [report.key for report in auto.reports] == [report.key for report in given.reports]


def test_the_cpu_has_memory_too():
    free, total = device_memory("cpu")
    assert 0 < free <= total
