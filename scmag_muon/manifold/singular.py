"""Leading singular vectors of a matrix that is only known by its products."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scmag_muon.manifold.threads import products_in_one_thread

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

_BLOCK = 20
_MOST_PER_COMPONENT = 20
_CHECK_AGAIN = 1.2


@products_in_one_thread()
def leading_singular_vectors(
    matrix: LinearOperator, k: int, *, tol: float = 1e-2, random_state: int | None = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ``k`` largest singular values in falling order, with their vectors, as ``U, s, Vᵀ`` of ``numpy.linalg.svd``.

    Parameters
    ----------
    matrix
        With ``matmat`` and ``rmatmat``, shape ``(n_rows, n_columns)``.
    k
        At most the smaller of the two numbers.
    tol
        How far the square of a singular value may be off, in relation to it.
    random_state
        Seed of the start.

    Notes
    -----
    Block Lanczos with full reorthogonalisation: the space of the products grows by a block of columns in each step until
    the best approximations within it are good enough. A product with a block costs a fraction of what products with its columns
    one by one cost, since the matrix is read once.
    """
    flipped = matrix.shape[0] < matrix.shape[1]
    forward, backward = (matrix.rmatmat, matrix.matmat) if flipped else (matrix.matmat, matrix.rmatmat)
    n = min(matrix.shape)
    start = np.random.default_rng(random_state).standard_normal((n, min(_BLOCK, n))).astype(np.float32)
    block = np.linalg.qr(start)[0]
    basis = np.empty((n, 0), dtype=np.float32)
    projected = np.empty((0, 0))
    check_at = 2 * k
    while True:
        image = backward(forward(block))
        basis = np.hstack([basis, block])
        size, width = basis.shape[1], block.shape[1]
        inner = basis.T @ image
        projected = np.pad(projected, (0, width))
        projected[:, -width:] = inner
        projected[-width:] = inner.T
        rest = image - basis @ inner
        if size >= min(check_at, n):
            values, within = np.linalg.eigh(projected)
            values, within = values[: -k - 1 : -1], within[:, : -k - 1 : -1].astype(np.float32)
            off = np.linalg.norm(rest @ within[-width:], axis=0)
            if size == n or size >= _MOST_PER_COMPONENT * k or (off <= tol * values).all():
                break
            check_at = _CHECK_AGAIN * size
        block = np.linalg.qr(rest[:, : n - size])[0]
        for _ in range(2):  # rounding brings back what was taken off
            block = np.linalg.qr(block - basis @ (basis.T @ block))[0]
    inside = basis @ within
    outside = forward(inside)
    singular = np.linalg.norm(outside, axis=0)
    outside = np.divide(outside, singular, out=np.zeros_like(outside), where=singular > 0)
    return (inside, singular, outside.T) if flipped else (outside, singular, inside.T)
