"""Clients on Ray actors: the same bits as the serial run, with any number of actors, after any crash; real bookkeeping."""

import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest
import ray
import torch
from fed.tiny import Run, table_of, tiny_config, tiny_plan
from ray import cloudpickle
from ray.util.placement_group import placement_group, remove_placement_group

from mm_ray.errors import EnvironmentFailure, UserError
from mm_ray.fed import evaluation
from mm_ray.fed.executor import SerialExecutor
from mm_ray.methods.modality_mirror import Unimodal
from mm_ray.models.network import PARTS
from mm_ray.runtime import train_job
from mm_ray.runtime.cluster import Node, connect
from mm_ray.runtime.executor import RayExecutor
from mm_ray.runtime.placement import Placement, place_run
from mm_ray.runtime.pool import QUEUED_PER_ACTOR
from mm_ray.runtime.train_job import wait_for_room

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the actors cannot import this file
CLIPS = {"phase1.rounds": 5, "clients.chunk_size": 1}
"""Chunks of one client, so that two actors share a round."""


@pytest.fixture(scope="module")
def table_ref(local_ray):
    return ray.put(table_of(tiny_config().data))


@contextmanager
def actors(table_ref, count, cpus=0.25, gpus=0.0):
    executor = RayExecutor(table_ref, Placement(count, cpus, gpus))
    yield executor
    executor.close()


@pytest.fixture(scope="module")
def two(table_ref):
    with actors(table_ref, 2) as executor:
        yield executor


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("serial"), CLIPS)


def eventually(condition, seconds=20.0):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    return condition()


def free():
    available = ray.available_resources()
    return {name: round(available.get(name, 0), 3) for name in ("CPU", "GPU")}


def test_one_actor_gives_the_bits_of_the_serial_run(tmp_path, table_ref, serial):
    with actors(table_ref, 1) as one:
        run = Run(tmp_path, CLIPS, one)
    assert run.bits() == serial.bits()
    assert run.result["rounds_computed"] == serial.result["rounds_computed"] > 0


def test_two_actors_give_the_bits_of_the_serial_run(tmp_path, two, serial):
    assert Run(tmp_path, CLIPS, two).bits() == serial.bits()


@pytest.mark.parametrize("road", [{"phase1.kind": "joint"}, {"phase2.audio_clients": "train", "clients.sample_frac": 1.0}])
def test_other_roads_do_too(tmp_path, two, road):
    # Chunks of two clients: an actor sums them before they come back.
    serial = Run(tmp_path / "serial", road, control=True)
    assert Run(tmp_path / "ray", road, two, control=True).bits() == serial.bits()


def test_what_one_host_stored_another_goes_on_with(tmp_path, two, serial):
    Run(tmp_path, CLIPS | {"phase2.rounds": 1}, two)
    run = Run(tmp_path, CLIPS)
    assert run.result["rounds_computed"] == 2
    assert run.bits() == serial.bits()


@dataclass(frozen=True)
class Fragile(Unimodal):
    """In round 2 a client's actor tells its process id, and waits to be killed; but only once."""

    marker: str
    victim: int

    def client_updates(self, context, clients):
        marker = Path(self.marker)
        if context.round == 2 and self.victim in {client.id for client in clients} and not marker.exists():
            marker.with_suffix(".part").write_text(str(os.getpid()))
            marker.with_suffix(".part").rename(marker)
            time.sleep(60)
        return super().client_updates(context, clients)


def fragile(plan, marker):
    first, *others = plan.method.phases
    victim = first.cohort(plan.federation, 2)[1].id  # the second of its chunk
    phase = Fragile(**{field.name: getattr(first, field.name) for field in fields(first)}, marker=str(marker), victim=victim)
    return replace(plan, method=replace(plan.method, phases=(phase, *others)))


def test_an_actor_that_is_killed_in_the_middle_of_a_round_changes_no_bit(tmp_path, two):
    marker, killed = tmp_path / "pid", []
    pids = [pid for _, pid in ray.get([actor.place.remote() for actor in two.actors])]

    def kill():
        if eventually(marker.exists, 30):
            killed.append(int(marker.read_text()))
            os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    run = Run(tmp_path / "ray", executor=two, plan=fragile(tiny_plan(), marker))
    killer.join()
    assert killed[0] in pids
    assert killed[0] not in [pid for _, pid in ray.get([actor.place.remote() for actor in two.actors])]
    serial = Run(tmp_path / "serial")
    assert run.outcome() == serial.outcome(), "the keys differ: this file's code is in one of them"
    assert run.result["rounds_computed"] == serial.result["rounds_computed"]


@contextmanager
def stopped(actor):
    """An actor whose process does nothing: the slowest of all stragglers."""
    _, pid = ray.get(actor.place.remote())
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_deadline_leaves_out_who_is_late_and_names_him(tmp_path, table_ref):
    late = {"clients.deadline_s": 8.0}  # on a busy machine the other actor needs seconds too
    with actors(table_ref, 2) as executor, stopped(executor.actors[0]):
        run = Run(tmp_path, CLIPS | late, executor)
    first, *others = run.reports
    assert set(first.refused.values()) == {"no answer within 8 s"}
    assert len(first.refused) == first.metrics["refused"] == QUEUED_PER_ACTOR
    cohort = {client.id for client in run.plan.method.phases[0].cohort(run.plan.federation, 1)}
    assert {int(client) for client in first.refused} < cohort
    assert first.num_clients == len(cohort) - len(first.refused)
    assert not any(report.refused for report in others), "it gets nothing more as long as it owes an answer"
    assert run.keys != Run(tmp_path / "serial", CLIPS).keys


def same(updates, others):
    return all(
        (a.weights, a.metrics) == (b.weights, b.metrics)
        and all((a.sums[name] == b.sums[name]).all() for name in a.sums | b.sums)
        and a.kept.keys() == b.kept.keys()
        and all((own[name] == b.kept[client][name]).all() for client, own in a.kept.items() for name in own)
        for a, b in zip(updates, others, strict=True)
    )


def test_what_is_needed_is_done_by_the_others_if_an_actor_stops(table_ref, monkeypatch):
    plan = tiny_plan({"clients.deadline_s": 0.5, "phase1.kind": "joint"})
    joint, logits, _ = plan.method.phases
    federation, serial = plan.federation, SerialExecutor()
    params = joint.init(federation, {}).params
    teacher = {part: params[part] for part in PARTS["av"]}
    chunks = [(client,) for client in logits.cohort(federation, 1)]
    monkeypatch.setattr(evaluation, "MOST_CLIPS", 3)
    with actors(table_ref, 2) as executor:

        def played(phase, material, chunks):
            for each in (executor, serial):
                each.open(phase, material, federation)
            return same(executor.run_round(params, 1, chunks, {}), serial.run_round(params, 1, chunks, {}))

        with stopped(executor.actors[0]):
            assert played(joint, {}, chunks[:1]), "a round needs an answer"
        assert played(logits, teacher, chunks), "it works again"
        with stopped(executor.actors[0]):
            assert played(logits, teacher, chunks), "the logits of all clients"
        assert played(logits, teacher, chunks)
        executor.open(joint, {}, federation)
        with stopped(executor.actors[0]):
            (found,) = executor.confusions("dev", ("av",), params, joint.model)
    assert (found == evaluation.confusion_on("dev", "av", params, joint.model, federation)).all()


def test_without_a_deadline_a_round_waits_and_no_bit_changes(tmp_path, table_ref, serial):
    with actors(table_ref, 2) as executor, stopped(executor.actors[0]) as pid:
        threading.Timer(1.5, os.kill, (pid, signal.SIGCONT)).start()
        run = Run(tmp_path, CLIPS, executor)
    assert run.bits() == serial.bits()
    assert run.reports[0].seconds > 1


def test_bytes_go_with_chunks_and_not_with_clients(two):
    plan = tiny_plan({"clients.sample_frac": 1.0})
    phase, federation = plan.method.phases[0], plan.federation
    two.open(phase, {}, federation)
    params = phase.init(federation, {}).params
    audio_only = federation.of_type("audio")

    def moved(chunks):
        two.spent()
        two.run_round(params, 1, chunks, {})
        return two.spent().moved_bytes - sum(array.nbytes for array in params.values())

    one = moved([audio_only[:1]])
    assert one == sum(params[part].nbytes for part in PARTS["audio"])
    assert moved([audio_only]) == one
    assert moved([audio_only[:1], audio_only[1:2], audio_only[2:]]) == 3 * one


def test_actors_work_out_the_confusion_matrices_of_the_driver(two, monkeypatch):
    plan = tiny_plan()
    phase, federation = plan.method.phases[0], plan.federation
    two.open(phase, {}, federation)
    params = phase.init(federation, {}).params
    monkeypatch.setattr(evaluation, "MOST_CLIPS", 3)
    assert len(evaluation.batches_of("dev", "video", federation.table)) > 2
    found = two.confusions("dev", ("audio", "video"), params, phase.model)
    assert two.spent().moved_bytes > 0  # it was worked out there
    for name, matrix in zip(("audio", "video"), found, strict=True):
        assert (matrix == evaluation.confusion_on("dev", name, params, phase.model, federation)).all()
        assert matrix.sum() == len(federation.table.rows("dev"))


def test_reports_tell_how_busy_the_actors_were(tmp_path, two):
    reports = Run(tmp_path, CLIPS, two).reports
    assert all(0 < report.busy_frac <= 1 for report in reports)
    assert all(report.moved_bytes > 0 for report in reports)


def test_four_actors_of_half_a_gpu_hold_two_gpus_and_give_them_back(tmp_path, local_ray, table_ref, monkeypatch):
    cluster = connect(local_ray)
    wanted = tiny_config({"clients.num_actors": 4, "clients.num_cpus": 0.25, "clients.num_gpus": 0.5}).clients
    placement = place_run(wanted, cluster)
    before = free()
    assert before["GPU"] == 2
    wait_for_room(placement)
    group = placement_group(placement.bundles(), strategy="PACK")  # what a trial of a study has
    try:
        assert eventually(lambda: free()["GPU"] == 0)
        assert free()["CPU"] == pytest.approx(before["CPU"] - 4 * placement.num_cpus)
        executor = RayExecutor(table_ref, placement, group)
        ids = [set(map(str, ids)) for ids in ray.get([gpu_ids_of(actor) for actor in executor.actors])]
        assert sorted(map(sorted, ids)) == [["0"], ["0"], ["1"], ["1"]]
        if not torch.cuda.is_available():  # the GPUs are bookkeeping only, and no CPU stands in for them
            with pytest.raises(EnvironmentFailure, match=r"--clients\.num_gpus 0"):
                Run(tmp_path / "ray", CLIPS, executor)
        monkeypatch.setattr(train_job, "PLACEMENT_TIMEOUT_S", 0.5)
        with pytest.raises(UserError, match=r"no room now for 1 client actors of 0\.25 CPU, 0\.5 GPU each"):
            wait_for_room(Placement(1, 0.25, 0.5))
        executor.close()
    finally:
        remove_placement_group(group)
    assert eventually(lambda: free() == before)


def gpu_ids_of(actor):
    return actor.__ray_call__.remote(lambda self: ray.get_gpu_ids())


def test_five_of_them_do_not_fit(local_ray):
    wanted = tiny_config({"clients.num_actors": 5, "clients.num_cpus": 0.25, "clients.num_gpus": 0.5}).clients
    with pytest.raises(
        UserError, match=r"^--clients\.num_gpus 0\.5: 5 client actors need 2\.5 GPUs, the cluster has 2; use 0\.33"
    ):
        place_run(wanted, connect(local_ray))


def test_the_local_cluster_is_described_as_it_is(local_ray):
    cluster = connect(local_ray)
    assert cluster.nodes == (Node(2.0, 2.0),)


def test_actors_run_on_one_thread_and_on_the_cpu_where_there_is_no_gpu(two):
    import torch

    threads, device = ray.get(two.actors[0].__ray_call__.remote(lambda self: (torch.get_num_threads(), self._device)))
    assert (threads, device) == (1, "cpu")
