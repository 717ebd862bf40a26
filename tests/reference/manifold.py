"""Section 2.2 of the paper, equation by equation, slow and plain: loops over cells, dense arrays, no code of the package.

Where the paper leaves something open, the choice is named where it is made.
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy.optimize import minimize


# --- 2.2.1 transforms (eq. 1-3) and kernels (eq. 4)
def median_scaled(x: np.ndarray) -> np.ndarray:
    """Cells brought to the median library size of the cells that have counts (open: the paper does not say)."""
    totals = x.sum(axis=1)
    median = np.median([total for total in totals if total > 0])
    return np.array([row * (median / total) if total > 0 else row for row, total in zip(x, totals, strict=True)])


def log2p1(x: np.ndarray) -> np.ndarray:
    return np.log2(x + 1.0)


def zscore(x: np.ndarray) -> np.ndarray:
    """Eq. 2, per feature, clipped at 10 (open); features that do not vary are 0."""
    result = np.zeros(x.shape)
    for j in range(x.shape[1]):
        feature = x[:, j].astype(float)
        if np.ptp(feature) > 0:
            result[:, j] = (feature - feature.mean()) / feature.std()
    return np.clip(result, -10, 10)


def clr(x: np.ndarray) -> np.ndarray:
    """Eq. 3 with a pseudo-count of 1, since the geometric mean g of the paper is 0 as soon as one count is."""
    result = np.empty(x.shape)
    for i, cell in enumerate(x + 1.0):
        g = np.exp(np.log(cell).mean())
        result[i] = np.log(cell / g)
    return result


def scaled(x: np.ndarray) -> np.ndarray:
    y = log2p1(x)
    return zscore(y) * y.std(axis=0) ** 0.25


TRANSFORMS = {"log": log2p1, "zscore": zscore, "clr": clr, "scaled": scaled}
VIEWS = {
    "log_rbf": ("log", "rbf"),
    "log_poly": ("log", "poly"),
    "zscore_poly": ("zscore", "poly"),
    "clr_rbf": ("clr", "rbf"),
}


def rbf_kernel(y: np.ndarray, sigma: float) -> np.ndarray:
    n = len(y)
    return np.array([[np.exp(-((y[i] - y[j]) ** 2).sum() / (2 * sigma**2)) for j in range(n)] for i in range(n)])


def poly_kernel(y: np.ndarray, c: float = 1.0, d: int = 2) -> np.ndarray:
    n = len(y)
    return np.array([[(y[i] @ y[j] + c) ** d for j in range(n)] for i in range(n)])


def unit_norm(y: np.ndarray) -> np.ndarray:
    """Mean squared norm 1, so that c = 1 weighs the same in every data set (open: no scale is given)."""
    return y / np.sqrt((y**2).sum(axis=1).mean())


def kernel_distance(kernel: np.ndarray) -> np.ndarray:
    """Squared distance of the points' images in kernel space."""
    n = len(kernel)
    return np.array([[kernel[i, i] + kernel[j, j] - 2 * kernel[i, j] for j in range(n)] for i in range(n)])


def distance(y: np.ndarray, kernel: str) -> np.ndarray:
    if kernel == "poly":
        return kernel_distance(poly_kernel(unit_norm(y.astype(float))))
    y = y.astype(float)
    return np.array([((y - point) ** 2).sum(axis=1) for point in y])  # orders pairs as the Gaussian kernel does


# --- 2.2.2 shared nearest neighbours (eq. 7-8), directions and projections (eq. 5-6, 8-9)
def nearest(squared: np.ndarray, p: int) -> list[list[int]]:
    """N_p(i): the point itself, then the nearest others, ties by index."""
    n = len(squared)
    return [sorted(range(n), key=lambda j, i=i: (j != i, squared[i, j], j))[:p] for i in range(n)]


def shared_count(lists: list[list[int]], i: int, j: int) -> int:
    return len(set(lists[i]) & set(lists[j]))


def shared_neighborhood(lists: list[list[int]], squared: np.ndarray, i: int) -> list[int]:
    """R(i): the point itself, then those that share most neighbours with it, ties by distance, then by index."""
    p = len(lists[i])
    return sorted(range(len(lists)), key=lambda j: (j != i, -shared_count(lists, i, j), squared[i, j], j))[:p]


def neighborhoods(y: np.ndarray, p: int, kernel: str) -> list[list[int]]:
    squared = distance(y, kernel)
    lists = nearest(squared, p)
    return [shared_neighborhood(lists, squared, i) for i in range(len(y))]


def jaccard(lists: list[list[int]], smallest: float) -> np.ndarray:
    n = len(lists)
    result = np.zeros((n, n))
    for i, j in itertools.permutations(range(n), 2):
        share = shared_count(lists, i, j) / len(set(lists[i]) | set(lists[j]))
        result[i, j] = share if share >= smallest else 0
    return result


def truncated_weights(point: np.ndarray, neighbors: np.ndarray, r0: float, t: int = 3) -> np.ndarray:
    """Eq. 6, which the paper defines and its eq. 8 then does without."""
    squared = ((neighbors - point) ** 2).sum(axis=1)
    raw = np.where(squared <= r0**2, (1 - squared / r0**2) ** t, 0)
    return raw / raw.sum()


def means(y: np.ndarray, around: list[list[int]]) -> np.ndarray:
    """F of eq. 8."""
    return np.array([sum(y[j] for j in group) / len(group) for group in around])


def density(point: np.ndarray, neighbors: np.ndarray) -> float:
    """ρ of eq. 9."""
    return 1 / sum(((point - other) ** 2).sum() for other in neighbors)


def on_line(start: np.ndarray, end: np.ndarray, t: float) -> np.ndarray:
    return start + t * (end - start)


def principal_scores(y: np.ndarray, n_pcs: int) -> np.ndarray:
    """Neighbours are sought on principal components (open)."""
    u, s, _ = np.linalg.svd(y - y.mean(axis=0), full_matrices=False)
    return (u * s)[:, :n_pcs]


# --- 2.2.3 fusion (eq. 11-12); distances are per entry and views standardised (open: no scale is given)
def standardised(y: np.ndarray, batches: np.ndarray | None = None) -> np.ndarray:
    batches = np.zeros(len(y)) if batches is None else np.asarray(batches)
    result = np.zeros(y.shape)
    for batch in set(batches.tolist()):
        rows = np.flatnonzero(batches == batch)
        for j in range(y.shape[1]):
            if y[rows, j].std() > 1e-6:
                result[rows, j] = (y[rows, j] - y[rows, j].mean()) / y[rows, j].std()
    return result


def weighted_sum(weights: np.ndarray, views: list[np.ndarray]) -> np.ndarray:
    """Eq. 11."""
    return sum(weight * view for weight, view in zip(weights, views, strict=True))


def objective(weights: np.ndarray, y: np.ndarray, views: list[np.ndarray], penalty: float) -> float:
    """Eq. 12 for a given Y."""
    return sum(w * ((y - v) ** 2).mean() for w, v in zip(weights, views, strict=True)) + penalty * (weights**2).sum()


def on_simplex(function: object, n: int) -> np.ndarray:
    """The minimum of a convex function on the simplex, by a general solver."""
    total = {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like}
    found = minimize(
        function, np.full(n, 1 / n), bounds=[(0, 1)] * n, constraints=total, method="SLSQP", options={"ftol": 1e-13}
    )
    return found.x


def best_weights(y: np.ndarray, views: list[np.ndarray], penalty: float) -> np.ndarray:
    """The minimum of eq. 12 over the weights for a given Y."""
    costs = np.array([((y - view) ** 2).mean() for view in views])
    return on_simplex(lambda w: w @ costs + penalty * w @ w, len(views))


def fused(views: list[np.ndarray], penalty: float, batches: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Eq. 11 and 12 in turns until neither changes (open: Y and the weights each need the other)."""
    views = [standardised(view, batches) for view in views]
    weights = np.full(len(views), 1 / len(views))
    for _ in range(100):
        weights = best_weights(weighted_sum(weights, views), views, penalty)
    return standardised(weighted_sum(weights, views), batches), weights
