"""Multi-Krum (Blanchard et al., NeurIPS 2017): the mean of those clients that have the nearest neighbours.

A client's score is the sum of its squared distances to its K - f - 2 nearest clients, with f = ceil(bad_frac K); the K - f
clients of the lowest scores are averaged. The paper's promise needs K > 2 f + 2. Of fewer clients each still has one neighbour.
"""

import numpy as np


def combine(changes_KP: np.ndarray, bad_frac: float) -> np.ndarray:
    """The mean (P,) of the chosen clients; of equal scores the first ones."""
    num_clients = len(changes_KP)
    bad = min(int(np.ceil(bad_frac * num_clients)), num_clients - 1)
    neighbours = max(num_clients - bad - 2, 1)
    distances_KK = np.sort([np.square(changes_KP - change_P).sum(axis=1) for change_P in changes_KP], axis=1)
    scores_K = distances_KK[:, 1 : 1 + neighbours].sum(axis=1)  # the first column is each client itself
    chosen = np.sort(np.argsort(scores_K, kind="stable")[: num_clients - bad])
    mean: np.ndarray = changes_KP[chosen].mean(axis=0)
    return mean
