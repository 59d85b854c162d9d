"""pfl-research: its simulated backend in N processes under torchrun, FedAvg weighted by clips."""

import sys
from functools import partial
from typing import Any

import numpy as np
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.hyperparam import NNTrainHyperParams
from pfl.internal.ops.pytorch_ops import distributed
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel
from torch.nn import functional

from benchmarks.peers.plain import Gate, Inputs, PlainNet, flat, inputs_of, new_optimizer, put


class PflNet(PlainNet):
    """The plain model with pfl's two methods."""

    def loss(self, x_BTF: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
        """Cross-entropy in training mode."""
        self.train()
        return functional.cross_entropy(self(x_BTF), labels_B)

    def metrics(self, x_BTF: torch.Tensor, labels_B: torch.Tensor) -> dict[str, Any]:
        """None: nothing is evaluated in the loop."""
        return {}


class AtTheGate(TrainingProcessCallback):
    """Rank 0 waits at the gate between rounds; the others wait for its word."""

    def __init__(self, model: PflNet) -> None:
        self._gate = Gate() if distributed.global_rank == 0 else None
        self._model = model

    def wait(self) -> bool:
        """Whether a round follows."""
        word = torch.tensor([self._gate.wait(lambda: flat(self._model)) if self._gate else False], dtype=torch.float32)
        if distributed.world_size > 1:
            torch.distributed.broadcast(word, 0)
        return bool(word.item())

    def after_central_iteration(
        self, aggregate_metrics: Metrics, model: Any, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        """Stop where the harness says so."""
        return not self.wait(), Metrics()


class Cohorts:
    """pfl's user sampler: the clients of the inputs' cohorts, one after the other, each with its round."""

    def __init__(self, inputs: Inputs) -> None:
        self._clients = ((r + 1, int(client)) for r, cohort in enumerate(inputs.cohorts_RK) for client in cohort)

    def __call__(self) -> tuple[int, int]:
        return next(self._clients)


def dataset_of(inputs: Inputs) -> FederatedDataset:
    """A user's clips, shuffled for the round."""
    return FederatedDataset(lambda user: Dataset(inputs.client(user[1], user[0])), Cohorts(inputs))


def main(folder: str) -> None:
    """Run until the harness ends it."""
    torch.set_num_threads(1)
    np.random.seed(0)
    inputs = inputs_of(folder)
    s, cohort = inputs.settings, inputs.cohorts_RK.shape[1]
    net = PflNet(s)
    put(net, inputs.start_P)
    model = PyTorchModel(
        net,
        lambda parameters, lr: new_optimizer(parameters, s),
        torch.optim.SGD(net.parameters(), lr=1.0),
    )
    params = NNAlgorithmParams(
        central_num_iterations=len(inputs.cohorts_RK), evaluation_frequency=10**9, train_cohort_size=cohort, val_cohort_size=0
    )
    training = NNTrainHyperParams(
        local_num_epochs=1, local_learning_rate=s.lr, local_batch_size=s.batch_size, local_max_grad_norm=s.clip_norm
    )
    backend = SimulatedBackend(dataset_of(inputs), dataset_of(inputs), [WeightByDatapoints()])
    gate = AtTheGate(net)
    if gate.wait():
        run = partial(FederatedAveraging().run, params, backend, model, training, None)
        run([gate], send_metrics_to_platform=False)


if __name__ == "__main__":
    main(sys.argv[1])
