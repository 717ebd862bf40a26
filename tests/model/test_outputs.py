from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import scmag_muon as smm
from scmag_muon._mudata import make_mudata, no_pull_on_update
from scmag_muon.model import SCMAG, _module
from scmag_muon.model._rows import rows_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

NAMES = pd.Index([f"cell_{i}" for i in range(6)])


@pytest.fixture(scope="module")
def fitted() -> MuData:
    """90 cells of two batches, 40 genes, 8 proteins."""
    with no_pull_on_update():
        mdata = smm.datasets.simulate_citeseq(n_obs=90, n_vars=40, n_prot=8, n_clusters=3)
        mdata.obs["donor"] = np.tile(["a", "b"], 45)
        smm.pp.manifold_fit(mdata)
        return mdata


@pytest.fixture(scope="module")
def model(fitted: MuData) -> SCMAG:
    with no_pull_on_update():
        SCMAG.setup_mudata(fitted, batch_key="donor")
        model = SCMAG(fitted, n_clusters=3)
        model.train(max_epochs_pretrain=4, max_epochs=2, progress_bar=False, accelerator="cpu")
        return model


def checksums(mdata: MuData) -> dict[str, Any]:
    arrays = {"obs": mdata.obs.to_csv(), "uns": sorted(mdata.uns), "obsm": sorted(mdata.obsm)}
    for name, adata in mdata.mod.items():
        for key, matrix in [("X", adata.X), *adata.layers.items()]:
            arrays[f"{name} {key}"] = (matrix.data if sp.issparse(matrix) else np.asarray(matrix)).tobytes()
        arrays[f"{name} frames"] = (adata.obs.to_csv(), adata.var.to_csv(), sorted(adata.uns), sorted(adata.layers))
    return arrays


# which rows


@pytest.mark.parametrize(
    ("indices", "rows"),
    [
        (None, range(6)),
        ([5, 0, 5], [5, 0, 5]),
        ([-1, -6], [5, 0]),
        (np.array([2], dtype=np.uint8), [2]),
        (pd.Index([1, 2]), [1, 2]),
        (range(1, 6, 2), [1, 3, 5]),
        (slice(None, None, -2), [5, 3, 1]),
        (slice(4, 99), [4, 5]),
        (3, [3]),
        ([], []),
        (np.array([], dtype=float), []),
        ([True, False, False, True, False, False], [0, 3]),
        (np.zeros(6, dtype=bool), []),
        (pd.Series([True, False, False, False, False, False], index=NAMES[::-1]), [5]),
        (pd.array([True, False, True, False, False, False], dtype="boolean"), [0, 2]),
        (["cell_4", "cell_0", "cell_4"], [4, 0, 4]),
        ("cell_2", [2]),
        (NAMES[3:5], [3, 4]),
        (pd.Series(["cell_1"], dtype="string"), [1]),
    ],
)
def test_rows_asked_for(indices: Any, rows: Any) -> None:
    found = rows_of(indices, NAMES)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, np.array(rows, dtype=int))


@pytest.mark.parametrize(
    ("indices", "error", "message"),
    [
        ([0, 6, 7], IndexError, "has 2 positions out of range for 6 cells, first 6"),
        ([-7], IndexError, "first -7"),
        ([0.0, 1.0], TypeError, "must be positions, names, booleans or a slice, got values of type float64"),
        ([True, False], ValueError, "holds 2 booleans for 6 cells"),
        (["cell_0", "cell_6"], KeyError, "names 1 cells that are not there, first 'cell_6'"),
        ([[0, 1]], ValueError, "must have one dimension, got 2"),
        ({0, 1}, TypeError, "must be positions"),
        ([None], TypeError, "must be positions"),
    ],
)
def test_rows_that_are_not_there(indices: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        rows_of(indices, NAMES)


def test_what_a_run_writes_is_what_the_getters_give(model: SCMAG, monkeypatch: pytest.MonkeyPatch) -> None:
    q, latent, gate = model.get_cluster_assignments(soft=True), model.get_latent_representation(), model.get_gate()
    labels, reconstruction = q.argmax(axis=1), model.get_latent_representation(kind="reconstruction")
    passes, inferred = [], type(model)._inferred
    monkeypatch.setattr(type(model), "_inferred", lambda x, *of, **how: passes.append(of) or inferred(x, *of, **how))
    for at_a_time in (2**16, 7):
        monkeypatch.setattr(_module, "_CELLS_AT_A_TIME", at_a_time)
        found = model.of_run()
        np.testing.assert_allclose(found[0], q, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(found[1], latent)
        np.testing.assert_array_equal(found[2], reconstruction)
        for cluster in np.unique(labels):
            np.testing.assert_allclose(found[3][cluster], gate[labels == cluster].mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(model.get_cluster_assignments(soft=True), q, rtol=1e-5, atol=1e-6)
    assert len(passes) == 2 * 2 + 2


@pytest.mark.parametrize("indices", [[3, -1, 3], slice(2, 5), [], ["cell_7", "cell_0"]])
def test_getters_take_indices_alike(model: SCMAG, indices: Any) -> None:
    rows = rows_of(indices, model.adata.obs_names)
    whole = {
        "latent": model.get_latent_representation(),
        "labels": model.get_cluster_assignments(),
        "soft": model.get_cluster_assignments(soft=True),
        "gate": model.get_gate(),
        "counts": model.get_normalized_expression(return_numpy=True),
    }
    chosen = {
        "latent": model.get_latent_representation(indices=indices, batch_size=2),
        "labels": model.get_cluster_assignments(indices=indices),
        "soft": model.get_cluster_assignments(indices=indices, soft=True),
        "gate": model.get_gate(indices=indices),
        "counts": model.get_normalized_expression(indices=indices, return_numpy=True),
    }
    for name, values in chosen.items():
        assert values.shape == whole[name][rows].shape
        np.testing.assert_allclose(values, whole[name][rows], rtol=1e-4, atol=1e-5)
    assert list(model.get_normalized_expression(indices=indices).index) == list(model.adata.obs_names[rows])


# arguments


@pytest.mark.parametrize("batch_size", [0, -5, 2.5, "64", True])
def test_batch_size_out_of_range(model: SCMAG, batch_size: Any) -> None:
    with pytest.raises(ValueError, match="`batch_size` must be a whole number of at least 1"):
        model.get_gate(batch_size=batch_size)


@pytest.mark.parametrize("kind", ["zc", None, ["fused"], 1])
def test_unknown_kind(model: SCMAG, kind: Any) -> None:
    with pytest.raises(ValueError, match="`kind` must be one of"):
        model.get_latent_representation(kind=kind)


@pytest.mark.parametrize("argument", ["adata", "give_mean", "mc_samples", "return_dist", "dataloader", "knid"])
def test_arguments_of_latents_that_are_not_offered(model: SCMAG, argument: str) -> None:
    with pytest.raises(TypeError, match=f"`{argument}` is not offered by scMAG. "):
        model.get_latent_representation(**{argument: 1})


@pytest.mark.parametrize("argument", ["adata", "n_samples", "return_mean", "transform_batch", "protein_list"])
def test_arguments_of_expression_that_are_not_offered(model: SCMAG, argument: str) -> None:
    with pytest.raises(TypeError, match=f"`{argument}` is not offered by scMAG. "):
        model.get_normalized_expression(**{argument: 1})


@pytest.mark.parametrize("name", ["features", "gene_list"])
def test_chosen_features_in_their_order(model: SCMAG, name: str) -> None:
    whole = model.get_normalized_expression(modality="prot")
    chosen = model.get_normalized_expression(modality="prot", **{name: ["prot_5", "prot_0"]})
    pd.testing.assert_frame_equal(chosen, whole[["prot_5", "prot_0"]])
    assert model.get_normalized_expression(**{name: "gene_3"}).shape == (90, 1)
    assert model.get_normalized_expression(**{name: []}).shape == (90, 0)
    with pytest.raises(KeyError, match=r"has no features \['CD3', 'CD4'\] in modality 'rna', 2 in all"):
        model.get_normalized_expression(**{name: ["CD3", "gene_1", "CD4"]})
    with pytest.raises(TypeError, match="give one of them"):
        model.get_normalized_expression(features=["gene_1"], gene_list=["gene_1"])


@pytest.mark.parametrize("library_size", ["latent", "mean", 0, -1.0, float("nan"), float("inf"), None, True, [1e4]])
def test_library_size_out_of_range(model: SCMAG, library_size: Any) -> None:
    with pytest.raises(ValueError, match=r'`library_size` must be "median", "observed" or a finite number of counts'):
        model.get_normalized_expression(library_size=library_size)


@pytest.mark.parametrize("modality", ["atac", "", 0, ["rna"]])
def test_unknown_modality(model: SCMAG, modality: Any) -> None:
    with pytest.raises(KeyError, match=r"No modality .* in this model, which has \['rna', 'prot'\]"):
        model.get_normalized_expression(modality=modality)


def test_a_number_is_every_cells_total(model: SCMAG) -> None:
    for which, name in enumerate(model.modalities_):
        median = float(model.module.median_totals[which])
        at_median = model.get_normalized_expression(modality=name, return_numpy=True)
        given = model.get_normalized_expression(modality=name, library_size=7 * median, return_numpy=True)
        np.testing.assert_allclose(given, 7 * at_median, rtol=1e-4)


def test_answers_are_the_callers_own(model: SCMAG) -> None:
    for ask in (
        model.get_latent_representation,
        model.get_gate,
        lambda: model.get_cluster_assignments(soft=True),
        lambda: model.get_normalized_expression(return_numpy=True),
    ):
        first = ask().copy()
        ask()[:] = -1
        np.testing.assert_array_equal(ask(), first)
    model.get_var_names()["rna"][0] = "changed"
    assert model.get_var_names()["rna"][0] == "gene_0"
    with pytest.raises(ValueError, match="`legacy_mudata_format` is not offered"):
        model.get_var_names(legacy_mudata_format=True)


def test_likelihood_and_its_bound(model: SCMAG) -> None:
    errors = model.get_reconstruction_error()
    assert list(errors) == ["rna", "prot"]
    assert all(0 < error < 1000 for error in errors.values())
    assert model.get_elbo() < -sum(errors.values())
    parts = [model.get_reconstruction_error(indices=rows, batch_size=7)["rna"] for rows in (slice(45), slice(45, None))]
    np.testing.assert_allclose(np.mean(parts), errors["rna"], rtol=1e-5)
    mdata = model.adata.copy()
    mdata["rna"].X = mdata["rna"].X.log1p()
    with pytest.raises(ValueError, match="values that are not integers"):
        model.get_elbo(mdata)


# cells


def test_cells_asked_about_are_not_written_to(model: SCMAG, fitted: MuData) -> None:
    mdata = fitted.copy()
    for slot in ("_scvi_uuid", "_scvi_manager_uuid"):
        mdata.uns.pop(slot, None)
    del mdata.obs["_scvi_batch"]
    for adata in mdata.mod.values():
        adata.layers["manifold"].flags.writeable = False
        adata.X.data.flags.writeable = False
    before = checksums(mdata)
    for view in (mdata, mdata[10:30], mdata[::-1]):
        model.get_latent_representation(view)
        model.get_normalized_expression(view, library_size="observed")
        model.get_elbo(view)
    assert checksums(mdata) == before
    n_kept = len(SCMAG._per_instance_manager_store[model.id])
    assert n_kept == 1  # scvi-tools would keep every MuData that was asked about
    rows = model.get_latent_representation(mdata[10:30])
    np.testing.assert_allclose(rows, model.get_latent_representation()[10:30], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [sp.csr_matrix, sp.csc_matrix, np.asfortranarray, lambda x: x.astype(np.float64)])
def test_fitted_layers_of_any_storage(model: SCMAG, fitted: MuData, make: Callable[[np.ndarray], Any]) -> None:
    mdata = fitted.copy()
    for adata in mdata.mod.values():
        adata.layers["manifold"] = make(adata.layers["manifold"])
    np.testing.assert_array_equal(model.get_latent_representation(mdata), model.get_latent_representation())


def test_backed_cells(model: SCMAG, fitted: MuData, tmp_path: Any) -> None:
    import mudata

    fitted.write_h5mu(tmp_path / "cells.h5mu")
    backed = mudata.read_h5mu(tmp_path / "cells.h5mu", backed="r")
    rows = [5, 3, 5, 80]
    for library_size in ("median", "observed"):
        np.testing.assert_allclose(
            model.get_normalized_expression(backed, rows, library_size=library_size, return_numpy=True),
            model.get_normalized_expression(indices=rows, library_size=library_size, return_numpy=True),
            rtol=1e-5,
        )
    backed.file.close()


def test_nothing_but_a_mudata(model: SCMAG, fitted: MuData) -> None:
    with pytest.raises(TypeError, match="needs cells in a MuData, got AnnData"):
        model.get_latent_representation(fitted["rna"])


def test_a_broken_fit_is_told_by_its_first_cell(model: SCMAG, fitted: MuData) -> None:
    mdata = fitted.copy()
    mdata["prot"].layers["manifold"][7, 2] = np.nan
    with pytest.raises(ValueError, match=r"mdata\['prot'\].layers\['manifold'\] holds NaN .* first in cell 'cell_7'"):
        model.get_cluster_assignments(mdata)
    assert len(model.get_cluster_assignments(mdata, indices=slice(7))) == 7


def test_batches_matter_to_the_decoders_alone(model: SCMAG, fitted: MuData) -> None:
    mdata = fitted.copy()
    mdata.obs["donor"] = ["c", "b"] * 45
    np.testing.assert_array_equal(model.get_latent_representation(mdata), model.get_latent_representation())
    with pytest.raises(ValueError, match=r"has not seen \['c'\] \(45 of 90 cells\); it knows \['a', 'b'\]"):
        model.get_normalized_expression(mdata)
    del mdata.obs["donor"]
    np.testing.assert_array_equal(model.get_gate(mdata), model.get_gate())
    with pytest.raises(KeyError, match="donor"):
        model.get_normalized_expression(mdata)


def test_logs_are_not_taken_for_counts(
    model: SCMAG, fitted: MuData, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    mdata = fitted.copy()
    mdata["rna"].X = mdata["rna"].X.log1p()
    median = model.get_normalized_expression(return_numpy=True)
    np.testing.assert_array_equal(model.get_normalized_expression(mdata, return_numpy=True), median)
    assert not caplog.records
    observed = model.get_normalized_expression(mdata, library_size="observed", return_numpy=True)
    np.testing.assert_array_equal(observed, median)
    assert "mdata['rna'].X holds values that are not integers" in caplog.text
    assert "The median library size is taken" in caplog.text
    caplog.clear()
    monkeypatch.setattr(fitted["rna"], "X", mdata["rna"].X)
    np.testing.assert_array_equal(model.get_normalized_expression(library_size="observed", return_numpy=True), median)
    assert "The median library size is taken" in caplog.text


# fits


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name.startswith("scmag_muon.model")]


def test_cells_fitted_without_the_training_are_told(
    model: SCMAG, fitted: MuData, caplog: pytest.LogCaptureFixture, tmp_path: Any
) -> None:
    model.get_gate()
    model.get_gate(fitted[:20].copy())
    again = fitted.copy()
    smm.pp.manifold_fit(again, n_neighbors=5)
    model.get_gate(again)  # another fit, but of the training's own cells
    assert told(caplog) == []
    alone = make_mudata({name: adata[:45].copy() for name, adata in fitted.mod.items()}, fitted.obs)
    smm.pp.manifold_fit(alone)
    model.get_gate(alone)
    (message,) = told(caplog)
    assert message.startswith("The layers 'manifold' of these 45 cells were fitted without the reference")
    model.save(tmp_path / "model")
    caplog.clear()
    loaded = SCMAG.load(tmp_path / "model", alone, accelerator="cpu")
    loaded.get_gate()
    assert len(told(caplog)) == 1
    caplog.clear()
    SCMAG.load(tmp_path / "model", fitted, accelerator="cpu").get_gate()
    fitted.write_h5mu(tmp_path / "cells.h5mu")
    import mudata

    model.get_gate(mudata.read_h5mu(tmp_path / "cells.h5mu"))
    assert told(caplog) == []


def test_features_that_took_no_part_in_the_fit(model: SCMAG, fitted: MuData, caplog: pytest.LogCaptureFixture) -> None:
    mdata = fitted.copy()
    mdata["rna"].var["some"] = np.arange(40) > 3
    smm.pp.manifold_fit(mdata, mask_var="some")
    with caplog.at_level(logging.WARNING):
        model.get_gate(mdata)
    (message,) = told(caplog)
    assert message.startswith(
        "In modality 'rna', 4 of the model's 40 features took no part in the fit of these cells, among"
    )
    mdata["rna"].var["some"] = np.arange(40) > 25
    smm.pp.manifold_fit(mdata, mask_var="some")
    with pytest.raises(ValueError, match="26 of the model's 40 features took no part") as error:
        model.get_gate(mdata)
    caplog.clear()
    for name in mdata.mod:  # the fix that the message names
        assert "mdata[name].var['of_model'] = mdata[name].var_names.isin(model.get_var_names()[name])" in str(
            error.value
        )
        mdata[name].var["of_model"] = mdata[name].var_names.isin(model.get_var_names()[name])
    assert "scmag_muon.pp.manifold_fit(mdata, mask_var='of_model', key_added='manifold')" in str(error.value)
    smm.pp.manifold_fit(mdata, mask_var="of_model", key_added="manifold")
    model.get_gate(mdata)
    assert told(caplog) == []


# scvi-tools' habits


def test_habits_of_scvi_tools(model: SCMAG, fitted: MuData, capsys: pytest.CaptureFixture[str]) -> None:
    assert model.adata is fitted
    assert model.is_trained
    assert model.history["train_loss"].shape == (6, 1)
    assert repr(model).endswith("Training status: trained")
    assert capsys.readouterr().out == ""
    model.view_anndata_setup()
    model.view_registry(hide_state_registries=True)
    assert capsys.readouterr().out.count("donor") >= 2
    model.view_setup_method_args()
    assert "donor" in capsys.readouterr().out
    model.deregister_manager()
    model.to_device("cpu")
    assert len(model.get_gate()) == 90
    with pytest.raises(AttributeError, match=r"keeps the cells that it was made with. .* SCMAG.load"):
        model.adata = fitted
    with pytest.raises(NotImplementedError, match="give them to the getters as `mdata`"):
        model.transfer_fields(fitted)


def test_cells_that_were_fitted_by_themselves_are_placed_by_the_reference(caplog: pytest.LogCaptureFixture) -> None:
    mdata = smm.datasets.simulate_citeseq(n_obs=300, n_vars=120, n_prot=15, n_clusters=3)
    order = np.random.default_rng(0).permutation(300)
    with no_pull_on_update():
        reference, rest = mdata[np.sort(order[:220])].copy(), mdata[np.sort(order[220:])].copy()
    model = smm.tl.scmag(
        reference,
        n_clusters=3,
        max_epochs_pretrain=20,
        max_epochs=5,
        progress_bar=False,
        accelerator="cpu",
        return_model=True,
    )
    smm.pp.manifold_fit(rest)
    together = model.get_latent_representation(rest)
    assert "fitted anew by the reference's fit" in caplog.text
    for cell_type in rest.obs["cell_type"].cat.categories:
        rows = np.flatnonzero(rest.obs["cell_type"] == cell_type)
        with no_pull_on_update():
            alone = rest[rows].copy()
        smm.pp.manifold_fit(alone)
        # whatever cells come along, each cell lands in the same place
        np.testing.assert_allclose(model.get_latent_representation(alone), together[rows], rtol=1e-4, atol=1e-4)


def test_reference_cells_that_come_back_land_where_they_were(caplog: pytest.LogCaptureFixture) -> None:
    mdata = smm.datasets.simulate_citeseq(n_obs=200, n_vars=100, n_prot=12, n_clusters=3, n_batches=2)
    model = smm.tl.scmag(
        mdata,
        n_clusters=3,
        batch_key="batch",
        max_epochs_pretrain=4,
        max_epochs=2,
        progress_bar=False,
        accelerator="cpu",
        return_model=True,
    )
    before = model.get_latent_representation()
    with no_pull_on_update():
        some = mdata[:60].copy()
    some.obs_names = [f"again_{name}" for name in some.obs_names]
    for adata in some.mod.values():
        adata.obs_names = list(some.obs_names)
    smm.pp.manifold_fit(some, batch_key="batch")
    found = model.get_latent_representation(some)
    assert "fitted anew by the reference's fit" in caplog.text
    np.testing.assert_allclose(found, before[:60], rtol=1e-3, atol=1e-3)
