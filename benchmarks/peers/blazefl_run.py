"""BlazeFL: its process pool with shared memory, N processes, FedAvg weighted by clips as in its own `contrib.fedavg`.

Its threads need a free-threaded Python to run at once, so processes it is; they are forked, as Python 3.12 does by default.
"""

import multiprocessing
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from blazefl.core import BaseServerHandler, IPCMode, ProcessPoolClientTrainer, SHMHandle, deserialize_model, serialize_model

from benchmarks.peers.plain import Gate, Inputs, PlainNet, inputs_of, new_optimizer, put, train


@dataclass
class Uplink:
    """What a client sends."""

    client: int
    params_P: Any
    """Its parameters, or a handle of them in shared memory."""
    clips: int


@dataclass
class Downlink:
    """What every client of a round gets."""

    params_P: torch.Tensor
    round: int


@dataclass
class ClientConfig:
    """Which client a worker plays, on which inputs."""

    client: int
    folder: str


@lru_cache(maxsize=1)
def resident(folder: str) -> PlainNet:
    """A worker's model."""
    return PlainNet(inputs_of(folder).settings)


class Trainer(ProcessPoolClientTrainer[Uplink, Downlink, ClientConfig]):
    """The clients of a round in a pool of processes, which BlazeFL starts for each round."""

    def __init__(self, inputs: Inputs) -> None:
        self.num_parallels, self.device, self.cache, self.ipc_mode = inputs.settings.processes, "cpu", [], IPCMode.SHARED_MEMORY
        self.share_dir, self.stop_event = Path(inputs.folder), multiprocessing.Manager().Event()
        self._inputs = inputs

    def get_client_config(self, cid: int) -> ClientConfig:
        """For a worker."""
        return ClientConfig(cid, str(self._inputs.folder))

    def prepare_uplink_package_buffer(self) -> Uplink:
        """Room for a client's parameters."""
        return Uplink(-1, torch.empty_like(self._inputs.start_P), 0)

    @staticmethod
    def worker(config: Any, payload: Any, device: str, stop_event: Any, *, shm_buffer: Any = None) -> Uplink:
        """A client's round."""
        inputs, model = inputs_of(config.folder), resident(config.folder)
        deserialize_model(model, payload.params_P)
        train(model, *inputs.client(config.client, payload.round), inputs.settings)
        shm_buffer.params_P.copy_(serialize_model(model))
        return Uplink(config.client, SHMHandle(), inputs.settings.clips)

    def uplink_package(self) -> list[Uplink]:
        """What the clients of the round sent."""
        package, self.cache = self.cache, []
        return package


class Server(BaseServerHandler[Uplink, Downlink]):
    """FedAvg on the cohorts of the inputs."""

    def __init__(self, inputs: Inputs) -> None:
        self.model, self.round, self._cohorts_RK = PlainNet(inputs.settings), 1, inputs.cohorts_RK
        put(self.model, inputs.start_P)

    def sample_clients(self) -> list[int]:
        """The round's cohort."""
        return [int(client) for client in self._cohorts_RK[self.round - 1]]

    def downlink_package(self) -> Downlink:
        """The model, for all clients."""
        return Downlink(serialize_model(self.model), self.round)

    def if_stop(self) -> bool:
        """Whether the inputs have no further round."""
        return self.round > len(self._cohorts_RK)

    def load(self, payload: Uplink) -> bool:
        """Nothing: a round's updates are taken at once."""
        return False

    def global_update(self, buffer: list[Uplink]) -> None:
        """The mean of the clients' parameters, weighted by clips."""
        total, mean_P = sum(update.clips for update in buffer), torch.zeros_like(buffer[0].params_P)
        for update in sorted(buffer, key=lambda update: update.client):
            mean_P.add_(update.params_P, alpha=update.clips / total)
        deserialize_model(self.model, mean_P)
        self.round += 1


def main(folder: str) -> None:
    """Run until the harness ends it."""
    torch.set_num_threads(1)
    inputs = inputs_of(folder)
    gate, server, trainer = Gate(), Server(inputs), Trainer(inputs)
    new_optimizer(server.model.parameters(), inputs.settings)  # imports 2 s of torch, else in each process of each round
    while not server.if_stop() and gate.wait(lambda: serialize_model(server.model)):
        cohort = server.sample_clients()
        trainer.local_process(server.downlink_package(), cohort)
        server.global_update(trainer.uplink_package())


if __name__ == "__main__":
    # As an imported module, so that workers find the classes under the same name.
    from benchmarks.peers.blazefl_run import main as run

    run(sys.argv[1])
