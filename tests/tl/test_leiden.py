from __future__ import annotations

import random

import igraph
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData
from sklearn.datasets import make_blobs

from scmag_muon.manifold.neighbors import jaccard_graph, nearest_neighbors
from scmag_muon.tl._leiden import Leiden


def of_scanpy(graph: sp.csr_array, resolution: float, random_state: int) -> np.ndarray:
    """Communities as scanpy finds them."""
    scratch = AnnData(obs={"cell": np.arange(graph.shape[0]).astype(str)})
    sc.tl.leiden(
        scratch,
        adjacency=sp.csr_matrix(graph),
        resolution=resolution,
        flavor="igraph",
        n_iterations=2,
        directed=False,
        random_state=random_state,
    )
    return scratch.obs["leiden"].astype(int).to_numpy()


@pytest.fixture(scope="module")
def graph() -> sp.csr_array:
    x, _ = make_blobs(900, centers=12, n_features=8, cluster_std=2.5, random_state=0)
    return jaccard_graph(nearest_neighbors(x.astype(np.float32), 15))


@pytest.mark.parametrize("random_state", [0, 3, 1003])
@pytest.mark.parametrize("resolution", [0.5, 1, 8.0])
def test_communities_are_those_of_scanpy(graph: sp.csr_array, resolution: float, random_state: int) -> None:
    leiden = Leiden(graph)
    expected = of_scanpy(graph, resolution, random_state)
    assert expected.max() > 1
    for _ in range(2):
        np.testing.assert_array_equal(leiden(resolution, random_state), expected)


def test_cells_without_neighbours_and_entries_of_zero() -> None:
    graph = sp.csr_array(np.kron(np.eye(3), np.ones((4, 4)) - np.eye(4)))
    graph.data[:2] = 0
    found = Leiden(sp.block_diag([graph, np.zeros((2, 2))], format="csr"))(1.0, None)
    np.testing.assert_array_equal(found[:12], np.repeat([0, 1, 2], 4))
    assert len(set(found)) == 5


def test_random_numbers_of_others_stay_as_they_are(graph: sp.csr_array) -> None:
    random.seed(5)
    expected = [igraph.Graph.Barabasi(50).degree(), random.random()]
    random.seed(5)
    Leiden(graph)(1.0, 0)
    assert [igraph.Graph.Barabasi(50).degree(), random.random()] == expected
