from __future__ import annotations

import logging

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.neighbors import NearestNeighbors

from scmag_muon.manifold import neighbors
from tests.reference import manifold as reference

KERNELS = pytest.mark.parametrize("kernel", ["rbf", "poly"])
# Corners of a cube, many of them more than once: all distances are exact in floating point, and most of them are ties.
CORNERS = hnp.arrays(np.float32, st.tuples(st.integers(2, 24), st.just(4)), elements=st.sampled_from([-1.0, 1.0]))


def points(n: int = 60, d: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)) * np.linspace(2, 0.5, d)


@KERNELS
@pytest.mark.parametrize("p", [1, 2, 15, 59, 60])
def test_nearest_equal_reference(kernel: str, p: int) -> None:
    expected = reference.nearest(reference.distance(points(), kernel), p)
    np.testing.assert_array_equal(neighbors.nearest_neighbors(points(), p, kernel=kernel), expected)


def test_nearest_equal_scikit_learn() -> None:
    x = points(500, 10)
    expected = NearestNeighbors(n_neighbors=15, algorithm="brute").fit(x).kneighbors(return_distance=True)[1]
    found = neighbors.nearest_neighbors(x, 16)
    np.testing.assert_array_equal(found[:, 0], np.arange(500))
    np.testing.assert_array_equal(found[:, 1:], expected)


def test_no_more_neighbors_than_cells() -> None:
    assert neighbors.nearest_neighbors(points(7), 20).shape == (7, 7)


@KERNELS
@given(x=CORNERS, p=st.integers(1, 24))
@settings(deadline=None, max_examples=60)
def test_nearest_with_ties(kernel: str, x: np.ndarray, p: int) -> None:
    p = min(p, len(x))
    expected = reference.nearest(reference.distance(x, kernel), p)
    np.testing.assert_array_equal(neighbors.nearest_neighbors(x, p, kernel=kernel), expected)


@KERNELS
@pytest.mark.parametrize("entries", [1, 60 * 7, 60 * 30])
def test_blocks_of_rows_change_nothing(kernel: str, entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = neighbors.nearest_neighbors(points(), 9, kernel=kernel)
    monkeypatch.setattr(neighbors, "_BLOCK_ENTRIES", entries)
    np.testing.assert_array_equal(neighbors.nearest_neighbors(points(), 9, kernel=kernel), whole)


def test_approximate_search_finds_what_the_exact_one_does(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # one test for both kernels: the search is compiled once
    x = points(700, 8).astype(np.float32)
    exact = {kernel: neighbors.nearest_neighbors(x, 15, kernel=kernel) for kernel in ("rbf", "poly")}
    assert neighbors.candidates_for_all_kernels(x, 15) is None
    monkeypatch.setattr(neighbors, "_EXACT_UP_TO", 100)
    caplog.set_level(logging.INFO)
    candidates = neighbors.candidates_for_all_kernels(x, 15)
    assert "Neighbours among 700 cells are sought approximately: " in caplog.text
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
    for kernel, expected in exact.items():
        found = neighbors.nearest_neighbors(x, 15, kernel=kernel)
        for table in (found, neighbors.nearest_neighbors(x, 15, kernel=kernel, candidates=candidates)):
            np.testing.assert_array_equal(table[:, 0], np.arange(700))
            assert all(len(set(row)) == 15 for row in table.tolist())
            both = list(zip(table.tolist(), expected.tolist(), strict=True))
            assert np.mean([len(set(a) & set(b)) / 15 for a, b in both]) > 0.95
            assert all([j for j in a if j in b] == [j for j in b if j in a] for a, b in both)  # in the same order
        np.testing.assert_array_equal(found, neighbors.nearest_neighbors(x, 15, kernel=kernel))  # the seed repeats it
    # more copies of a point than neighbours: each cell is still the first of its own list
    copies = np.repeat(x[:20], 30, axis=0)
    np.testing.assert_array_equal(neighbors.nearest_neighbors(copies, 15)[:, 0], np.arange(600))


def test_recall_is_the_share_of_the_exact_neighbors_that_are_found() -> None:
    x = points(50, 4).astype(np.float32)
    found = neighbors.nearest_neighbors(x, 10)
    assert neighbors._recall(found, x, 0) == 1
    far = neighbors.nearest_neighbors(x, 50)[:, -3:]
    assert neighbors._recall(np.hstack([found[:, :7], far]), x, 0) == pytest.approx(0.7)


@KERNELS
@pytest.mark.parametrize("p", [1, 4, 15, 60])
def test_shared_equal_reference(kernel: str, p: int) -> None:
    x = points()
    squared = reference.distance(x, kernel)
    lists = reference.nearest(squared, p)
    expected = [reference.shared_neighborhood(lists, squared, i) for i in range(len(x))]
    np.testing.assert_array_equal(neighbors.shared_neighbors(np.array(lists), x, kernel=kernel), expected)


@KERNELS
@given(x=CORNERS, p=st.integers(1, 24))
@settings(deadline=None, max_examples=60)
def test_shared_with_ties(kernel: str, x: np.ndarray, p: int) -> None:
    squared = reference.distance(x, kernel)
    lists = reference.nearest(squared, min(p, len(x)))
    expected = [reference.shared_neighborhood(lists, squared, i) for i in range(len(x))]
    np.testing.assert_array_equal(neighbors.shared_neighbors(np.array(lists), x, kernel=kernel), expected)


def test_shared_by_hand() -> None:
    # 0 and 3 share two cells though neither is in the other's list; 0 shares one cell with 1 and with 2, and 1 is nearer
    x = np.array([[0.0], [1], [2], [50], [90]])
    lists = np.array([[0, 1, 2], [1, 4, 3], [2, 4, 3], [3, 1, 2], [4, 3, 2]])
    assert neighbors.shared_neighbors(lists, x)[0].tolist() == [0, 3, 1]


@KERNELS
def test_shared_over_several_blocks_of_rows(kernel: str) -> None:
    x = points(2200, 3)
    lists = neighbors.nearest_neighbors(x, 6, kernel=kernel)
    found = neighbors.shared_neighbors(lists, x, kernel=kernel)
    unit = reference.unit_norm(x)
    for i in (0, 2047, 2048, 2100, 2199):
        row = ((unit - unit[i]) ** 2).sum(axis=1)
        if kernel == "poly":
            row = (1 + (unit**2).sum(axis=1)) ** 2 + (1 + unit[i] @ unit[i]) ** 2 - 2 * (1 + unit @ unit[i]) ** 2
        squared = {(i, j): value for j, value in enumerate(row)}
        assert found[i].tolist() == reference.shared_neighborhood(lists.tolist(), squared, i)


def test_shared_with_more_than_a_million_candidates() -> None:
    # where all lists are equal, all counts are ties, and what is left is the distance
    x = points(1100, 3)
    lists = np.tile(np.arange(5), (1100, 1))
    np.testing.assert_array_equal(neighbors.shared_neighbors(lists, x), neighbors.nearest_neighbors(x, 5))


def test_indicator() -> None:
    table = np.array([[0, 2], [1, 0], [2, 1]])
    np.testing.assert_array_equal(neighbors.indicator(table).toarray(), [[1, 0, 1], [1, 1, 0], [0, 1, 1]])


@pytest.mark.parametrize("smallest", [0, 1 / 15, 0.3])
def test_jaccard_graph(smallest: float) -> None:
    lists = neighbors.nearest_neighbors(points(), 8)
    graph = neighbors.jaccard_graph(lists, smallest=smallest)
    expected = reference.jaccard(lists.tolist(), smallest)
    np.testing.assert_allclose(graph.toarray(), expected, rtol=1e-6)
    assert graph.nnz == np.count_nonzero(expected)
    assert expected.min() < 1 / 15 < expected.max()


def test_jaccard_graph_over_several_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    lists = neighbors.nearest_neighbors(points(), 8)
    whole = neighbors.jaccard_graph(lists)
    monkeypatch.setattr(neighbors, "_BLOCK_ROWS", 7)
    found = neighbors.jaccard_graph(lists)
    assert found.shape == (60, 60)
    for part in ("indptr", "indices", "data"):  # Leiden depends on the order of the edges
        np.testing.assert_array_equal(getattr(found, part), getattr(whole, part))


def test_shared_neighbors_of_cells_far_down_a_large_table() -> None:
    # the lists of two cells, among the first of a table and a million rows down
    x = points(8, 3)
    table = neighbors.indicator(neighbors.nearest_neighbors(x, 4))
    shared = sp.csr_array(table[:2] @ table.T)
    expected = neighbors._most_shared(shared, 4, x[:2], x, "rbf", 1.0, np.arange(2))
    far = 2**31 - 8
    wide = sp.csr_array((shared.data, shared.indices.astype(np.int64) + far, shared.indptr), shape=(2, 2**31))
    found = neighbors._most_shared(wide, 4, x[:2], _Shifted(x, far), "rbf", 1.0, far + np.arange(2))
    np.testing.assert_array_equal(found, expected + far)


class _Shifted:
    """Coordinates of the last cells of a table whose others nobody asks for."""

    def __init__(self, x: np.ndarray, first: int) -> None:
        self.x, self.first = x, first

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        assert rows.dtype == np.int64
        return self.x[rows - self.first]


def test_indices_take_four_bytes_for_as_long_as_they_can() -> None:
    assert neighbors.index_type(2**31 - 1) is np.int32
    assert neighbors.index_type(2**31) is np.int64
    table = neighbors.indicator(np.array([[0, 1], [1, 0], [2, 0]], dtype=np.int32))
    assert table.indices.dtype == table.indptr.dtype == np.int32
    np.testing.assert_array_equal(table.toarray(), [[1, 1, 0], [1, 1, 0], [1, 0, 1]])
