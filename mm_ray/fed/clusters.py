"""Harmony's grouping of clients by how far their encoders moved (Ouyang et al., MobiSys 2023).

Shape suffixes: K clients, M modalities, G clusters.
"""

import numpy as np
from scipy.cluster.vq import kmeans2

DOMINANT = 0.1
"""A singular value is dominant if it is at least this fraction of the largest (our choice; the source names no threshold)."""
ITERATIONS = 20


def clusters_of(distances_KM: np.ndarray) -> np.ndarray:
    """The cluster (int, from 0) of each client.

    Each modality's distances are divided by their maximum over the clients, and the vectors clustered by k-means. The number of
    clusters is the number of dominant singular values of the matrix, so at most M. The centres start from the vectors furthest
    apart (our choice), so nothing is drawn.

    Args:
        distances_KM: How far each client's encoder of each modality is from the one it started from, at least 0.

    """
    largest_M = distances_KM.max(0)
    scaled_KM = distances_KM.astype(np.float64) / np.where(largest_M > 0, largest_M, 1)
    values = np.linalg.svd(scaled_KM, compute_uv=False)
    dominant = int((values >= DOMINANT * values[0]).sum()) if values[0] > 0 else 1
    _, labels_K = kmeans2(scaled_KM, _far_apart(scaled_KM, dominant), iter=ITERATIONS, minit="matrix")
    return np.asarray(labels_K, dtype=int)


def _far_apart(points_KM: np.ndarray, count: int) -> np.ndarray:
    """`count` of the points (G, M): the one furthest from the mean, then each the furthest from those before it."""
    gaps_K = np.linalg.norm(points_KM - points_KM.mean(0), axis=1)
    centres = [points_KM[gaps_K.argmax()]]
    while len(centres) < count:
        gaps_K = np.min([np.linalg.norm(points_KM - centre, axis=1) for centre in centres], axis=0)
        centres.append(points_KM[gaps_K.argmax()])
    return np.stack(centres)
