"""A fit is read again from the MuData that holds it, also from a file and in another process."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import scmag_muon as smm
from scmag_muon._keys import Keys
from scmag_muon._mudata import copy_fitted, make_mudata, read_fit
from scmag_muon.datasets import simulate_citeseq, simulate_trimodal

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

N = 100


def mosaic() -> MuData:
    """RNA of 80 cells and proteins of 70, of which 50 have both; two batches."""
    mdata = simulate_citeseq(n_obs=N, n_vars=50, n_prot=12, n_clusters=3, n_batches=2)
    return make_mudata({"rna": mdata["rna"][:80].copy(), "prot": mdata["prot"][30:].copy()}, mdata.obs)


def complete() -> MuData:
    return simulate_citeseq(n_obs=N, n_vars=50, n_prot=12, n_clusters=3, n_batches=2)


def chosen_counts(mdata: MuData, name: str, key: str = "manifold") -> sp.csr_array:
    return sp.csr_array(mdata[name].X)[:, mdata[name].var[key].to_numpy()]


def of_all(mdata: MuData) -> dict[str, np.ndarray]:
    """Coordinates and fitted rows that the stored fit gives for its own cells."""
    learnt = read_fit(mdata)
    counts = {name: chosen_counts(mdata, name) for name in mdata.mod}
    present = {name: learnt.present[:, i] for i, name in enumerate(learnt.names)}
    found = {name: learnt.rows(name, np.arange(mdata.n_obs), counts=counts[name]) for name in counts}
    return {**found, "joint": learnt.embed(counts, present=present, batches=mdata.obs["batch"].astype(str).to_numpy())}


@pytest.fixture(params=[complete, mosaic])
def fitted(request: pytest.FixtureRequest) -> MuData:
    mdata = request.param()
    mdata["rna"].var["highly_variable"] = np.arange(50) % 5 != 0
    smm.pp.manifold_fit(mdata, batch_key="batch", step=0.8)
    return mdata


def test_lists_take_one_byte_an_entry_and_wider_ones_read_the_same(fitted: MuData) -> None:
    expected = read_fit(fitted).lists
    for kernel in ("rbf", "poly"):
        lists = fitted.obsp[(slot := Keys.neighbor_lists("manifold", kernel))]
        assert lists.dtype.itemsize == 1
        assert (lists.data == 1).all()
        wide = lists.data.astype(np.float32)  # as files of earlier versions have them; scipy's astype would sort rows
        fitted.obsp[slot] = sp.csr_matrix((wide, lists.indices, lists.indptr), shape=lists.shape)
    for kernel, table in read_fit(fitted).lists.items():
        np.testing.assert_array_equal(table, expected[kernel])


def test_rows_and_places_of_a_stored_fit(fitted: MuData) -> None:
    found = of_all(fitted)
    np.testing.assert_allclose(found["joint"], fitted.obsm["X_manifold_unfitted"], atol=1e-4)
    for name, adata in fitted.mod.items():
        layer = adata.layers["manifold"]
        layer = layer.toarray() if sp.issparse(layer) else layer
        own = fitted.obs_names.isin(adata.obs_names)
        np.testing.assert_allclose(found[name][own], layer[:, adata.var["manifold"].to_numpy()], atol=3e-4)


def test_cells_and_features_may_be_moved(fitted: MuData) -> None:
    rng = np.random.default_rng(0)
    moved = fitted[rng.permutation(N), rng.permutation(fitted.n_vars)].copy()
    before, now = read_fit(fitted), read_fit(moved)
    cells = moved.obs_names.get_indexer(fitted.obs_names)
    np.testing.assert_array_equal(now.codes[cells], before.codes)
    here, there = of_all(fitted), of_all(moved)
    np.testing.assert_allclose(there.pop("joint")[cells], here.pop("joint"), atol=1e-4)
    for name, rows in there.items():
        features = pd.Index(now.modality(name).features).get_indexer(before.modality(name).features)
        np.testing.assert_allclose(rows[cells][:, features], here[name], atol=1e-4)


def test_batches_are_those_of_the_cells_where_a_modality_alone_has_the_column() -> None:
    mdata = complete()
    mdata["rna"].obs["lane"] = mdata.obs["batch"]
    smm.pp.manifold_fit(mdata, batch_key="lane")
    moved = mdata[::-1].copy()
    np.testing.assert_array_equal(read_fit(moved).codes[::-1], read_fit(mdata).codes)
    del moved["rna"].obs["lane"]  # the order in which uns has them is that of before
    with pytest.raises(ValueError, match="other batches than those in 'lane'. Fit anew with"):
        read_fit(moved)


@pytest.mark.parametrize("cells", [True, False])
def test_a_fit_of_other_cells_or_features_is_refused(cells: bool) -> None:
    mdata = complete()
    smm.pp.manifold_fit(mdata)
    part = mdata[: N // 2].copy() if cells else mdata[:, mdata.var_names[1:]].copy()
    what = (
        f"other cells of modality 'rna' .{N} then, {N // 2} now"
        if cells
        else "other features of modality 'rna' .50 then, 49"
    )
    with pytest.raises(ValueError, match=what):
        read_fit(part)


@pytest.mark.parametrize("slot", ["mdata.obsp['manifold_poly']", "mdata['prot'].varm['manifold_loadings']"])
def test_a_part_that_was_deleted_is_named(slot: str) -> None:
    mdata = complete()
    smm.pp.manifold_fit(mdata)
    exec(f"del {slot}", {"mdata": mdata})
    with pytest.raises(KeyError, match=re.escape(f"{slot} of the fit 'manifold' was deleted. Fit anew with")):
        read_fit(mdata)
    smm.tl.scmag(mdata, n_clusters=2, max_epochs_pretrain=2, max_epochs=1, progress_bar=False, accelerator="cpu")
    read_fit(mdata)


@pytest.mark.parametrize("suffix", ["h5mu", "zarr"])
def test_another_process_reads_the_same_bits(fitted: MuData, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"fitted.{suffix}"
    fitted.write_h5mu(path) if suffix == "h5mu" else fitted.write_zarr(path)
    np.savez(tmp_path / "here.npz", **of_all(fitted))
    script = (
        "import sys, mudata, numpy as np; sys.path.insert(0, sys.argv[1]); from tests.pp.test_stored_fit import of_all\n"
        f"mdata = mudata.read_{suffix}(sys.argv[2]); np.savez(sys.argv[3], **of_all(mdata))"
    )
    folder = str(__import__("pathlib").Path(__file__).parents[2])
    there = tmp_path / "there.npz"
    subprocess.run([sys.executable, "-W", "ignore", "-c", script, folder, str(path), str(there)], check=True)
    with np.load(tmp_path / "here.npz") as here, np.load(there) as found:
        for name in here:
            np.testing.assert_array_equal(found[name], here[name])


def test_a_mosaic_has_layers_of_its_own_cells_and_a_place_for_all() -> None:
    mdata = mosaic()
    smm.pp.manifold_fit(mdata)
    assert mdata["rna"].layers["manifold"].shape == (80, 50)
    assert mdata["prot"].layers["manifold"].shape == (70, 12)
    for slot in ("X_manifold", "X_manifold_unfitted"):
        assert mdata.obsm[slot].shape == (N, 42)
        assert np.isfinite(mdata.obsm[slot]).all()
    for adata in mdata.mod.values():
        np.testing.assert_allclose(adata.layers["manifold"].mean(axis=0), 0, atol=1e-5)
    operator = mdata.obsp["manifold_rbf_prot"]
    assert operator.shape == (N, N)
    assert not operator[:, :30].nnz
    np.testing.assert_allclose(np.asarray(operator.sum(axis=1)).ravel(), 1, rtol=1e-5)


def test_rows_of_a_mosaic_may_have_any_order() -> None:
    whole = complete()
    prot = whole["prot"][30:].copy()
    mdata, other = (make_mudata({"rna": whole["rna"].copy(), "prot": x}, whole.obs) for x in (prot, prot[::-1].copy()))
    for each in (mdata, other):
        smm.pp.manifold_fit(each)
    np.testing.assert_array_equal(other.obsm["X_manifold"], mdata.obsm["X_manifold"])
    np.testing.assert_array_equal(other["prot"].layers["manifold"][::-1], mdata["prot"].layers["manifold"])


def test_three_modalities_and_one() -> None:
    mdata = simulate_trimodal(n_obs=90, n_vars=60, n_prot=15, n_peaks=80)
    smm.pp.manifold_fit(mdata)
    assert read_fit(mdata).names == ("rna", "prot", "atac")
    weights = [mdata[name].uns["manifold"]["modality_weight"] for name in mdata.mod]
    assert np.square(weights).sum() == pytest.approx(1)
    smm.pp.manifold_fit(mdata, modalities=["prot"], key_added="alone")
    assert mdata["prot"].uns["alone"]["modality_weight"] == 1
    assert "alone" not in mdata["rna"].layers
    assert read_fit(mdata, "alone").names == ("prot",)


def test_a_fit_is_carried_to_another_mudata() -> None:
    mdata = complete()
    smm.pp.manifold_fit(mdata, batch_key="batch")
    other = complete()
    copy_fitted(mdata, other, ["rna", "prot"], "manifold")
    for name, values in of_all(mdata).items():
        np.testing.assert_array_equal(of_all(other)[name], values)


def test_no_fit_and_one_that_is_too_new_are_told() -> None:
    mdata = complete()
    smm.pp.manifold_fit(mdata, neighborhoods="own")
    with pytest.raises(KeyError, match="No fit mdata.uns"):
        read_fit(mdata)
    smm.pp.manifold_fit(mdata)
    mdata.uns["manifold_fit"]["format"] = 99
    with pytest.raises(ValueError, match="has format 99"):
        read_fit(mdata)


def test_an_own_fit_leaves_no_shared_one_behind() -> None:
    mdata = complete()
    smm.pp.manifold_fit(mdata)
    smm.pp.manifold_fit(mdata, neighborhoods="own")
    with pytest.raises(KeyError, match="No fit"):
        read_fit(mdata)
    assert not list(mdata.obsp)
    assert "fit" not in mdata["rna"].uns["manifold"]
    assert mudata.MuData is type(mdata)


def test_order_of_the_cells_of_a_mosaic_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    # which counts go to which half is drawn by the cells' places, and so the weights differ a little
    monkeypatch.setattr("scmag_muon.manifold.joint.modality_weights", lambda *_: np.sqrt([0.4, 0.6]))
    one, whole = mosaic(), mosaic()
    other = whole[whole.obs_names[np.random.default_rng(3).permutation(N)]].copy()
    other.mod["prot"] = other["prot"][np.random.default_rng(4).permutation(70)].copy()
    other.update()
    assert (np.diff(other.obs_names.get_indexer(other["prot"].obs_names)) < 0).any()
    assert not other.obs_names.equals(one.obs_names)
    for mdata in (one, other):
        smm.pp.manifold_fit(mdata, batch_key="batch")
    back = other[one.obs_names].copy()
    np.testing.assert_allclose(back.obsm["X_manifold"], one.obsm["X_manifold"], atol=2e-3)
    for name, adata in one.mod.items():
        layer = other[name][adata.obs_names].layers["manifold"]
        np.testing.assert_allclose(layer, adata.layers["manifold"], atol=2e-3)
