"""Coordinate-wise trimmed mean (Yin et al., ICML 2018): the mean without the largest and smallest values."""

import numpy as np


def combine(changes_KP: np.ndarray, bad_frac: float) -> np.ndarray:
    """The mean (P,) over the K clients without the ceil(bad_frac K) largest and smallest values of each coordinate.

    At least one value, or the middle two, is left: then it is the median.
    """
    num_clients = len(changes_KP)
    trimmed = min(int(np.ceil(bad_frac * num_clients)), (num_clients - 1) // 2)
    mean: np.ndarray = np.sort(changes_KP, axis=0)[trimmed : num_clients - trimmed].mean(axis=0)
    return mean
