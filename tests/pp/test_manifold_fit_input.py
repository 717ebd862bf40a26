"""What :func:`scmag_muon.pp.manifold_fit` accepts, and which features and batches it uses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.sparse as sp
from anndata import AnnData

import scmag_muon as smm
from scmag_muon._assays import ASSAYS
from scmag_muon._mudata import copy_of, make_mudata
from scmag_muon.datasets import simulate_citeseq
from tests.reference import manifold as reference

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

N, GENES, PROTEINS = 90, 40, 12


@pytest.fixture
def mdata() -> MuData:
    """Counts of 90 cells in two batches; every feature is seen in each."""
    return simulate_citeseq(
        n_obs=N, n_vars=GENES, n_prot=PROTEINS, n_clusters=3, n_batches=2, batch_strength=1.5, random_state=3
    )


def dense(x: object) -> np.ndarray:
    return x.toarray() if sp.issparse(x) else np.asarray(x)


def with_counts(mdata: MuData, change: Callable[[np.ndarray], object], name: str | None = None) -> MuData:
    """The same cells and features, and other counts in one modality or in both."""
    mods = {}
    for modality, adata in mdata.mod.items():
        counts = change(dense(adata.X)) if name in (None, modality) else adata.X
        mods[modality] = AnnData(counts, obs=adata.obs, var=adata.var)
    return make_mudata(mods, mdata.obs)


def fitted(mdata: MuData, **arguments: object) -> dict[str, np.ndarray]:
    result = smm.pp.manifold_fit(mdata, copy=True, **arguments)
    return {name: dense(result[name].layers["manifold"]) for name in mdata.mod}


def assert_equal(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


# --- form of the counts
@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array, sp.csc_array])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint16])
def test_form_of_the_counts_does_not_matter(mdata: MuData, form: Callable[..., object], dtype: type) -> None:
    other = with_counts(mdata, lambda counts: form(counts.astype(dtype)))
    before = {name: dense(other[name].X).copy() for name in other.mod}
    assert_equal(fitted(other), fitted(mdata))
    for name, adata in other.mod.items():
        assert adata.X.dtype == dtype
        np.testing.assert_array_equal(dense(adata.X), before[name])


@pytest.mark.parametrize("layer", ["counts", {"rna": "counts", "prot": "counts"}])
def test_counts_of_a_layer(mdata: MuData, layer: object) -> None:
    other = with_counts(mdata, np.log1p)
    for name in mdata.mod:
        other[name].layers["counts"] = mdata[name].X
    assert_equal(fitted(other, layer=layer), fitted(mdata))


def test_layer_of_one_modality(mdata: MuData) -> None:
    other = with_counts(mdata, np.log1p, "prot")
    other["prot"].layers["counts"] = mdata["prot"].X
    assert_equal(fitted(other, layer={"prot": "counts"}), fitted(mdata))


def test_modalities_are_found_and_can_be_named(mdata: MuData) -> None:
    swapped = make_mudata({"prot": mdata["prot"].copy(), "rna": mdata["rna"].copy()})
    assert_equal({name: fitted(swapped)[name] for name in mdata.mod}, fitted(mdata))
    third = make_mudata({**mdata.mod, "atac": mdata["rna"].copy()})
    smm.pp.manifold_fit(third, modalities=("rna", "prot"))
    assert "manifold" not in third["atac"].layers
    assert_equal({name: third[name].layers["manifold"] for name in mdata.mod}, fitted(mdata))


@pytest.mark.parametrize("view", ["MuData", "modalities"])
def test_views_become_objects_of_their_own(mdata: MuData, view: str) -> None:
    if view == "MuData":
        part = mdata[: mdata.n_obs - 5]
    else:
        part = make_mudata({"rna": mdata["rna"][:, :-3], "prot": mdata["prot"][:, :-2]})
    expected = copy_of(part)
    smm.pp.manifold_fit(expected)
    smm.pp.manifold_fit(part)
    assert not part.is_view
    for name, adata in part.mod.items():
        np.testing.assert_array_equal(adata.layers["manifold"], expected[name].layers["manifold"])
        assert "manifold" not in mdata[name].layers
    assert "X_manifold" not in mdata.obsm
    assert not mdata.uns


def test_seed(mdata: MuData) -> None:
    assert_equal(fitted(mdata, random_state=0), fitted(mdata))
    weights = [
        smm.pp.manifold_fit(mdata, random_state=seed, copy=True)["rna"].uns["manifold"]["modality_weight"]
        for seed in (0, 1)
    ]
    assert weights[0] != weights[1]


def test_order_of_the_cells_does_not_matter(mdata: MuData) -> None:
    order = np.random.default_rng(0).permutation(N)
    permuted = make_mudata({name: adata[order].copy() for name, adata in mdata.mod.items()})
    before, after = (fitted(x, neighborhoods="own") for x in (mdata, permuted))
    for name in mdata.mod:
        np.testing.assert_allclose(after[name], before[name][order], atol=1e-3)


def test_more_neighbors_and_components_than_there_are(mdata: MuData) -> None:
    result = smm.pp.manifold_fit(mdata, n_neighbors=1000, n_pcs=1000, copy=True)
    assert result["rna"].uns["manifold"]["params"]["n_neighbors"] == N
    # each cell is moved to the mean of all cells, where no feature varies
    assert not result["rna"].layers["manifold"].any()


# --- features
@pytest.mark.parametrize("column", ["highly_variable", "mine"])
def test_features_that_a_column_chooses(mdata: MuData, column: str) -> None:
    chosen = np.arange(GENES) % 3 == 0
    mdata["rna"].var["highly_variable"] = chosen if column == "highly_variable" else ~chosen
    mdata["rna"].var["mine"] = chosen
    smm.pp.manifold_fit(mdata, mask_var=None if column == "highly_variable" else column)
    layer = mdata["rna"].layers["manifold"]
    assert sp.issparse(layer)
    assert layer.dtype == np.float32
    np.testing.assert_array_equal(mdata["rna"].var["manifold"], chosen)
    assert not layer[:, ~chosen].toarray().any()
    assert isinstance(mdata["prot"].layers["manifold"], np.ndarray)
    assert mdata["prot"].var["manifold"].all()
    # the same as if no other feature had ever been there
    only = make_mudata({"rna": mdata["rna"][:, chosen].copy(), "prot": mdata["prot"].copy()})
    del only["rna"].var["highly_variable"]
    np.testing.assert_array_equal(layer[:, chosen].toarray(), fitted(only)["rna"])


def test_features_without_counts_take_no_part(mdata: MuData) -> None:
    def drop(counts: np.ndarray) -> np.ndarray:
        return np.where(np.arange(counts.shape[1]) == 5, 0, counts)

    other = with_counts(mdata, drop)
    smm.pp.manifold_fit(other)
    for adata in other.mod.values():
        assert not adata.layers["manifold"][:, 5].any()
        np.testing.assert_array_equal(adata.var["manifold"], np.arange(adata.n_vars) != 5)


def test_variable_features_are_chosen_where_there_are_too_many(mdata: MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    # 100 of 400 genes differ between two groups of cells, all have the same mean
    rng = np.random.default_rng(0)
    order = rng.permutation(400)
    varies = order < 100
    high = (np.arange(N)[:, None] + order) % 2  # each group has as many high genes as the other
    rates = np.where(varies, np.where(high, 9.0, 1.0), 5.0)
    rna = AnnData(sp.csr_matrix(rng.poisson(rates).astype(np.float32)), obs=mdata["rna"].obs)
    rna.var_names = [f"gene_{i}" for i in range(400)]
    mdata = make_mudata({"rna": rna, "prot": mdata["prot"]})
    monkeypatch.setitem(ASSAYS, "rna", replace(ASSAYS["rna"], max_features=100))
    smm.pp.manifold_fit(mdata)
    chosen = mdata["rna"].var["manifold"].to_numpy()
    assert 100 <= chosen.sum() <= 103  # scanpy keeps genes that tie with the last
    assert chosen[varies].mean() > 0.9
    assert list(mdata["rna"].var.columns) == ["manifold"]
    assert mdata["rna"].layers["manifold"].nnz == N * chosen.sum()
    assert mdata["prot"].var["manifold"].all()
    monkeypatch.setitem(ASSAYS, "rna", replace(ASSAYS["rna"], max_features=400))
    smm.pp.manifold_fit(mdata)
    assert mdata["rna"].var["manifold"].all()


def test_views_are_kept_on_request(mdata: MuData) -> None:
    mdata["rna"].var["highly_variable"] = np.arange(GENES) < 15
    smm.pp.manifold_fit(mdata, key_added="fit", keep_views=True)
    for adata in mdata.mod.values():
        # anndata 0.13 counts X among the layers, under None
        assert set(adata.layers) - {None} == {"fit", *(f"fit_{view}" for view in reference.VIEWS)}
    for view in reference.VIEWS:
        assert sp.issparse(mdata["rna"].layers[f"fit_{view}"])
        assert mdata["rna"].layers[f"fit_{view}"].shape == (N, GENES)


# --- batches
@pytest.mark.parametrize("neighborhoods", ["shared", "own"])
@pytest.mark.parametrize("place", ["mdata", "modality"])
def test_standardised_within_batches(mdata: MuData, neighborhoods: str, place: str) -> None:
    batch = mdata.obs["batch"].to_numpy()
    if place == "modality":
        del mdata.obs["batch"]
        mdata["prot"].obs["batch"] = batch
    smm.pp.manifold_fit(mdata, batch_key="batch", neighborhoods=neighborhoods)
    for adata in mdata.mod.values():
        for name in ("batch_0", "batch_1"):
            rows = adata.layers["manifold"][batch == name]
            np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-5)
            np.testing.assert_allclose(rows.std(axis=0), 1, rtol=1e-4)
    for name in ("batch_0", "batch_1"):
        # about as many cells of each type in both
        assert np.linalg.norm(mdata.obsm["X_manifold_unfitted"][batch == name].mean(axis=0)) < 0.3


@pytest.mark.parametrize("neighborhoods", ["shared", "own"])
def test_neighbors_come_from_all_batches(neighborhoods: str) -> None:
    # counts tell the batches apart by far more than they tell the types apart
    mdata = simulate_citeseq(n_obs=200, n_vars=60, n_prot=20, n_clusters=2, n_batches=2, batch_strength=2.0)
    batch = (mdata.obs["batch"] == "batch_0").to_numpy()

    def gap(**arguments: object) -> float:
        """Difference of the batches' means of the fitted log view, in standard deviations within the batches."""
        result = smm.pp.manifold_fit(mdata, keep_views=True, neighborhoods=neighborhoods, copy=True, **arguments)
        view = dense(result["rna"].layers["manifold_log_rbf"])
        return np.median(np.abs(view[batch].mean(axis=0) - view[~batch].mean(axis=0)))

    assert gap(batch_key="batch") < 0.6 * gap()


@pytest.mark.parametrize("n_obs", [1, 2])
def test_too_few_cells(mdata: MuData, n_obs: int) -> None:
    # neighbourhoods can't replicate, but numbers stay finite
    few = mdata[:n_obs].copy()
    smm.pp.manifold_fit(few)
    assert np.isfinite(dense(few["rna"].layers["manifold"])).all()
    assert few["rna"].uns["manifold"]["replication"] == 0


@pytest.mark.parametrize(("sizes", "told"), [([30, 60], None), ([1, 89], "1 of 2"), ([1] * 90, "90 of 90")])
def test_batches_of_a_single_cell_are_told(
    mdata: MuData, sizes: list[int], told: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    mdata.obs["donor"] = np.repeat([f"donor {i}" for i in range(len(sizes))], sizes)
    smm.pp.manifold_fit(mdata, batch_key="donor")
    of_batches = [message for message in caplog.messages if "batches hold a single cell" in message]
    assert len(of_batches) == (told is not None)
    assert told is None or f"batch_key='donor': {told} batches" in of_batches[0]
