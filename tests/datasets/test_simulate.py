from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import spearmanr
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from scmag_muon.datasets import _simulate, simulate_citeseq, simulate_multiome, simulate_trimodal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mudata import MuData

SIMULATORS = pytest.mark.parametrize("simulate", [simulate_citeseq, simulate_multiome])
SECOND = {simulate_citeseq: "prot", simulate_multiome: "atac"}


def dense(mdata: MuData, modality: str) -> np.ndarray:
    return mdata[modality].X.toarray().astype(np.float64)


def components(counts: np.ndarray) -> np.ndarray:
    """Unit-scaled principal components of size-normalised log counts."""
    total = counts.sum(axis=1, keepdims=True)
    scores = PCA(20, random_state=0).fit_transform(np.log1p(counts / total * np.median(total)))
    return scores / np.sqrt((scores**2).sum(axis=1).mean())


@SIMULATORS
def test_layout(simulate: Callable[..., MuData]) -> None:
    size = {"n_prot": 7} if simulate is simulate_citeseq else {"n_peaks": 7}
    mdata = simulate(40, n_vars=50, n_clusters=3, **size)
    second = SECOND[simulate]
    assert list(mdata.mod) == ["rna", second]
    assert (mdata["rna"].shape, mdata[second].shape) == ((40, 50), (40, 7))
    assert list(mdata.obs.columns) == ["cell_type"]
    assert list(mdata.obs["cell_type"].cat.categories) == ["type_0", "type_1", "type_2"]
    assert mdata.obsm["manifold"].shape == (40, 6)
    assert list(mdata["rna"].var_names[:2]) == ["gene_0", "gene_1"]
    assert mdata[second].var_names[6] == {"prot": "prot_6", "atac": "peak_6"}[second]
    assert (mdata["rna"].var["feature_types"] == "Gene Expression").all()
    for adata in mdata.mod.values():
        assert list(adata.obs_names) == list(mdata.obs_names) == [f"cell_{i}" for i in range(40)]


@SIMULATORS
def test_counts_are_sparse_integers(simulate: Callable[..., MuData]) -> None:
    mdata = simulate(60, n_vars=80, dropout=0.2)
    for adata in mdata.mod.values():
        assert sp.issparse(adata.X)
        assert adata.X.format == "csr"
        assert adata.X.dtype == np.float32
        assert adata.X.data.min() >= 1
        np.testing.assert_array_equal(adata.X.data, np.rint(adata.X.data))


def test_modalities_differ_in_depth() -> None:
    protein = dense(simulate_citeseq(200, n_vars=50, n_prot=300), "prot")
    peaks = dense(simulate_multiome(200, n_vars=50), "atac")
    assert (protein == 0).mean() < 0.1
    assert 0.75 < (peaks == 0).mean() < 0.95
    assert protein.mean() > 50 * peaks.mean()
    assert np.quantile(protein.mean(axis=0), 0.05) > 7  # the ambient background is a floor


@SIMULATORS
def test_seed(simulate: Callable[..., MuData]) -> None:
    first, again, other = (simulate(50, n_vars=60, n_batches=2, dropout=0.1, random_state=seed) for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(first.obs, again.obs)
    np.testing.assert_array_equal(first.obsm["manifold"], again.obsm["manifold"])
    assert not np.allclose(first.obsm["manifold"], other.obsm["manifold"])
    for name in first.mod:
        np.testing.assert_array_equal(dense(first, name), dense(again, name))
        assert not np.array_equal(dense(first, name), dense(other, name))
    unseeded = [simulate(20, n_vars=20, random_state=None).obsm["manifold"] for _ in range(2)]
    assert not np.allclose(*unseeded)


def test_both_simulators_share_cells_and_rna() -> None:
    citeseq, multiome = simulate_citeseq(50, n_vars=40), simulate_multiome(50, n_vars=40)
    np.testing.assert_array_equal(dense(citeseq, "rna"), dense(multiome, "rna"))
    np.testing.assert_array_equal(citeseq.obsm["manifold"], multiome.obsm["manifold"])


@pytest.mark.parametrize(("mean", "dispersion"), [(0.5, 1.0), (4.0, 2.0), (30.0, 8.0)])
def test_negative_binomial_moments(mean: float, dispersion: float) -> None:
    rng = np.random.default_rng(0)
    draws = _simulate._negative_binomial(rng, np.full(200_000, mean), np.full(200_000, dispersion))
    assert draws.mean() == pytest.approx(mean, rel=0.02)
    assert draws.var() == pytest.approx(mean + mean**2 / dispersion, rel=0.04)


@SIMULATORS
def test_variance_follows_dispersion(simulate: Callable[..., MuData], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_simulate, "_SPREAD", 0.0)  # all cells at one place, so that only library and noise vary
    mdata = simulate(3000, n_vars=300, n_clusters=1)
    of_library = np.exp(_simulate._LIBRARY_SD**2)
    for name, adata in mdata.mod.items():
        counts = dense(mdata, name)
        mean, var = counts.mean(axis=0), counts.var(axis=0)
        clear = mean > np.median(mean)
        assert (var[clear] > mean[clear]).mean() > 0.95
        expected = mean + mean**2 * ((1 + 1 / adata.var["dispersion"]) * of_library - 1)
        assert np.median((var / expected)[clear]) == pytest.approx(1, rel=0.05)
        excess = (var - mean) / mean**2
        assert spearmanr(excess[clear], 1 / adata.var["dispersion"][clear]).statistic > 0.6


@SIMULATORS
def test_dropout_zeroes_that_share_of_the_same_counts(simulate: Callable[..., MuData]) -> None:
    dropout = 0.3
    full, thin = simulate(300, n_vars=200), simulate(300, n_vars=200, dropout=dropout)
    for name in full.mod:
        before, after = dense(full, name), dense(thin, name)
        kept = after > 0
        np.testing.assert_array_equal(after[kept], before[kept])
        n_before = (before > 0).sum()
        noise = np.sqrt(dropout * (1 - dropout) / n_before)
        assert kept.sum() / n_before == pytest.approx(1 - dropout, abs=4 * noise)


@SIMULATORS
def test_batch_effect_has_the_strength_asked_for(simulate: Callable[..., MuData]) -> None:
    strength = 0.5
    mdata = simulate(3000, n_vars=200, n_clusters=2, n_batches=2, batch_strength=strength)
    second = (mdata.obs["batch"] == "batch_1").to_numpy()
    for name in mdata.mod:
        counts = dense(mdata, name)
        for cell_type in mdata.obs["cell_type"].cat.categories:
            here = (mdata.obs["cell_type"] == cell_type).to_numpy()
            one, two = (counts[here & batch].mean(axis=0) for batch in (~second, second))
            clear = np.minimum(one, two) > 0.2
            assert clear.sum() >= 20
            assert np.log(one / two)[clear].std() == pytest.approx(np.sqrt(2) * strength, rel=0.35)


@SIMULATORS
def test_without_strength_batches_are_alike(simulate: Callable[..., MuData]) -> None:
    single = simulate(80, n_vars=60)
    assert "batch" not in single.obs
    alike = simulate(80, n_vars=60, n_batches=2, batch_strength=0.0)
    for name in single.mod:
        np.testing.assert_array_equal(dense(single, name), dense(alike, name))


def test_batches_are_even_and_cross_the_types() -> None:
    mdata = simulate_citeseq(301, n_vars=10, n_batches=3)
    sizes = mdata.obs["batch"].value_counts()
    assert sorted(sizes) == [100, 100, 101]
    assert list(mdata.obs["batch"].cat.categories) == ["batch_0", "batch_1", "batch_2"]
    assert (pd.crosstab(mdata.obs["cell_type"], mdata.obs["batch"]) >= 5).to_numpy().all()


@pytest.mark.parametrize(
    ("n_obs", "sizes", "expected"),
    [
        (100, None, [25, 25, 25, 25]),
        (102, None, [26, 26, 25, 25]),
        (100, [1, 2, 3, 4], [10, 20, 30, 40]),
        (10, [0.55, 0.25, 0.1, 0.1], [6, 2, 1, 1]),
    ],
)
def test_cluster_sizes(n_obs: int, sizes: list[float] | None, expected: list[int]) -> None:
    mdata = simulate_citeseq(n_obs, n_vars=5, n_clusters=4, cluster_sizes=sizes)
    assert mdata.obs["cell_type"].value_counts(sort=False).to_list() == expected
    assert not mdata.obs["cell_type"].cat.codes.is_monotonic_increasing


def test_manifold_is_a_curved_sheet() -> None:
    mdata = simulate_citeseq(1500, n_vars=5)
    manifold = mdata.obsm["manifold"]
    explained = PCA().fit(manifold).explained_variance_ratio_.cumsum()
    assert explained[1] < 0.85
    _, neighbours = NearestNeighbors(n_neighbors=15).fit(manifold).kneighbors(manifold)
    flat = [PCA().fit(manifold[index]).explained_variance_ratio_[:2].sum() for index in neighbours[:200]]
    assert np.median(flat) > 0.97
    codes = mdata.obs["cell_type"].cat.codes.to_numpy()
    assert (codes[neighbours[:, 1:]] == codes[:, None]).mean() > 0.9


@SIMULATORS
def test_either_modality_is_informative_and_both_are_better(simulate: Callable[..., MuData]) -> None:
    mdata = simulate()
    scores = []
    with threadpool_limits(1):  # threads slow so small a problem down
        parts = [components(dense(mdata, name)) for name in mdata.mod]
        for values in (*parts, np.hstack(parts)):
            clusters = KMeans(6, n_init=10, random_state=0).fit_predict(values)
            scores.append(adjusted_rand_score(mdata.obs["cell_type"], clusters))
    assert 0.5 < scores[0] < 0.9
    assert 0.5 < scores[1] < 0.9
    assert scores[2] > max(scores[:2])


@pytest.fixture(scope="module")
def trimodal() -> MuData:
    return simulate_trimodal()


def test_trimodal_layout(trimodal: MuData) -> None:
    shapes = {name: adata.shape for name, adata in trimodal.mod.items()}
    assert shapes == {"rna": (1000, 1000), "prot": (1000, 30), "atac": (1000, 2000)}
    assert sorted(trimodal.obs["cell_type"].value_counts()) == [111] * 8 + [112]
    assert trimodal.obsm["manifold"].shape == (1000, 12)
    assert list(trimodal["atac"].obs_names) == list(trimodal.obs_names)


def recognised(mdata: MuData, names: Sequence[str], labels: np.ndarray) -> float:
    """Share of cells whose label a linear classifier finds in components of these modalities."""
    points = np.hstack([components(dense(mdata, name))[:, :10] for name in names])
    with threadpool_limits(1):
        return cross_val_score(LinearDiscriminantAnalysis(), points, labels, cv=5).mean()


@pytest.mark.parametrize("lineage", range(3))
def test_types_of_a_lineage_need_two_of_the_three_modalities_in_turn(trimodal: MuData, lineage: int) -> None:
    names = list(trimodal.mod)
    seeing = [names[lineage], names[(lineage + 1) % 3]]
    cluster = trimodal.obs["cell_type"].cat.codes.to_numpy()
    of_lineage = trimodal[cluster % 3 == lineage]
    member = cluster[cluster % 3 == lineage] // 3
    # the second type differs from the first along the axis of one modality, the third along that of the other
    for differs, sees in ((1, seeing[0]), (2, seeing[1])):
        two = np.isin(member, (0, differs))
        for name in names:
            right = recognised(of_lineage[two], [name], member[two])
            assert right > 0.9 if name == sees else right < 0.62
    assert recognised(of_lineage, seeing, member) > 0.9


def test_two_modalities_confuse_types_that_the_third_resolves(trimodal: MuData) -> None:
    labels = trimodal.obs["cell_type"].to_numpy()
    assert recognised(trimodal, list(trimodal.mod), labels) > 0.93
    for pair in itertools.combinations(trimodal.mod, 2):
        # of nine types two pairs are one each: at best seven of nine cells are right
        assert recognised(trimodal, pair, labels) < 0.8


def test_sampling_in_chunks_keeps_cells_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = simulate_citeseq(230, n_vars=200, n_clusters=2, n_batches=2)
    monkeypatch.setattr(_simulate, "_CHUNK", 50)
    mdata = simulate_citeseq(230, n_vars=200, n_clusters=2, n_batches=2)
    assert mdata["rna"].shape == (230, 200)
    # The draws differ but not the expected counts: those of the library, the cluster and the batch.
    totals = [np.log(dense(each, "rna").sum(axis=1)) for each in (whole, mdata)]
    assert np.corrcoef(totals)[0, 1] > 0.8
    logs = [np.log1p(dense(each, "rna")) for each in (whole, mdata)]
    for column in ("cell_type", "batch"):
        first = (mdata.obs[column].cat.codes == 0).to_numpy()
        assert np.corrcoef([each[first].mean(axis=0) - each[~first].mean(axis=0) for each in logs])[0, 1] > 0.6


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"n_obs": 5}, "n_obs"),
        ({"n_obs": 10.5}, "n_obs"),
        ({"n_obs": 30, "n_batches": 31}, "n_obs"),
        ({"n_vars": 0}, "n_vars"),
        ({"n_clusters": 0}, "n_clusters"),
        ({"n_batches": 0}, "n_batches"),
        ({"n_batches": True}, "n_batches"),
        ({"batch_strength": -0.1}, "batch_strength"),
        ({"batch_strength": np.nan}, "batch_strength"),
        ({"dropout": -0.1}, "dropout"),
        ({"dropout": 1.0}, "dropout"),
        ({"cluster_sizes": [1, 2]}, "cluster_sizes"),
        ({"cluster_sizes": [1, 1, 1, 1, 1, 0]}, "cluster_sizes"),
        ({"cluster_sizes": [1e6, 1, 1, 1, 1, 1]}, "cluster_sizes"),
        ({"random_state": -1}, "random_state"),
    ],
)
@SIMULATORS
def test_bad_arguments_are_named(simulate: Callable[..., MuData], arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=f"`{named}`"):
        simulate(**{"n_obs": 60, "n_vars": 10, **arguments})


@pytest.mark.parametrize(
    ("simulate", "named"),
    [(simulate_citeseq, "n_prot"), (simulate_multiome, "n_peaks"), (simulate_trimodal, "n_peaks")],
)
def test_second_modality_needs_features(simulate: Callable[..., MuData], named: str) -> None:
    with pytest.raises(ValueError, match=f"`{named}`"):
        simulate(60, **{named: 0})
