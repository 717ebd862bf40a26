"""Nearest neighbours under a kernel's distance and shared nearest neighbours (paper, eq. 7-8)."""

from __future__ import annotations

import logging

import numpy as np
import scipy.sparse as sp

from scmag_muon.manifold.kernels import POLY_OFFSET, Kernel, poly_gamma, squared_distance_pairs
from scmag_muon.manifold.threads import in_blocks

logger = logging.getLogger(__name__)

_BLOCK_ENTRIES = 1_000_000  # few enough to stay in the cache
_GROUPS = 240
_EXACT_UP_TO = 50_000
_CANDIDATES_PER_NEIGHBOR = 4
_CELLS_CHECKED = 200
_ENOUGH_FOUND = 0.9
_BLOCK_ROWS = 1024
_BLOCK_PAIRS = 50_000


def nearest_neighbors(
    x: np.ndarray,
    n_neighbors: int,
    *,
    kernel: Kernel = "rbf",
    candidates: np.ndarray | None = None,
    random_state: int | None = 0,
) -> np.ndarray:
    """The ``n_neighbors`` nearest cells of each cell, itself first, shape ``(n_obs, n_neighbors)``.

    Exact up to 50,000 cells, by blocks of rows; above, candidates come from an approximate Euclidean search, unless they are
    given, and are ranked by the exact kernel distance. Equal distances are ordered by index.
    """
    n_obs = len(x)
    n_neighbors = min(n_neighbors, n_obs)
    gamma = poly_gamma(x) if kernel == "poly" else 1.0
    if n_obs > _EXACT_UP_TO:
        if candidates is None:
            n_candidates = n_neighbors if kernel == "rbf" else _CANDIDATES_PER_NEIGHBOR * n_neighbors
            candidates = _search(x, n_candidates, random_state)
        return _nearest_of(candidates, x, n_neighbors, kernel, gamma)
    transposed = np.ascontiguousarray(x.T)
    own = np.einsum("ij,ij->i", x, x)
    step = max(1, _BLOCK_ENTRIES // n_obs)

    def work(start: int) -> np.ndarray:
        rank = _rank(x[start : start + step] @ transposed, own, kernel, gamma)
        rows = np.arange(len(rank))
        rank[rows, start + rows] = -np.inf
        return _smallest(rank, n_neighbors).astype(np.int32)

    return np.concatenate(in_blocks(work, range(0, n_obs, step)))


def _rank(products: np.ndarray, own: np.ndarray, kernel: Kernel, gamma: float) -> np.ndarray:
    """What orders the columns of each row as the squared distance does, written into ``products``.

    Of the distance :math:`K_{ii} + K_{jj} - 2K_{ij}` the first term is the same for all of a row.
    """
    if kernel == "poly":
        products *= gamma
        products += POLY_OFFSET
        products *= products
        own = (gamma * own + POLY_OFFSET) ** 2
    products *= -2
    products += own
    return products


def _smallest(rank: np.ndarray, k: int) -> np.ndarray:
    """Columns of the ``k`` smallest entries of each row, in order, ties by column."""
    n_rows, n_columns = rank.shape
    if k >= n_columns:
        return np.argsort(rank, axis=1, kind="stable")
    # columns in groups: the k-th smallest of the groups' minima is no less than the k-th smallest entry
    n_groups = min(n_columns, max(_GROUPS, 4 * k))
    width = n_columns // n_groups
    lowest = rank[:, : n_groups * width].reshape(n_rows, width, n_groups).min(axis=1)
    bound = np.partition(lowest, k - 1, axis=1)[:, k - 1]
    entry = np.flatnonzero(rank <= bound[:, None])
    row, column = np.divmod(entry, n_columns)
    order = np.lexsort((rank.ravel()[entry], row))
    return column[order][np.searchsorted(row, np.arange(n_rows))[:, None] + np.arange(k)]


def candidates_for_all_kernels(x: np.ndarray, n_neighbors: int) -> np.ndarray | None:
    """Cells among which :func:`nearest_neighbors` may look under each kernel; ``None`` where it looks at all cells."""
    return _search(x, _CANDIDATES_PER_NEIGHBOR * n_neighbors, random_state=0) if len(x) > _EXACT_UP_TO else None


def _search(x: np.ndarray, n_candidates: int, random_state: int | None) -> np.ndarray:
    """Cells that are near by Euclidean distance, about the nearest ones, among them the cell itself."""
    from pynndescent import NNDescent

    found, _ = NNDescent(x, n_neighbors=n_candidates, random_state=random_state).neighbor_graph
    rows = np.arange(len(x))
    without_self = ~(found == rows[:, None]).any(axis=1)  # as happens among many copies of one point
    found[without_self, -1] = rows[without_self]
    share = _recall(found, x, random_state)
    logger.log(
        logging.INFO if share >= _ENOUGH_FOUND else logging.WARNING,
        "Neighbours among %d cells are sought approximately: %.1f %% of the exact ones are found, as %d sampled cells tell.",
        len(x),
        100 * share,
        _CELLS_CHECKED,
    )
    return found


def _recall(found: np.ndarray, x: np.ndarray, random_state: int | None) -> float:
    """Share of the cells found that are as near as the exact nearest ones, for a sample; so that ties do not count against it."""
    sample = np.random.default_rng(random_state).choice(len(x), min(_CELLS_CHECKED, len(x)), replace=False)
    exact = nearest_in(x[sample], x, found.shape[1])
    apart, limits = (np.square(x[cells] - x[sample, None]).sum(axis=2) for cells in (found[sample], exact))
    return float((apart <= 1.00001 * limits.max(axis=1, keepdims=True)).mean())


def _nearest_of(candidates: np.ndarray, x: np.ndarray, n_neighbors: int, kernel: Kernel, gamma: float) -> np.ndarray:
    distance = np.empty(candidates.shape, dtype=np.float32)
    for column in range(candidates.shape[1]):
        distance[:, column] = squared_distance_pairs(x, x[candidates[:, column]], kernel, gamma=gamma)
    distance[candidates == np.arange(len(x))[:, None]] = -1
    return np.take_along_axis(candidates, _smallest(distance, n_neighbors), axis=1).astype(np.int32)


def nearest_in(
    x: np.ndarray, reference: np.ndarray, n_neighbors: int, *, kernel: Kernel = "rbf", gamma: float = 1.0
) -> np.ndarray:
    """The ``n_neighbors`` reference cells that are nearest to each row of ``x``, ties by index, int32.

    Exact, by blocks of rows. ``gamma`` is :func:`~scmag_muon.manifold.kernels.poly_gamma` of the reference.
    """
    transposed = np.ascontiguousarray(reference.T)
    own = np.einsum("ij,ij->i", reference, reference)
    step = max(1, _BLOCK_ENTRIES // len(reference))

    def work(start: int) -> np.ndarray:
        rank = _rank(x[start : start + step] @ transposed, own, kernel, gamma)
        return _smallest(rank, min(n_neighbors, len(reference)))[:, :n_neighbors].astype(np.int32)

    parts = in_blocks(work, range(0, len(x), step))
    return np.concatenate(parts) if parts else np.empty((0, min(n_neighbors, len(reference))), np.int32)


def indicator(
    neighbors: np.ndarray, n_columns: int | None = None, *, dtype: type[np.number] = np.float32
) -> sp.csr_array:
    """Sparse 0/1 matrix of a neighbour table, shape ``(n_obs, n_obs)`` or ``(n_obs, n_columns)``."""
    n_obs, k = neighbors.shape
    data = np.ones(neighbors.size, dtype=dtype)
    indptr = np.arange(0, neighbors.size + 1, k, dtype=index_type(neighbors.size))
    return sp.csr_array((data, neighbors.ravel(), indptr), shape=(n_obs, n_columns or n_obs))


def index_type(n_entries: int) -> type[np.integer]:
    """Integers that count so many entries of a sparse matrix, in half the memory where they do."""
    return np.int32 if n_entries <= np.iinfo(np.int32).max else np.int64


def jaccard_graph(neighbors: np.ndarray, *, smallest: float = 1 / 15) -> sp.csr_array:
    """Graph of the shared neighbours: shared over all of the two lists, edges below ``smallest`` left out, ``(n_obs, n_obs)``.

    By blocks of rows: most pairs that share anything share little, and all of them at once would not fit into memory.
    """
    table = indicator(neighbors)
    transposed = table.T.tocsr()

    def work(start: int) -> sp.csr_array:
        graph = table[start : start + _BLOCK_ROWS] @ transposed
        graph.data /= 2 * neighbors.shape[1] - graph.data
        rows = np.repeat(np.arange(start, start + graph.shape[0]), np.diff(graph.indptr))
        graph.data[(graph.data < smallest) | (graph.indices == rows)] = 0
        graph.eliminate_zeros()
        return graph

    return sp.vstack(in_blocks(work, range(0, len(neighbors), _BLOCK_ROWS)), format="csr")


def shared_neighbors(neighbors: np.ndarray, x: np.ndarray, *, kernel: Kernel = "rbf") -> np.ndarray:
    """For each cell the p cells that share most neighbours with it, R(i) of eq. 8, shape ``(n_obs, p)``.

    SNN(i, j) is the number of cells that stand in both neighbour lists (eq. 7). The cell itself always shares all p and
    comes first. Ties are broken by kernel distance, then by index.
    """
    gamma = poly_gamma(x) if kernel == "poly" else 1.0
    own = np.arange(len(x))
    return shared_neighbors_in(neighbors, x, neighbors, x, kernel=kernel, gamma=gamma, own=own)


def shared_neighbors_in(
    neighbors: np.ndarray,
    x: np.ndarray,
    of_reference: np.ndarray,
    reference: np.ndarray,
    *,
    kernel: Kernel = "rbf",
    gamma: float = 1.0,
    among: np.ndarray | None = None,
    own: np.ndarray | None = None,
) -> np.ndarray:
    """For each row of ``x`` the p reference cells whose neighbour lists have most in common with its own.

    Parameters
    ----------
    neighbors, of_reference
        p nearest reference cells of each row, and of each reference cell.
    x, reference
        Where rows and reference cells are.
    among
        Reference cells that may be chosen, in rising order; all by default. Where fewer than p of them share a neighbour with
        a row, the nearest of the others follow.
    own
        For each row the reference cell that it is, to come first; -1 for none.

    Returns
    -------
    Numbers of reference cells, shape ``(n_rows, p)``, fewer columns where ``among`` has fewer.
    """
    n_reference = len(reference)
    chosen = np.arange(n_reference) if among is None else among
    p = min(neighbors.shape[1], len(chosen))
    table = indicator(neighbors, n_reference)
    of_chosen = of_reference if among is None else of_reference[chosen]
    transposed = indicator(of_chosen, n_reference).T.tocsr()
    places = reference if among is None else reference[chosen]
    rows_own = np.full(len(x), -1) if own is None else own
    if among is not None:
        number = np.full(n_reference + 1, -1)
        number[chosen] = np.arange(len(chosen))
        rows_own = number[rows_own]

    def work(start: int) -> np.ndarray:
        rows = slice(start, start + _BLOCK_ROWS)
        shared = table[rows] @ transposed
        short = np.flatnonzero(np.diff(shared.indptr) < p)
        if len(short):
            shared = _with_nearest(shared, short, x[rows], places, p, kernel, gamma)
        return _most_shared(shared, p, x[rows], places, kernel, gamma, rows_own[rows])

    parts = in_blocks(work, range(0, len(x), _BLOCK_ROWS))
    found = np.concatenate(parts) if parts else np.empty((0, p), np.int32)
    return found if among is None else chosen[found].astype(np.int32)


def _with_nearest(
    shared: sp.csr_array, short: np.ndarray, x: np.ndarray, places: np.ndarray, p: int, kernel: Kernel, gamma: float
) -> sp.csr_array:
    """Entries of a quarter, which is no neighbour, for the nearest cells of rows that have fewer than p entries."""
    nearest = nearest_in(x[short], places, p, kernel=kernel, gamma=gamma).ravel()
    rows = np.repeat(short, p)
    return sp.csr_array(
        shared + sp.csr_array((np.full(len(rows), 0.25, np.float32), (rows, nearest)), shape=shared.shape)
    )


def _most_shared(
    shared: sp.csr_array, p: int, x: np.ndarray, places: np.ndarray, kernel: Kernel, gamma: float, own: np.ndarray
) -> np.ndarray:
    n_rows = shared.shape[0]
    row = np.repeat(np.arange(n_rows), np.diff(shared.indptr))
    most = int(shared.data.max(initial=p))
    column, missing = shared.indices, most - shared.data.astype(np.int64)
    # only pairs that reach the p-th largest count of their row can be chosen: rank those alone by distance
    with_count = np.bincount(row * (most + 1) + missing, minlength=n_rows * (most + 1)).reshape(n_rows, most + 1)
    threshold = (np.cumsum(with_count, axis=1) >= p).argmax(axis=1)
    keep = np.flatnonzero(missing <= threshold[row])
    row, column, missing = row[keep], column[keep], missing[keep]
    distance = np.empty(len(row), dtype=np.float32)
    for begin in range(0, len(row), _BLOCK_PAIRS):
        part = slice(begin, begin + _BLOCK_PAIRS)
        distance[part] = squared_distance_pairs(x[row[part]], places[column[part]], kernel, gamma=gamma)
    distance[column == own[row]] = -1
    order = np.lexsort((column, distance, row * (most + 1) + missing))
    first = np.searchsorted(row[order], np.arange(n_rows))
    return column[order][first[:, None] + np.arange(p)].astype(np.int32)
