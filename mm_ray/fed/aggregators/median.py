"""Coordinate-wise median (Yin et al., ICML 2018): holds while less than half of the clients are bad."""

import numpy as np


def combine(changes_KP: np.ndarray, bad_frac: float) -> np.ndarray:
    """The median of each coordinate over the K clients (P,), the mean of the middle two if K is even; no use of `bad_frac`."""
    median: np.ndarray = np.median(changes_KP, axis=0)
    return median
