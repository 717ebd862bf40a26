"""Cells that lack modalities, and one or three modalities, from counts to pictures."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.linear_model import Ridge

import scmag_muon as smm
from scmag_muon import _mudata, _values
from scmag_muon._mudata import make_mudata, no_pull_on_update
from scmag_muon.tl._held_out_markers import _check_cells

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

SHORT = {"max_epochs_pretrain": 3, "max_epochs": 1, "progress_bar": False, "accelerator": "cpu"}


def simulated(n_obs: int = 160) -> MuData:
    return smm.datasets.simulate_citeseq(n_obs=n_obs, n_vars=60, n_prot=12, n_clusters=3)


def mosaic(order: tuple[str, ...] = ("rna", "prot"), rows: np.ndarray | None = None) -> MuData:
    """RNA of the first 120 of 160 cells, proteins of the last 100, their rows in an order of one's own."""
    complete = simulated()
    mods = {
        "rna": complete["rna"][:120].copy(),
        "prot": complete["prot"][60:][np.arange(100) if rows is None else rows].copy(),
    }
    made = make_mudata({name: mods[name] for name in order})
    with no_pull_on_update():
        made = made[complete.obs_names].copy() if rows is None else made
    made.obs["cell_type"] = complete.obs["cell_type"].reindex(made.obs_names)
    made.obs["run"] = np.where(made.obs_names.str[-1].isin(list("02468")), "a", "b")
    return made


@pytest.fixture(scope="module")
def run() -> tuple[MuData, smm.model.SCMAG]:
    mdata = mosaic()
    model = smm.tl.scmag(mdata, n_clusters=3, batch_key="run", return_model=True, **SHORT)
    return mdata, model


def test_features_with_slashes_can_be_written_and_drawn(tmp_path: Path) -> None:
    mdata = mosaic()
    mdata["prot"].var_names = ["CD45R/B220", "a_b", "a/b", *mdata["prot"].var_names[3:]]
    with no_pull_on_update():
        mdata.update()
    smm.tl.scmag(mdata, n_clusters=2, **SHORT)
    mdata.write_h5mu(tmp_path / "cells.h5mu")  # a warning is an error
    mdata.write_zarr(tmp_path / "cells.zarr")
    features = [_values.Feature("prot", name) for name in ("CD45R/B220", "a_b", "a/b")]
    for each in (mdata, mudata.read_h5mu(tmp_path / "cells.h5mu")):
        found = _values.denoised_features(each, features, key="scmag")
        for i, feature in enumerate(features):
            np.testing.assert_allclose(np.expm1(found[feature]), each.obsm["scmag_imputed_prot"].iloc[:, i], rtol=1e-5)


def test_every_cell_has_all_results(run: tuple) -> None:
    mdata, _ = run
    assert mdata.obs["scmag"].notna().all()
    assert mdata.obs["scmag_measured"].value_counts().to_dict() == {"rna": 60, "rna+prot": 60, "prot": 40}
    for name in ("rna", "prot"):
        imputed, layer = mdata.obsm[f"scmag_imputed_{name}"], mdata[name].layers["scmag"]
        assert list(imputed.index) == list(mdata.obs_names)
        own = imputed.loc[mdata[name].obs_names, mdata[name].var_names[mdata[name].var["manifold"]]]
        np.testing.assert_array_equal(np.asarray(layer[:, mdata[name].var["manifold"].to_numpy()]), own)
        assert mdata[name].var["scmag_imputation_rmse"].notna().any()


def test_model_of_a_mosaic_is_saved_loaded_and_asked(run: tuple, tmp_path: Path) -> None:
    mdata, model = run
    model.save(tmp_path / "model")
    complete = smm.pp.complete_cells(mdata)
    loaded = smm.model.SCMAG.load(tmp_path / "model", adata=complete)
    np.testing.assert_allclose(loaded.get_latent_representation(), mdata.obsm["X_scmag"], atol=1e-5)
    asked = loaded.get_normalized_expression(complete, modality="prot")
    measured = mdata.obs_names.isin(mdata["prot"].obs_names)
    np.testing.assert_allclose(asked[measured], mdata.obsm["scmag_imputed_prot"][measured], rtol=1e-4)
    with pytest.raises(ValueError, match="Some cells lack 'rna' and 'prot'") as refused:
        loaded.get_latent_representation(mdata)
    assert "scmag_muon.pp.complete_cells(mdata, manifold_key='manifold')" in str(refused.value)


@pytest.mark.parametrize("name", ["rna", "prot"])
def test_imputed_counts_are_the_mean_of_three_guesses_as_logarithms(run: tuple, name: str) -> None:
    mdata, model = run
    other = {"rna": "prot", "prot": "rna"}[name]
    fit = _mudata.read_fit(mdata)
    features = fit.modality(name).features
    rows = mdata.obs_names.get_indexer(mdata[name].obs_names)
    counts = mdata[name][:, features].X.toarray()[np.argsort(rows)].astype(float)
    own, lacking = np.sort(rows), np.setdiff1d(np.arange(mdata.n_obs), rows)
    decoded = model.get_normalized_expression(modality=name)[features].to_numpy().astype(float)

    def divisor(x: np.ndarray) -> np.ndarray:
        return np.exp(np.log1p(x).mean(axis=1)) if name == "prot" else x.sum(axis=1) / np.median(counts.sum(axis=1))

    logs = np.log1p(counts / divisor(counts)[:, None])
    x = fit.blocks(fit.joint)[fit.names.index(other)].astype(float)
    both = np.isin(own, fit.modality(other).cells)
    ridge = Ridge(alpha=1).fit(x[own[both]], logs[both])
    table = fit.neighborhoods[name]["rbf"]
    for cell in lacking[::7]:
        near = logs[np.searchsorted(own, table[cell])].mean(axis=0)
        size = divisor(decoded[[cell]])[0]
        guesses = [np.log1p(decoded[cell] / size), near, ridge.predict(x[[cell]])[0]]
        expected = size * np.expm1(np.maximum(np.mean(guesses, axis=0), 0))
        np.testing.assert_allclose(mdata.obsm[f"scmag_imputed_{name}"][features].iloc[cell], expected, rtol=1e-3)
    np.testing.assert_allclose(mdata.obsm[f"scmag_imputed_{name}"][features].iloc[own], decoded[own], rtol=1e-5)


def test_imputed_counts_are_nearer_to_hidden_ones_than_the_network_alone(run: tuple) -> None:
    mdata, model = run
    hidden = simulated()["prot"][:60]
    lacking = [name for name in hidden.obs_names if name not in mdata["prot"].obs_names]
    known = _values.normalize(sp.csr_array(hidden[lacking].X), "protein")
    network = model.get_normalized_expression(modality="prot").loc[lacking]
    errors = [
        np.square(_values.normalize(sp.csr_array(values.loc[lacking].to_numpy()), "protein") - known).mean()
        for values in (mdata.obsm["scmag_imputed_prot"], network)
    ]
    assert errors[0] < 0.8 * errors[1]
    told = mdata["prot"].var["scmag_imputation_rmse"].to_numpy()
    assert np.sqrt(np.square(told).mean()) == pytest.approx(np.sqrt(errors[0]), rel=0.35)


def test_complete_cells_holds_counts_fits_and_presence(run: tuple) -> None:
    mdata, _ = run
    complete = smm.pp.complete_cells(mdata)
    fit = _mudata.read_fit(mdata)
    for i, name in enumerate(("rna", "prot")):
        adata, own = complete[name], mdata[name]
        rows = mdata.obs_names.get_indexer(own.obs_names)
        present = np.isin(np.arange(mdata.n_obs), rows)
        np.testing.assert_array_equal(complete.obsm["present"][:, i], present)
        np.testing.assert_array_equal(adata.X.toarray()[rows], own.X.toarray())
        assert adata.X[np.flatnonzero(~present)].nnz == 0
        np.testing.assert_array_equal(adata.layers["manifold"][rows], own.layers["manifold"])
        lacking = np.flatnonzero(~present)
        np.testing.assert_allclose(
            adata.layers["manifold"][lacking],
            fit.rows(name, lacking, counts=sp.csr_array(own.X[np.argsort(rows)])),
            rtol=1e-6,
        )
    assert list(complete.obs["cell_type"]) == list(mdata.obs["cell_type"])


def test_complete_cells_of_complete_data_changes_nothing() -> None:
    mdata = simulated(80)
    smm.pp.manifold_fit(mdata)
    complete = smm.pp.complete_cells(mdata)
    assert complete.obsm["present"].all()
    np.testing.assert_array_equal(complete["rna"].layers["manifold"], mdata["rna"].layers["manifold"])
    assert "present" not in mdata.obsm


def test_complete_cells_refuses_other_cells_and_no_fit() -> None:
    mdata = mosaic()
    with pytest.raises(KeyError, match="No modality is fitted under 'manifold'"):
        smm.pp.complete_cells(mdata)
    smm.pp.manifold_fit(mdata)
    with pytest.raises(ValueError, match="is of other cells of modality 'rna'"):
        smm.pp.complete_cells(_mudata.copy_of(mdata[10:]))


@pytest.mark.parametrize("layer", [None, "counts"])
@pytest.mark.parametrize("fitted", [False, True])
def test_setting_up_a_mosaic_names_what_to_call(fitted: bool, layer: str | None) -> None:
    mdata = mosaic()
    for adata in mdata.mod.values() if layer else ():
        adata.layers[layer], adata.X = adata.X, sp.csr_matrix(np.log1p(adata.X.toarray()))
    if fitted:
        smm.pp.manifold_fit(mdata, layer=layer)
    with pytest.raises(ValueError, match="Some cells lack") as refused:
        smm.model.SCMAG.setup_mudata(mdata, layer=layer)
    fix = str(refused.value).split("what they lack with ")[1].split("; a model takes it with ")
    assert ("manifold_fit" in fix[0]) is not fitted
    names = {"mdata": mdata, "scmag_muon": smm}
    exec(fix[0], names)
    given = {} if layer is None else {"layer": layer}
    assert fix[1] == 'setup_mudata(mdata, present_key="present").'
    smm.model.SCMAG.setup_mudata(names["mdata"], present_key="present", **given)


def test_order_of_rows_and_modalities_does_not_matter() -> None:
    rows = np.random.default_rng(0).permutation(100)
    one, other = mosaic(), mosaic(rows=rows)
    with no_pull_on_update():
        other = other[one.obs_names].copy()
        other.mod["prot"] = other["prot"][np.random.default_rng(1).permutation(100)].copy()
        other.update()
    assert not other["prot"].obs_names.equals(one["prot"].obs_names)
    for mdata in (one, other):
        smm.tl.scmag(mdata, n_clusters=3, **SHORT)
    np.testing.assert_array_equal(one.obs["scmag"], other.obs["scmag"].reindex(one.obs_names))
    layers = [pd.DataFrame(m["prot"].layers["scmag"], index=m["prot"].obs_names) for m in (one, other)]
    pd.testing.assert_frame_equal(layers[0], layers[1].loc[layers[0].index], rtol=1e-4)


def test_markers_of_a_modality_are_of_the_cells_that_have_it(run: tuple) -> None:
    mdata, _ = run
    table = smm.tl.markers(mdata, key_added="of_types", groupby="cell_type")
    alone = make_mudata({"prot": mdata["prot"].copy()})
    alone.obs["cell_type"] = mdata.obs["cell_type"].reindex(alone.obs_names)
    expected = smm.tl.markers(alone, groupby="cell_type", modalities=["prot"])
    found = table[table["modality"] == "prot"].reset_index(drop=True)
    np.testing.assert_allclose(found["auroc"], expected["auroc"])
    assert list(found["feature"]) == list(expected["feature"])


def test_values_of_cells_without_a_modality_are_missing_and_imputed_ones_known(run: tuple) -> None:
    mdata, _ = run
    feature = _values.Feature("prot", str(mdata["prot"].var_names[0]))
    raw = _values.normalized_features(mdata, [feature], key="scmag")[feature]
    np.testing.assert_array_equal(np.isfinite(raw), mdata.obs_names.isin(mdata["prot"].obs_names))
    denoised = _values.denoised_features(mdata, [feature], key="scmag")[feature]
    np.testing.assert_allclose(denoised, np.log1p(mdata.obsm["scmag_imputed_prot"][feature.name]))


def test_verbs_and_report_take_a_mosaic(run: tuple, tmp_path: Path) -> None:
    mdata = _mudata.copy_of(run[0])
    smm.tl.markers(mdata)
    assert smm.tl.batch_mixing(mdata).notna().all().all()
    held_out = smm.tl.held_out_markers(mdata, labels="cell_type", n_markers=2, progress_bar=False)
    assert set(held_out["modality"]) == {"rna", "prot"}
    page = smm.report(mdata, tmp_path / "report.html", labels="cell_type").read_text(encoding="utf-8")
    assert "100 of 160" in page
    assert "rna+prot" in page
    plt.close("all")
    mdata.write_h5mu(tmp_path / "run.h5mu")
    with no_pull_on_update():
        back = mudata.read_h5mu(tmp_path / "run.h5mu")
    pd.testing.assert_frame_equal(back.obsm["scmag_imputed_prot"], mdata.obsm["scmag_imputed_prot"])
    assert back.obs["scmag_measured"].tolist() == mdata.obs["scmag_measured"].tolist()


def test_a_fit_of_a_mosaic_is_used_again(caplog: pytest.LogCaptureFixture) -> None:
    mdata = mosaic()
    smm.pp.manifold_fit(mdata)
    smm.tl.scmag(mdata, n_clusters=3, **SHORT)
    assert "is renewed" not in caplog.text


@pytest.mark.parametrize("k", [1, 3])
def test_one_and_three_modalities(k: int, tmp_path: Path) -> None:
    mdata = smm.datasets.simulate_trimodal(n_obs=120, n_vars=60, n_prot=12, n_peaks=80, n_clusters=3)
    mdata = make_mudata({name: mdata[name] for name in list(mdata.mod)[:k]})
    smm.tl.scmag(mdata, n_clusters=3, **SHORT)
    assert mdata.obsm["X_scmag"].shape == (120, 16 * k)
    assert list(smm.tl.markers(mdata)["modality"].cat.categories) == list(mdata.mod)
    page = smm.report(mdata, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "two modalities" not in page
    plt.close("all")


def test_batches_of_a_stored_fit_follow_the_cells() -> None:
    mdata = mosaic()
    smm.pp.manifold_fit(mdata, batch_key="run")
    moved = _mudata.copy_of(mdata[np.random.default_rng(0).permutation(mdata.n_obs)])
    fit = _mudata.read_fit(moved)
    assert [fit.batches[code] for code in fit.codes] == list(moved.obs["run"])


def test_a_share_set_aside_that_holds_too_few_cells_of_a_modality_is_told_with_one_that_does(run: tuple) -> None:
    mdata = run[0].copy()
    labels = {"labels": "cell_type", "progress_bar": False}
    with pytest.raises(
        ValueError, match=r"Of the cells set aside \d+ have modality 'rna', and 20 are needed"
    ) as caught:
        smm.tl.held_out_markers(mdata, test_size=0.1, **labels)
    better = float(re.search(r"Set test_size=(\S+),", str(caught.value)).group(1))
    order = np.random.default_rng(0).permutation(160)
    n_test = round(better * 160)
    for rows, where in ((order[:n_test], "set aside"), (order[n_test:], "trained on")):
        _check_cells(mdata, ["rna", "prot"], rows, where, better)
    with pytest.raises(ValueError, match=r"Of the cells trained on .* Set test_size=0\.\d+, it is 0\.9"):
        smm.tl.held_out_markers(mdata, test_size=0.9, **labels)
    few = mdata[:30].copy()
    with pytest.raises(ValueError, match="The data hold 30 such cells, too few"):
        _check_cells(few, ["rna", "prot"], np.arange(10), "set aside", 0.3)


@pytest.mark.filterwarnings("ignore")
def test_the_fix_for_the_paper_s_settings_works_where_cells_were_taken_out_in_place() -> None:
    mdata = simulated(60)
    mdata.mod["prot"] = mdata["prot"][5:].copy()
    with pytest.raises(ValueError, match="is for cells that have both modalities") as caught:
        smm.tl.scmag(mdata, n_clusters=2, settings="paper", **SHORT)
    names = {"mdata": mdata}
    exec(str(caught.value).partition("have both: ")[2].removesuffix("."), names)
    smm.tl.scmag(names["mdata"], n_clusters=2, settings="paper", **SHORT)
    assert names["mdata"].n_obs == 55
