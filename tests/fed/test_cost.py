"""The bytes that a round reports are the bytes of the arrays that the cohort's clients send and receive."""

import pytest
from fed.tiny import Run

from mm_ray.fed.executor import SerialExecutor
from mm_ray.types import RoundContext


class Counting(SerialExecutor):
    """Plays every client on its own and counts what it sends."""

    def __init__(self):
        self.sent = {}

    def run_round(self, params, round_number, chunks, clients):
        federation = self._federation
        context = RoundContext(federation.seed, round_number, params, self._shared_inputs, federation.table, federation.shapes)
        updates = [self._phase.client_update(context, client) for chunk in chunks for client in chunk]
        self.sent[self._phase.name, round_number] = updates
        return super().run_round(params, round_number, chunks, clients)


@pytest.fixture(scope="module", params=["modality_wise", "joint"])
def run(request, tmp_path_factory):
    executor = Counting()
    run = Run(tmp_path_factory.mktemp("traffic"), {"phase1.kind": request.param}, executor)
    run.sent = executor.sent
    return run


def test_bytes_up_are_those_of_the_update_s_arrays(run):
    seen = set()
    for report in run.reports:
        updates = run.sent[report.phase, report.round]
        sent = sum(array.nbytes for update in updates for array in update.sums.values())
        if report.phase == "phase1/teacher_logits":  # the logits stay with their client
            assert (report.bytes_up, sent, all(update.kept for update in updates)) == (0, 0, True)
        else:
            assert report.bytes_up == sent > 0
            seen.add(report.phase)
        assert report.num_clients == len(updates)
    joint = run.plan.config.phase1.kind == "joint"
    assert seen == ({"phase1/joint"} if joint else {"phase1/unimodal", "phase1/fusion"}) | {"phase2/distill"}


def test_bytes_down_are_those_of_the_parts_that_come_back(run):
    for report in run.reports:
        if report.phase == "phase1/teacher_logits":
            teacher = run.plan.method.teacher.network
            assert teacher == "av"
            state = run.store.load(run.keys[run.plan.method.teacher.phase], 1).params
            size = sum(state[part].nbytes for part in ("audio.encoder", "video.encoder", "fusion"))
            assert report.bytes_down == size * report.num_clients
        else:
            assert report.bytes_down == report.bytes_up


def test_a_client_without_video_sends_less(run):
    phase, federation = run.plan.method.phases[0], run.plan.federation
    audio, both = federation.of_type("audio")[0], federation.of_type("audio", "video")[0]
    assert phase.cost(federation, audio)[1] < phase.cost(federation, both)[1]
