"""Which layers a run writes, and what follows where it writes none."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest
import scanpy as sc

import scmag_muon as smm
from scmag_muon._mudata import _fitted
from scmag_muon.manifold import fusion
from scmag_muon.model import _data
from scmag_muon.tl import _results
from scmag_muon.tl._again import recorded_run

if TYPE_CHECKING:
    from mudata import MuData

SHORT = {"n_clusters": 3, "max_epochs_pretrain": 2, "max_epochs": 1, "progress_bar": False, "accelerator": "cpu"}


def layers(mdata: MuData) -> list[list[str]]:
    return [sorted(str(name) for name in adata.layers if name is not None) for adata in mdata.mod.values()]


@pytest.fixture(scope="module")
def usual() -> MuData:
    mdata = smm.datasets.simulate_citeseq(n_obs=120, n_vars=60, n_prot=10, n_clusters=3)
    smm.tl.scmag(mdata, **SHORT)
    return mdata


@pytest.fixture(scope="module")
def _bare() -> MuData:
    mdata = smm.datasets.simulate_citeseq(n_obs=120, n_vars=60, n_prot=10, n_clusters=3)
    smm.tl.scmag(mdata, write_layers="none", **SHORT)
    return mdata


@pytest.fixture
def bare(_bare: MuData) -> MuData:
    return _bare.copy()


def test_a_run_without_layers_is_the_same_else(bare: MuData, usual: MuData) -> None:
    assert layers(bare) == [[], []]
    np.testing.assert_array_equal(bare.obsm["X_scmag"], usual.obsm["X_scmag"])
    assert bare.obs["scmag"].tolist() == usual.obs["scmag"].tolist()


def test_denoised_counts_alone(citeseq: MuData, usual: MuData) -> None:
    smm.tl.scmag(citeseq, write_layers="denoised", **SHORT)
    assert layers(citeseq) == [["scmag"]] * 2
    for name, adata in citeseq.mod.items():
        np.testing.assert_array_equal(adata.layers["scmag"], usual[name].layers["scmag"])


def test_denoised_counts_that_are_not_written_are_not_computed(
    citeseq: MuData, usual: MuData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*args: object, **kwargs: object) -> None:
        raise AssertionError("computed")

    monkeypatch.setattr(smm.model.SCMAG, "get_normalized_expression", refused)
    smm.tl.scmag(citeseq, write_layers="fitted", **SHORT)
    assert layers(citeseq) == [["manifold"]] * 2
    for name, adata in citeseq.mod.items():
        np.testing.assert_array_equal(adata.layers["manifold"], usual[name].layers["manifold"])
    smm.tl.scmag(citeseq, write_layers="none", **{**SHORT, "n_clusters": 2})
    assert layers(citeseq) == [["manifold"]] * 2  # a fit that is used again stays as it is


def test_layers_of_an_earlier_run_do_not_stay_beside_a_later_one(usual: MuData) -> None:
    mdata = usual.copy()
    smm.tl.scmag(mdata, write_layers="none", random_state=1, **SHORT)
    assert layers(mdata) == [[], []]


def test_a_fit_without_layers_is_made_again_with_its_own_arguments(
    citeseq: MuData, caplog: pytest.LogCaptureFixture
) -> None:
    smm.pp.manifold_fit(citeseq, n_neighbors=7, n_pcs=9)
    smm.tl.scmag(citeseq, key_added="first", **SHORT)
    for adata in citeseq.mod.values():
        del adata.layers["manifold"]
    with caplog.at_level(logging.INFO):
        smm.tl.scmag(citeseq, write_layers="none", **SHORT)
    assert "The fit 'manifold' is made again with its own arguments: its layers were not kept." in caplog.text
    assert "is renewed" not in caplog.text
    np.testing.assert_array_equal(citeseq.obsm["X_scmag"], citeseq.obsm["X_first"])
    assert citeseq["rna"].uns["manifold"]["params"]["n_neighbors"] == 7
    assert recorded_run(citeseq, "first")["n_clusters"] == 3  # it can be repeated, for the fit is still its own


def test_large_layers_are_written_on_request_only(
    usual: MuData, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    values, names = 120 * (60 + 10), ["rna", "prot"]
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(_fitted, "LARGE", values)
    assert _results.layers_to_write(None, usual, names, "manifold") == "all"
    assert not caplog.text
    monkeypatch.setattr(_fitted, "LARGE", values - 1)
    assert _results.layers_to_write(None, usual, names, "manifold") == "none"
    assert "each would hold more than 2e+08 values." in caplog.text
    assert 'write_layers="all", "fitted" or "denoised" (--layers on the command line)' in caplog.text
    assert _results.layers_to_write("denoised", usual, names, "manifold") == "denoised"


def test_what_comes_after_a_run_needs_no_layers(bare: MuData) -> None:
    from matplotlib import pyplot

    bare.obsm["X_umap"] = bare.obsm["X_scmag"][:, :2]
    smm.tl.markers(bare)
    sc.pp.neighbors(bare, use_rep="X_scmag", transformer="sklearn", method="gauss")
    smm.tl.trajectory(bare, root="0")
    for picture in (smm.pl.markers, smm.pl.trajectory, smm.pl.gate, smm.pl.view_weights, smm.pl.training):
        picture(bare)
    pyplot.close("all")
    assert layers(bare) == [[], []]


def test_who_needs_denoised_counts_says_how_to_have_them(bare: MuData) -> None:
    bare.obsm["X_umap"] = bare.obsm["X_scmag"][:, :2]
    with pytest.raises(KeyError, match=r"scmag_muon.tl.scmag\(mdata, key_added=.*, write_layers='all'\)"):
        smm.pl.marker_comparison(bare, features=["gene_0"])
    smm.tl.scmag(bare, key_added="scmag", write_layers="all", **SHORT)
    assert smm.pl.marker_comparison(bare, features=["gene_0"]).shape == (1, 2)


def test_complete_cells_gives_the_fitted_rows_of_a_fit_without_layers(bare: MuData, usual: MuData) -> None:
    with pytest.raises(
        KeyError, match="No layer 'manifold' in modality 'rna'. Make it with scmag_muon.pp.manifold_fit"
    ):
        smm.model.SCMAG.setup_mudata(bare[10:].copy())  # a fit knows its own cells
    smm.model.SCMAG.setup_mudata(bare)
    complete = smm.pp.complete_cells(bare, manifold_key="manifold")
    for name, adata in complete.mod.items():
        np.testing.assert_allclose(adata.layers["manifold"], usual[name].layers["manifold"], atol=3e-4)
    smm.model.SCMAG.setup_mudata(complete)
    smm.model.SCMAG(complete, n_clusters=3)


def test_cells_that_lack_modalities(usual: MuData) -> None:
    def made(asked: str) -> MuData:
        whole = smm.datasets.simulate_citeseq(n_obs=90, n_vars=60, n_prot=10, n_clusters=3)
        whole.mod["prot"] = whole["prot"][25:].copy()
        whole.update()
        smm.tl.scmag(whole, write_layers=asked, **SHORT)
        return whole

    bare, full = made("none"), made("all")
    assert layers(bare) == [[], []]
    np.testing.assert_array_equal(bare.obsm["X_scmag"], full.obsm["X_scmag"])
    assert "scmag_imputed_prot" in full.obsm
    assert "scmag_imputed_prot" not in bare.obsm
    assert bare["prot"].var["scmag_imputation_r"].equals(full["prot"].var["scmag_imputation_r"])
    complete = smm.pp.complete_cells(bare)
    expected = smm.pp.complete_cells(full)
    for name, adata in complete.mod.items():
        np.testing.assert_allclose(adata.layers["manifold"], expected[name].layers["manifold"], atol=3e-4)


def test_an_unknown_choice_is_told_before_any_work(citeseq: MuData) -> None:
    with pytest.raises(ValueError, match="write_layers"):
        smm.tl.scmag(citeseq, write_layers="both", **SHORT)
    assert layers(citeseq) == [[], []]


def test_features_chosen_beforehand_are_stored_at_half_the_bytes(citeseq: MuData) -> None:
    chosen = np.arange(60) < 20
    citeseq["rna"].var["highly_variable"] = chosen
    smm.pp.manifold_fit(citeseq)
    layer = citeseq["rna"].layers["manifold"]
    assert layer.data.nbytes == layer.indices.nbytes == 120 * 20 * 4
    citeseq.mod["rna"] = citeseq["rna"][:, citeseq["rna"].var["highly_variable"]].copy()
    citeseq.update()
    smm.pp.manifold_fit(citeseq)
    assert type(citeseq["rna"].layers["manifold"]) is np.ndarray
    assert citeseq["rna"].layers["manifold"].nbytes == 120 * 20 * 4
    np.testing.assert_array_equal(citeseq["rna"].layers["manifold"], layer[:, chosen].toarray())


@pytest.mark.parametrize("lacking", [False, True])
def test_a_large_set_is_fitted_and_clustered_without_any_layer(
    lacking: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def made() -> MuData:
        mdata = smm.datasets.simulate_citeseq(n_obs=120, n_vars=60, n_prot=10, n_clusters=3)
        if lacking:
            mdata.mod["prot"] = mdata["prot"][25:].copy()
            mdata.update()
        return mdata

    expected, mdata = made(), made()
    smm.tl.scmag(expected, **SHORT)
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(_fitted, "LARGE", 1000)
    monkeypatch.setattr(_data, "_MOST_BYTES", 100)
    monkeypatch.setattr(fusion, "_FUSED_VALUES", 120 * 7)
    smm.tl.scmag(mdata, **SHORT)
    assert "Fitted layers are not written: they would hold" in caplog.text
    assert layers(mdata) == [[], []]
    assert (mdata.obs["scmag"].to_numpy() == expected.obs["scmag"].to_numpy()).mean() > 0.95
    np.testing.assert_allclose(mdata.obsm["X_scmag"], expected.obsm["X_scmag"], atol=0.05)
    np.testing.assert_array_equal(mdata.obsm["X_manifold"], expected.obsm["X_manifold"])
    caplog.clear()
    smm.tl.scmag(mdata, key_added="again", **SHORT)  # by the same fit, from which rows are computed
    assert "Fitted layers are not written" not in caplog.text
    np.testing.assert_array_equal(mdata.obsm["X_again"], mdata.obsm["X_scmag"])
    smm.tl.scmag(mdata, key_added="again", write_layers="fitted", **SHORT)
    assert layers(mdata) == [["manifold"]] * 2
    smm.pp.manifold_fit(mdata)
    assert layers(mdata) == [[], []]


def test_neighborhoods_of_each_views_own_leave_nothing_but_layers(
    citeseq: MuData, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="`write_layers` must not be False"):
        smm.pp.manifold_fit(citeseq, neighborhoods="own", write_layers=False)
    monkeypatch.setattr(_fitted, "LARGE", 100)
    smm.pp.manifold_fit(citeseq, neighborhoods="own")
    assert layers(citeseq) == [["manifold"]] * 2
    smm.pp.manifold_fit(citeseq, write_layers=False)
    assert layers(citeseq) == [[], []]
