"""The floor: N processes with one thread each, plain PyTorch, no framework; parameters and sums in shared memory."""

import sys

import torch
import torch.multiprocessing as mp

from benchmarks.peers.plain import Gate, Inputs, PlainNet, flat, inputs_of, put, train


def work(rank: int, folder: str, params_P: torch.Tensor, sums_WP: torch.Tensor, start: object, done: object) -> None:
    """Play this process's share of each cohort; its sum of weighted changes goes into its row."""
    torch.set_num_threads(1)
    inputs = inputs_of(folder)
    model = PlainNet(inputs.settings)
    for number in range(1, len(inputs.cohorts_RK) + 1):
        start.wait()  # type: ignore[attr-defined]
        play(inputs, model, rank, number, params_P, sums_WP[rank])
        done.wait()  # type: ignore[attr-defined]


def play(inputs: Inputs, model: PlainNet, rank: int, number: int, params_P: torch.Tensor, sum_P: torch.Tensor) -> None:
    """One process's part of a round."""
    sum_P.zero_()
    for client in inputs.cohorts_RK[number - 1][rank :: inputs.settings.processes]:
        put(model, params_P)
        train(model, *inputs.client(int(client), number), inputs.settings)
        sum_P.add_(flat(model) - params_P, alpha=float(inputs.settings.clips))


def main(folder: str) -> None:
    """Rank 0: plays too, and takes the mean."""
    torch.set_num_threads(1)
    gate, inputs = Gate(), inputs_of(folder)
    processes = inputs.settings.processes
    params_P = inputs.start_P.clone().share_memory_()
    sums_WP = torch.zeros(processes, len(params_P)).share_memory_()
    context = mp.get_context("spawn")
    start, done = context.Barrier(processes), context.Barrier(processes)
    others = [
        context.Process(target=work, args=(rank, folder, params_P, sums_WP, start, done), daemon=True)
        for rank in range(1, processes)
    ]
    for other in others:
        other.start()
    model = PlainNet(inputs.settings)
    for number in range(1, len(inputs.cohorts_RK) + 1):
        if not gate.wait(lambda: params_P):
            break
        start.wait()
        play(inputs, model, 0, number, params_P, sums_WP[0])
        done.wait()
        params_P.add_(sums_WP.sum(0), alpha=1 / (inputs.settings.clips * len(inputs.cohorts_RK[number - 1])))
    for other in others:
        other.terminate()


if __name__ == "__main__":
    main(sys.argv[1])
