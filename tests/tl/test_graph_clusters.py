from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.spatial.distance import pdist
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score

import scmag_muon as smm
from scmag_muon.manifold.neighbors import jaccard_graph, nearest_neighbors
from scmag_muon.manifold.profiles import group_profiles
from scmag_muon.manifold.transforms import scale_to_median, transform
from scmag_muon.tl import _graph_clusters
from scmag_muon.tl._graph_clusters import (
    RESOLUTIONS,
    communities,
    community_profiles,
    fine_communities,
    leaf_communities,
    order_by_size,
    typical_communities,
)
from scmag_muon.tl._leiden import Leiden
from scmag_muon.tl._start import expression


@pytest.fixture
def blobs() -> tuple[np.ndarray, np.ndarray]:
    x, labels = make_blobs([300, 150, 60, 30], n_features=8, cluster_std=1.0, center_box=(-12, 12), random_state=0)
    return x.astype(np.float32), labels


@pytest.mark.parametrize("n_clusters", [1, 4, 9, 20])
def test_communities_are_finer_than_the_clusters_largest_first(
    blobs: tuple[np.ndarray, np.ndarray], n_clusters: int
) -> None:
    x, labels = blobs
    divisions = fine_communities(x, n_clusters).T
    numbers = [found.max() + 1 for found in divisions]
    of_seeds = np.array_split(numbers, 2)
    assert all((np.diff(of_seed) >= 0).all() for of_seed in of_seeds)
    for found in divisions:
        sizes = np.bincount(found)
        assert n_clusters <= len(sizes) <= len(x) / 10
        assert (np.diff(sizes) <= 0).all()
        assert all(len(np.unique(labels[found == i])) == 1 for i in np.unique(found))


def test_each_division_is_of_leiden_at_twice_the_resolution(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    x, _ = blobs
    divisions = fine_communities(x, 4, random_state=3)
    graph = jaccard_graph(nearest_neighbors(x, 30))
    expected = [order_by_size(Leiden(graph)(2**doublings, seed)) for seed in (3, 1003) for doublings in range(6)]
    kept = [found for found in expected if 4 <= found.max() + 1 <= len(x) / 10]
    assert 4 <= len(kept) < 12
    np.testing.assert_array_equal(divisions, np.column_stack(kept))


def test_where_communities_of_ten_cells_are_too_few_they_may_be_smaller(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    x, _ = blobs
    divisions = fine_communities(x, 60)
    assert divisions.shape == (len(x), 2)
    assert (divisions.max(axis=0) + 1 >= 60).all()


def test_more_clusters_than_the_graph_can_give() -> None:
    with pytest.raises(ValueError, match=r"into 4 communities at most, fewer than n_clusters=5. Ask for fewer"):
        fine_communities(np.zeros((4, 2), dtype=np.float32), 5)


def test_of_many_cells_a_sample_is_divided(
    blobs: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, labels = blobs
    whole, number = fine_communities(x, 4), typical_communities(x)
    divided: list[int] = []
    leiden = _graph_clusters._leiden
    monkeypatch.setattr(_graph_clusters, "_ALL_UP_TO", 500)
    monkeypatch.setattr(_graph_clusters, "_SAMPLE", 450)
    monkeypatch.setattr(_graph_clusters, "_leiden", lambda of, k: divided.append(len(of)) or leiden(of, k))
    divisions = fine_communities(x, 4)
    assert divided == [450]
    for found in divisions.T:
        sizes = np.bincount(found)
        assert sizes.sum() == 540
        assert (np.diff(sizes) <= 0).all()
        assert sizes.min() > 0
        assert sum(np.bincount(labels[found == i]).max() for i in range(len(sizes))) > 0.97 * len(x)
    assert adjusted_rand_score(whole[:, 0], divisions[:, 0]) > 0.8
    assert adjusted_rand_score(number, typical_communities(x)) > 0.95
    np.testing.assert_array_equal(divisions, fine_communities(x, 4))


def test_each_other_cell_goes_where_most_of_its_nearest_are() -> None:
    labels = np.array([[2, 1, 1, 2, 0], [0, 3, 3, 3, 0], [1, 2, 3, 4, 5]])
    assert _graph_clusters._vote(labels).tolist() == [2, 3, 1]


def test_same_seed_same_communities(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    np.testing.assert_array_equal(fine_communities(blobs[0], 7), fine_communities(blobs[0], 7))


def test_communities_of_separate_groups(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    x, labels = blobs
    found = typical_communities(x)
    # every community lies within one group, and the groups of less than 150 cells stay whole
    assert all(len(np.unique(labels[found == i])) == 1 for i in np.unique(found))
    assert len(np.unique(found[labels == 3])) == 1


@pytest.mark.parametrize(("n_cells", "n_neighbors"), [(40, 10), (600, 20), (1200, 30)])
def test_graph_of_few_cells_has_fewer_neighbors(n_cells: int, n_neighbors: int) -> None:
    x = np.random.default_rng(0).normal(size=(n_cells, 6)).astype(np.float32)
    (found,) = communities(x, resolutions=(1.0,))
    expected = Leiden(jaccard_graph(nearest_neighbors(x, n_neighbors)))(1.0, 0)
    np.testing.assert_array_equal(found, order_by_size(expected))


def test_groups_smaller_than_the_neighborhoods_of_many_cells_are_found() -> None:
    x, labels = make_blobs([20] * 8, n_features=8, cluster_std=1.0, center_box=(-6, 6), random_state=0)
    assert adjusted_rand_score(labels, typical_communities(x.astype(np.float32))) > 0.95


def test_communities_where_no_number_is_given_agree_best_with_those_at_other_resolutions() -> None:
    # without groups, the number grows with the resolution
    x = np.random.default_rng(0).normal(size=(400, 6)).astype(np.float32)
    found = communities(x, resolutions=RESOLUTIONS)
    agreement = [np.mean([adjusted_rand_score(one, other) for other in found if other is not one]) for one in found]
    assert len({labels.max() for labels in found}) > 2
    assert 0 < np.argmax(agreement) < len(found) - 1
    np.testing.assert_array_equal(typical_communities(x), found[np.argmax(agreement)])


def test_order_by_size() -> None:
    assert order_by_size(np.array([7, 7, 2, 9, 9, 9])).tolist() == [1, 1, 2, 0, 0, 0]


@pytest.mark.parametrize("batched", [False, True])
def test_profiles_are_of_the_features_that_were_fitted_weighted_as_the_modalities_are(batched: bool) -> None:
    mdata = smm.datasets.simulate_citeseq(n_obs=150, n_vars=80, n_prot=12, n_clusters=3)
    mdata["rna"].var["highly_variable"] = np.arange(80) % 2 == 0
    smm.pp.manifold_fit(mdata)
    weights = [0.9, 0.5]
    for name, weight in zip(("rna", "prot"), weights, strict=True):
        mdata[name].uns["manifold"]["modality_weight"] = weight
    divisions = np.random.default_rng(0).integers(0, 4, (150, 2))
    batches = pd.Categorical(np.where(np.arange(150) % 3 == 0, "a", "b")) if batched else None
    counts = expression(mdata, "manifold", None, 0)
    found, weight = community_profiles(mdata, divisions, counts=counts, manifold_key="manifold", batches=batches)
    assert weight == pytest.approx(2 * 0.9**2 / (0.9**2 + 0.5**2))
    rna, proteins = sp.csr_array(mdata["rna"].X[:, ::2]), sp.csr_array(mdata["prot"].X)
    views = [transform(scale_to_median(rna), "log"), transform(proteins, "clr")]
    expected = group_profiles(views, weights, divisions, batches.codes if batched else None)
    for profiles, of_division in zip(found, expected, strict=True):
        np.testing.assert_allclose(pdist(profiles), pdist(of_division), rtol=1e-5)


def test_leaves_are_the_coarsest_communities_that_are_enough(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    x, _ = blobs
    graph = jaccard_graph(nearest_neighbors(x, 18))  # a thirtieth of 540 cells
    numbers = [int(Leiden(graph)(resolution, 0).max()) + 1 for resolution in (1, 2, 4, 8)]
    assert numbers == sorted(numbers)
    assert leaf_communities(x, numbers[1]).max() + 1 == numbers[1]
    assert leaf_communities(x, numbers[1] + 1).max() + 1 == numbers[2]
    found = leaf_communities(x, 540)
    assert (found.max() + 1) * 10 <= 540
    assert (np.diff(np.bincount(found)) <= 0).all()
