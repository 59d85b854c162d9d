"""What clients send and receive in every method: bytes as counted, no video without video, and the student for all."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from fed.tiny import Run, table_of, tiny_config

from mm_ray.evaluate.metrics import summary
from mm_ray.fed.evaluation import confusion_on
from mm_ray.fed.executor import SerialExecutor
from mm_ray.fed.rounds import role_params
from mm_ray.methods.mfcpl import prototypes_of
from mm_ray.methods.modality_mirror import TeacherLogits
from mm_ray.models.network import PARTS, READS
from mm_ray.plugins import modules_in
from mm_ray.types import RoundContext

NAMES = modules_in("mm_ray.methods")
FEDERATED = [name for name in NAMES if not name.startswith("central")]
SHORT = {"phase1.rounds": 3, "phase2.rounds": 2}


class Read(Mapping):
    """Arrays that remember which of them were looked at."""

    def __init__(self, arrays):
        self.arrays, self.names = arrays, set()

    def __getitem__(self, name):
        array = self.arrays[name]
        self.names.add(name)
        return array

    def __iter__(self):
        return iter(self.arrays)

    def __len__(self):
        return len(self.arrays)

    def num_bytes(self, of=None):
        """Of those that were looked at, and that are named in `of`."""
        return sum(self.arrays[name].nbytes for name in self.names if of is None or name in of)


class Listening(SerialExecutor):
    """Notes of every client and round which arrays it read and which it sent, and that it gets its own alone."""

    def __init__(self):
        self.told = {}

    def run_round(self, params, round_number, chunks, clients):
        federation, phase = self._federation, self._phase
        for client in (client for chunk in chunks for client in chunk):
            received, material, own = Read(params), Read(self._shared_inputs), Read(clients.get(client.id, {}))
            context = RoundContext(federation.seed, round_number, received, material, federation.table, federation.shapes)
            update = phase.client_update(replace(context, clients={client.id: own}), client)
            # Of a client's own arrays the server sends those of which it gets a change; the others are with the client.
            down = received.num_bytes() + own.num_bytes(of=update.sums)
            self.told.setdefault((phase.name, round_number), []).append((client, received, material, update.sums, down))
        return super().run_round(params, round_number, chunks, clients)


@pytest.fixture(scope="module", params=FEDERATED)
def run(request, tmp_path_factory):
    executor = Listening()
    run = Run(tmp_path_factory.mktemp(request.param), SHORT | {"method": request.param}, executor)
    run.told = executor.told
    return run


def test_bytes_counted_are_the_bytes_sent_and_received(run):
    for report in run.reports:
        told = run.told[report.phase, report.round]
        assert report.num_clients == len(told)
        assert report.bytes_up == sum(array.nbytes for _, _, _, sent, _ in told for array in sent.values())
        # A teacher is sent for its phase, not each round; other material is what clients have from the phase before.
        once = sum(material.num_bytes() for _, _, material, _, _ in told) if report.phase == TeacherLogits.name else 0
        assert report.bytes_down == sum(down for *_, down in told) + once > 0


def test_a_client_without_video_touches_no_video_parameter(run):
    audio = [told for some in run.told.values() for told in some if "video" not in told[0].modalities]
    assert audio or run.plan.method.student.phase == "phase2/distill"
    for _, received, _, sent, _ in audio:
        assert set(sent) <= {*PARTS["audio"], prototypes_of("audio")}
        assert received.names <= {*PARTS["audio"], prototypes_of("audio"), prototypes_of("video")}


@pytest.mark.parametrize("name", NAMES)
def test_audio_only_clients_end_with_a_student_that_needs_no_video(name, tmp_path):
    run = Run(tmp_path, SHORT | {"method": name})
    role = run.plan.method.student
    if role is None:
        assert name == "central_av"
        return
    assert READS[role.network] == ("audio",)
    params = role_params(role, run.finished.outcomes, run.store)
    assert set(params) == set(PARTS["audio"])
    table = table_of(tiny_config().data)
    deaf = replace(table, video_flat_XD=None, video_offsets_N1=np.zeros_like(table.video_offsets_N1))
    federation = replace(run.plan.federation, table=deaf)
    confusion = confusion_on("test", "audio", params, run.plan.model_of(role), federation)
    assert summary(confusion) == run.result["test"]["student"]
