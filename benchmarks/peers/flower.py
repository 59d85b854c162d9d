"""Flower's simulation: its Ray backend with one CPU a client, FedAvg on state dicts as in its PyTorch quickstart."""

import sys
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from benchmarks.peers.plain import Gate, PlainNet, inputs_of, put, train

FOLDER = sys.argv[-1]
client_app, server_app = ClientApp(), ServerApp()


@lru_cache(maxsize=1)
def resident(folder: str) -> PlainNet:
    """A worker's model."""
    torch.set_num_threads(1)
    return PlainNet(inputs_of(folder).settings)


@client_app.train()
def on_train(message: Message, context: Context) -> Message:
    """A client's round; which client it is stands in the message, so that all systems train the same cohorts."""
    told = message.content["config"]
    model, inputs = resident(str(told["folder"])), inputs_of(str(told["folder"]))
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    train(model, *inputs.client(int(told["client"]), int(told["server-round"])), inputs.settings)
    metrics = MetricRecord({"num-examples": inputs.settings.clips})
    return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)


class GatedFedAvg(FedAvg):
    """FedAvg that waits at the gate before each round and asks the cohort of the inputs."""

    def __init__(self, gate: Gate, folder: str) -> None:
        inputs = inputs_of(folder)
        cohort = inputs.cohorts_RK.shape[1]
        super().__init__(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=cohort, min_available_nodes=cohort)
        self._gate, self._folder, self._cohorts_RK = gate, folder, inputs.cohorts_RK

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """The cohort's messages."""
        if not self._gate.wait(lambda: torch.cat([p.flatten() for p in arrays.to_torch_state_dict().values()])):
            raise SystemExit
        nodes = list(grid.get_node_ids())
        cohort = self._cohorts_RK[server_round - 1]
        return [self._message(node, arrays, int(c), server_round) for node, c in zip(nodes, cohort, strict=False)]

    def _message(self, node: int, arrays: ArrayRecord, client: int, server_round: int) -> Message:
        told = ConfigRecord({"client": client, "server-round": server_round, "folder": self._folder})
        return Message(RecordDict({"arrays": arrays, "config": told}), dst_node_id=node, message_type="train")


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """The server."""
    torch.set_num_threads(1)
    inputs, model = inputs_of(FOLDER), PlainNet(inputs_of(FOLDER).settings)
    put(model, inputs.start_P)
    strategy: Any = GatedFedAvg(Gate(), FOLDER)
    strategy.start(grid, ArrayRecord(model.state_dict()), num_rounds=len(inputs.cohorts_RK))


def run() -> None:
    """Run until the harness ends it."""
    settings = inputs_of(FOLDER).settings
    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": settings.processes}}
    run_simulation(server_app, client_app, settings.clients, backend_config=resources)
