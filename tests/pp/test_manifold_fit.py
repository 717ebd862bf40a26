from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import scmag_muon as smm
from scmag_muon.datasets import simulate_citeseq, simulate_multiome
from scmag_muon.manifold import information
from scmag_muon.pp._messages import warn_of_little_information
from tests.reference import manifold as reference

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

KEEP = 40  # genes; with fewer genes than components, components are exact


@pytest.fixture
def mdata() -> MuData:
    """Counts of 90 cells; every feature is seen."""
    return simulate_citeseq(n_obs=90, n_vars=KEEP, n_prot=12, n_clusters=3, random_state=11)


def dense(x: object) -> np.ndarray:
    return x.toarray() if sp.issparse(x) else np.asarray(x)


def transformed(mdata: MuData, name: str) -> dict[str, np.ndarray]:
    counts = dense(mdata[name].X).astype(float)
    counts = counts if name == "prot" else reference.median_scaled(counts)
    return {kind: function(counts) for kind, function in reference.TRANSFORMS.items()}


def test_all_features_are_seen(mdata: MuData) -> None:
    for adata in mdata.mod.values():
        assert dense(adata.X).any(axis=0).all()


def test_what_is_written_where(mdata: MuData) -> None:
    before = {name: adata.copy() for name, adata in mdata.mod.items()}
    assert smm.pp.manifold_fit(mdata) is None
    for name, adata in mdata.mod.items():
        layer = adata.layers["manifold"]
        assert isinstance(layer, np.ndarray)
        assert (layer.dtype, layer.shape) == (np.float32, adata.shape)
        np.testing.assert_allclose(layer.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(layer.std(axis=0), 1, rtol=1e-4)
        assert adata.var["manifold"].dtype == bool
        assert adata.var["manifold"].all()
        # anndata 0.13 counts X among the layers, under None
        assert set(adata.layers) - {None} == {"manifold"}
        record = adata.uns["manifold"]
        assert set(record) >= {"params", "kind", "view_weights", "replication", "concordance", "modality_weight", "fit"}
        assert list(record["view_weights"]) == list(reference.VIEWS)
        assert sum(record["view_weights"].values()) == pytest.approx(1)
        assert 0 < record["replication"] <= 1
        assert 0.05 < record["concordance"] <= 1
        np.testing.assert_array_equal(dense(adata.X), dense(before[name].X))
        assert list(adata.var.columns) == [*before[name].var.columns, "manifold"]
    weights = [mdata[name].uns["manifold"]["modality_weight"] for name in ("rna", "prot")]
    shares = np.array([mdata[name].uns["manifold"]["replication"] for name in ("rna", "prot")])
    np.testing.assert_allclose(weights, np.sqrt(shares / shares.sum()))
    assert list(mdata.obs.columns) == ["cell_type"]
    for key in ("X_manifold", "X_manifold_unfitted"):
        assert mdata.obsm[key].shape == (90, 30 + 12)
        assert mdata.obsm[key].dtype == np.float32


def test_parameters_are_kept(mdata: MuData) -> None:
    smm.pp.manifold_fit(mdata, n_neighbors=9, n_pcs=7, fusion_penalty=2.0, step=0.5, random_state=3, key_added="fit")
    assert mdata["rna"].uns["fit"]["params"] == {
        "modalities": ["rna", "prot"],
        "kinds": ["rna", "protein"],
        "round_counts": False,
        "n_neighbors": 9,
        "n_pcs": 7,
        "neighborhoods": "shared",
        "fusion_penalty": 2.0,
        "step": 0.5,
        "random_state": 3,
    }
    assert {"X_fit", "X_fit_unfitted"} <= set(mdata.obsm)
    assert mdata.obsm["X_fit"].shape == (90, 14)
    assert "manifold" not in mdata["rna"].layers
    assert "manifold" not in mdata["rna"].uns


def test_joint_space_equals_reference(mdata: MuData) -> None:
    smm.pp.manifold_fit(mdata, n_pcs=50)
    joint = mdata.obsm["X_manifold_unfitted"]
    blocks = {"rna": joint[:, :KEEP], "prot": joint[:, KEEP:]}
    for name, kind in (("rna", "scaled"), ("prot", "clr")):
        expected = reference.principal_scores(transformed(mdata, name)[kind], 50)
        expected *= mdata[name].uns["manifold"]["modality_weight"] / np.sqrt(expected.var(axis=0).sum())
        # the sign of a component is free
        np.testing.assert_allclose(np.abs(blocks[name]), np.abs(expected), atol=1e-4)


@pytest.mark.parametrize("step", [1.0, 0.4])
def test_shared_neighborhoods_equal_reference(mdata: MuData, step: float) -> None:
    smm.pp.manifold_fit(mdata, keep_views=True, n_neighbors=10, step=step)
    joint = mdata.obsm["X_manifold_unfitted"]
    around = {kernel: reference.neighborhoods(joint, 10, kernel) for kernel in ("rbf", "poly")}
    moved = reference.on_line(joint, reference.means(joint, around["rbf"]), step)
    np.testing.assert_allclose(mdata.obsm["X_manifold"], moved, atol=1e-5)
    check_views(
        mdata,
        {name: {view: around[kernel] for view, (_, kernel) in reference.VIEWS.items()} for name in mdata.mod},
        step,
    )


def test_own_neighborhoods_equal_reference(mdata: MuData) -> None:
    smm.pp.manifold_fit(mdata, keep_views=True, neighborhoods="own", n_neighbors=10, n_pcs=50)
    around = {}
    for name in mdata.mod:
        views = transformed(mdata, name)
        scores = {kind: reference.principal_scores(y, 50) for kind, y in views.items()}
        around[name] = {
            view: reference.neighborhoods(scores[kind], 10, kernel) for view, (kind, kernel) in reference.VIEWS.items()
        }
    check_views(mdata, around, step=1.0)


def check_views(mdata: MuData, around: dict[str, dict[str, list[list[int]]]], step: float) -> None:
    """The views that were kept, and their fusion, equal the reference's for the given neighbourhoods."""
    for name, adata in mdata.mod.items():
        views = []
        for view, (kind, _) in reference.VIEWS.items():
            y = transformed(mdata, name)[kind]
            views.append(reference.on_line(y, reference.means(y, around[name][view]), step))
            np.testing.assert_allclose(adata.layers[f"manifold_{view}"], views[-1], rtol=1e-4, atol=1e-5)
        expected, weights = reference.fused(views, penalty=1.0)
        np.testing.assert_allclose(list(adata.uns["manifold"]["view_weights"].values()), weights, atol=1e-3)
        np.testing.assert_allclose(adata.layers["manifold"], expected, atol=5e-3)


def test_penalty_reaches_the_fusion(mdata: MuData) -> None:
    largest = []
    for penalty in (1e-4, 1e6):
        smm.pp.manifold_fit(mdata, fusion_penalty=penalty)
        largest.append(max(mdata["rna"].uns["manifold"]["view_weights"].values()))
    assert largest == pytest.approx([1, 0.25], abs=1e-3)


def test_own_and_shared_neighborhoods_differ(mdata: MuData) -> None:
    shared, own = (smm.pp.manifold_fit(mdata, neighborhoods=which, copy=True) for which in ("shared", "own"))
    for name in mdata.mod:
        assert np.abs(shared[name].layers["manifold"] - own[name].layers["manifold"]).max() > 0.1
    np.testing.assert_array_equal(shared.obsm["X_manifold"], own.obsm["X_manifold"])


@pytest.mark.parametrize("neighborhoods", ["shared", "own"])
def test_one_neighbor_leaves_cells_where_they_are(mdata: MuData, neighborhoods: str) -> None:
    smm.pp.manifold_fit(mdata, n_neighbors=1, neighborhoods=neighborhoods, keep_views=True)
    np.testing.assert_allclose(mdata.obsm["X_manifold"], mdata.obsm["X_manifold_unfitted"])
    identity = [[i] for i in range(90)]
    check_views(mdata, {name: dict.fromkeys(reference.VIEWS, identity) for name in mdata.mod}, step=1.0)


def test_fitting_brings_cells_of_a_type_together() -> None:
    mdata = simulate_citeseq(n_obs=300, n_vars=300, n_prot=25, n_clusters=4)
    smm.pp.manifold_fit(mdata)
    types = mdata.obs["cell_type"].to_numpy()

    def within(x: np.ndarray) -> float:
        rest = x - pd.DataFrame(x).groupby(types).transform("mean").to_numpy()
        return rest.var(axis=0).sum() / x.var(axis=0).sum()

    assert within(mdata.obsm["X_manifold"]) < 0.7 * within(mdata.obsm["X_manifold_unfitted"])


def test_copy_leaves_the_input_as_it_is(mdata: MuData) -> None:
    before = mdata.copy()
    result = smm.pp.manifold_fit(mdata, copy=True, keep_views=True)
    assert_same(mdata, before)
    smm.pp.manifold_fit(mdata, keep_views=True)
    assert_same(result, mdata)


def assert_same(first: MuData, second: MuData) -> None:
    pd.testing.assert_frame_equal(first.obs, second.obs)
    assert set(first.obsm) == set(second.obsm)
    for key in first.obsm:
        np.testing.assert_array_equal(first.obsm[key], second.obsm[key])
    assert list(first.mod) == list(second.mod)
    assert plain(dict(first.uns)) == plain(dict(second.uns))
    assert set(first.obsp) == set(second.obsp)
    for key in first.obsp:
        np.testing.assert_array_equal(dense(first.obsp[key]), dense(second.obsp[key]))
    for name, a in first.mod.items():
        b = second.mod[name]
        pd.testing.assert_frame_equal(a.obs, b.obs)
        pd.testing.assert_frame_equal(a.var, b.var)
        assert set(a.layers) == set(b.layers)
        for key in a.layers:
            assert type(a.layers[key]) is type(b.layers[key])
            np.testing.assert_array_equal(dense(a.layers[key]), dense(b.layers[key]))
        assert set(a.varm) == set(b.varm)
        for key in a.varm:
            np.testing.assert_array_equal(a.varm[key], b.varm[key])
        assert set(a.uns) == set(b.uns)
        for key in a.uns:
            assert plain(a.uns[key]) == plain(b.uns[key])
        assert a.X.dtype == b.X.dtype
        np.testing.assert_array_equal(dense(a.X), dense(b.X))


def plain(value: object) -> object:
    """Lists come back as arrays."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


@pytest.mark.parametrize("neighborhoods", ["shared", "own"])
def test_results_survive_saving(mdata: MuData, tmp_path: Path, neighborhoods: str) -> None:
    mdata["rna"].var["highly_variable"] = np.arange(KEEP) % 2 == 0
    mdata["rna"].layers["counts"] = mdata["rna"].X.copy()
    mdata.obs["batch"] = pd.Categorical(np.where(np.arange(90) % 2, "b", "a"))
    layer = {"rna": "counts", "prot": None}
    smm.pp.manifold_fit(mdata, neighborhoods=neighborhoods, keep_views=True, layer=layer, batch_key="batch")
    mdata.write_h5mu(tmp_path / "fitted.h5mu")
    assert_same(mudata.read_h5mu(tmp_path / "fitted.h5mu"), mdata)


def test_multiome() -> None:
    mdata = simulate_multiome(n_obs=400, n_vars=400, n_peaks=1500, n_clusters=3)
    smm.pp.manifold_fit(mdata)
    joint = mdata.obsm["X_manifold_unfitted"]
    seen = {name: dense(mdata[name].X).any(axis=0) for name in mdata.mod}
    y = reference.log2p1(reference.median_scaled(dense(mdata["atac"].X)[:, seen["atac"]].astype(float)))
    expected = reference.principal_scores(y, 30).var(axis=0)
    block = joint[:, -30:].astype(float)
    weight = mdata["atac"].uns["manifold"]["modality_weight"]
    assert weight > 0.1
    assert block.var(axis=0).sum() == pytest.approx(weight**2, rel=1e-3)
    np.testing.assert_allclose(block.var(axis=0), weight**2 * expected / expected.sum(), rtol=2e-2)


def test_a_second_modality_of_other_cells_is_told_and_weighs_little(caplog: pytest.LogCaptureFixture) -> None:
    """Its neighbourhoods replicate as before: only that RNA knows none of them gives it away."""
    mdata = simulate_citeseq(n_obs=400, n_vars=200, n_prot=30, n_clusters=4)
    paired = smm.pp.manifold_fit(mdata, copy=True)
    assert "paired" not in caplog.text
    mdata["prot"].X = mdata["prot"].X[np.random.default_rng(0).permutation(400)]
    smm.pp.manifold_fit(mdata)
    assert "know next to nothing of the same cells" in caplog.text
    assert "'prot' gets a weight of" in caplog.text
    before, after = paired["prot"].uns["manifold"], mdata["prot"].uns["manifold"]
    assert after["replication"] > 0.8 * before["replication"]
    assert before["modality_weight"] > 0.6
    assert after["modality_weight"] < 0.35
    assert mdata["rna"].uns["manifold"]["modality_weight"] ** 2 + after["modality_weight"] ** 2 == pytest.approx(1)


@pytest.mark.parametrize(("n_obs", "warns"), [(80, False), (1000, True)])
def test_few_cells_do_not_tell_that_modalities_are_of_other_cells(
    n_obs: int, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    joint = SimpleNamespace(
        values=np.zeros((n_obs, 2)),
        replications=np.array([0.3, 0.3, 0.3]),
        concordances=np.array([0.2, 0.2, 0.03]),
        weights=np.array([0.6, 0.6, 0.5]),
    )
    warn_of_little_information([SimpleNamespace(name=name) for name in ("rna", "prot", "atac")], joint)
    assert ("'atac' and 'the others' know next to nothing" in caplog.text) is warns
    assert "'prot'" not in caplog.text


def test_whether_a_modality_is_of_other_cells_is_found_with_any_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(information, "_MOST_CELLS", 400)  # the same for both modalities
    # concordance is .26 with a standard deviation of .02 over seeds, and 0 where the modalities' samples differ
    mdata = simulate_citeseq(n_obs=800, n_vars=200, n_prot=30, n_clusters=4)
    smm.pp.manifold_fit(mdata, random_state=None)
    assert mdata["prot"].uns["manifold"]["concordance"] > 0.1
