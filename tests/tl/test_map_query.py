"""New cells onto a reference of 3 simulated types, briefly trained."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
import pytest

import scmag_muon as smm
from scmag_muon._mudata import _fitted, copy_of, make_mudata, no_pull_on_update
from scmag_muon.model import SCMAG, _data

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

BRIEF: dict[str, Any] = {"max_epochs_pretrain": 3, "max_epochs": 2, "progress_bar": False, "accelerator": "cpu"}
N = 160


def subset(mdata: MuData, cells: Any, names: tuple[str, ...] = ("rna", "prot")) -> MuData:
    with no_pull_on_update():
        part = mdata[cells].copy()
        return make_mudata({name: part.mod[name] for name in names}, part.obs)


def clear_types(n_obs: int, n_clusters: int) -> MuData:
    """Simulated cells; of each type every so many features are four times as high, so that the types are told apart."""
    mdata = smm.datasets.simulate_citeseq(n_obs=n_obs, n_vars=50, n_prot=12, n_clusters=n_clusters)
    types = mdata.obs["cell_type"].cat.codes.to_numpy()
    for adata in mdata.mod.values():
        counts = adata.X.tocsr()
        row = np.repeat(types, np.diff(counts.indptr))
        counts.data *= np.where(counts.indices % n_clusters == row, 4, 1)
        adata.X = counts
    mdata.obs["half"] = pd.Categorical(np.where(np.arange(n_obs) % 2, "odd", "even"))
    return mdata


@pytest.fixture(scope="module")
def whole() -> MuData:
    return clear_types(240, 3)


@pytest.fixture(scope="module")
def trained(whole: MuData) -> tuple[MuData, SCMAG]:
    reference = subset(whole, slice(N))
    model = smm.tl.scmag(reference, n_clusters=3, return_model=True, **BRIEF)
    assert isinstance(model, SCMAG)
    return reference, model


@pytest.fixture
def query(whole: MuData) -> MuData:
    return subset(whole, slice(N, None))


def test_reference_cells_as_query_get_their_own_coordinates_and_clusters(
    whole: MuData, trained: tuple[MuData, SCMAG]
) -> None:
    reference, model = trained
    cells = subset(whole, slice(N))
    smm.tl.map_query(cells, model)
    np.testing.assert_allclose(cells.obsm["X_scmag"], reference.obsm["X_scmag"], atol=2e-3)
    np.testing.assert_allclose(cells.obsm["X_scmag_recon"], reference.obsm["X_scmag_recon"], atol=2e-3)
    assert (cells.obs["scmag"].astype(str) == reference.obs["scmag"].astype(str)).mean() > 0.98
    for name in ("rna", "prot"):
        np.testing.assert_allclose(cells[name].layers["scmag"], reference[name].layers["scmag"], rtol=0.02, atol=1e-3)


def test_labels_are_right_and_hardly_a_cell_is_unknown(query: MuData, trained: tuple[MuData, SCMAG]) -> None:
    smm.tl.map_query(query, trained[1], labels="cell_type")
    assert (query.obs["scmag_cell_type"].astype(str) == query.obs["cell_type"].astype(str)).mean() > 0.95
    assert (query.obs["scmag_unlikeness"] > 1).mean() <= 0.05
    assert (query.obs["scmag_cell_type_unlikeness"] > 1).mean() <= 0.05
    probabilities = query.obsm["scmag_cell_type_probabilities"]
    assert list(probabilities.columns) == sorted(query.obs["cell_type"].unique())
    np.testing.assert_allclose(probabilities.max(axis=1), query.obs["scmag_cell_type_probability"])
    assert not any("imputed" in slot for slot in query.obsm)
    assert query.uns["scmag"]["params"]["labels"] == ["cell_type"]


@pytest.mark.parametrize(("has", "lacks"), [("rna", "prot"), ("prot", "rna")])
def test_one_modality_gives_labels_and_imputes_the_other(
    has: str, lacks: str, query: MuData, trained: tuple[MuData, SCMAG], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    alone = subset(query, slice(None), (has,))
    smm.tl.map_query(alone, trained[1], labels=["cell_type", "half"])
    assert f"The query has '{has}' alone" in caplog.text
    assert (alone.obs["scmag_cell_type"].astype(str) == alone.obs["cell_type"].astype(str)).mean() > 0.8
    assert "scmag_half" in alone.obs
    assert alone.obsm["X_scmag"].shape == (80, 32)
    assert (alone.obs["scmag_measured"] == has).all()
    imputed = alone.obsm[f"scmag_imputed_{lacks}"]
    assert list(imputed.columns) == list(query[lacks].var_names)
    types = query.obs["cell_type"].to_numpy()
    measured = np.log1p(query[lacks].X.toarray())
    means = [
        np.array([of[types == each].mean(axis=0) for each in np.unique(types)])
        for of in (np.log1p(imputed.to_numpy()), measured)
    ]
    differences = [(of - of.mean(axis=0)).ravel() for of in means]
    assert np.corrcoef(*differences)[0, 1] > 0.5


def test_cells_that_lack_different_modalities_are_mapped_side_by_side(
    query: MuData, trained: tuple[MuData, SCMAG]
) -> None:
    mosaic = make_mudata({"rna": query["rna"][:50].copy(), "prot": query["prot"][30:][::-1].copy()}, query.obs)
    smm.tl.map_query(mosaic, trained[1], labels="cell_type")
    assert (mosaic.obs["scmag_cell_type"].astype(str) == mosaic.obs["cell_type"].astype(str)).mean() > 0.9
    alone = subset(query, slice(50, None), ("prot",))
    smm.tl.map_query(alone, trained[1])
    np.testing.assert_allclose(mosaic[alone.obs_names].obsm["X_scmag"], alone.obsm["X_scmag"], atol=1e-4)
    assert mosaic["prot"].layers["scmag"].shape == (50, 12)


def test_features_are_found_by_name_and_further_ones_play_no_part(query: MuData, trained: tuple[MuData, SCMAG]) -> None:
    further = query["rna"][:, :5].copy()
    further.var_names = [f"other {name}" for name in further.var_names]
    rna = anndata.concat([query["rna"][:, ::-1], further], axis=1)
    other = make_mudata({"prot": query["prot"][:, ::-1].copy(), "rna": rna}, query.obs)
    for cells in (query, other):
        smm.tl.map_query(cells, trained[1], labels="cell_type")
    np.testing.assert_allclose(other.obsm["X_scmag"], query.obsm["X_scmag"], atol=1e-3)
    layer = pd.DataFrame(np.asarray(other["rna"].layers["scmag"]), columns=other["rna"].var_names)
    assert not layer[further.var_names].to_numpy().any()
    np.testing.assert_allclose(layer[query["rna"].var_names], query["rna"].layers["scmag"], rtol=0.02, atol=1e-3)


def test_half_of_the_proteins_serve_and_the_others_are_imputed(
    query: MuData, trained: tuple[MuData, SCMAG], caplog: pytest.LogCaptureFixture
) -> None:
    half = make_mudata({"prot": query["prot"][:, ::2].copy()}, query.obs)
    smm.tl.map_query(half, trained[1], labels="cell_type")
    assert "lacks 6 of the reference's 12 features" in caplog.text
    assert (half.obs["scmag_cell_type"].astype(str) == half.obs["cell_type"].astype(str)).mean() > 0.85
    assert half.obsm["scmag_imputed_prot"].shape == (80, 12)
    assert half.uns["scmag"]["shared_features"] == {"prot": 6}


def test_a_type_that_the_reference_lacks_is_unknown() -> None:
    mdata = clear_types(300, 4)
    novel = (mdata.obs["cell_type"] == mdata.obs["cell_type"].cat.categories[1]).to_numpy()
    part = np.arange(300) % 3 == 0
    reference, cells = subset(mdata, ~part & ~novel), subset(mdata, part)
    model = smm.tl.scmag(reference, n_clusters=3, return_model=True, **BRIEF)
    smm.tl.map_query(cells, model, labels="cell_type")
    unlike = cells.obs["scmag_cell_type_unlikeness"].to_numpy()
    assert np.mean(unlike[novel[part]][:, None] > unlike[~novel[part]]) > 0.9
    assert ((cells.obs["scmag_cell_type"] == "unknown") == (unlike > 1)).all()


def test_reference_cells_without_a_label_do_not_stand_for_it(whole: MuData) -> None:
    reference, cells = subset(whole, slice(N)), subset(whole, slice(N, None))
    of_type = reference.obs["cell_type"] == reference.obs["cell_type"].cat.categories[1]
    reference.obs["annotation"] = reference.obs["cell_type"].astype(object).where(~of_type, None)
    model = smm.tl.scmag(reference, n_clusters=3, return_model=True, **BRIEF)
    cells.obs["sample"] = "one"
    smm.tl.map_query(cells, model, labels=["annotation", "cell_type"], batch_key="sample")
    novel = (cells.obs["cell_type"] == cells.obs["cell_type"].cat.categories[1]).to_numpy()
    unlike = cells.obs["scmag_annotation_unlikeness"].to_numpy()
    assert np.mean(unlike[novel][:, None] > unlike[~novel]) > 0.95
    assert np.median(unlike[novel]) > 2 * np.median(cells.obs["scmag_cell_type_unlikeness"][novel])
    assert ((cells.obs["scmag_annotation"] == "unknown") == (unlike > 1)).all()


def test_where_a_cell_lands_does_not_depend_on_its_company(query: MuData, trained: tuple[MuData, SCMAG]) -> None:
    few = subset(query, [7, 3, 50])
    for cells in (query, few):
        smm.tl.map_query(cells, trained[1], labels="cell_type")
    for slot in ("X_scmag", "scmag_cell_type_probabilities"):
        np.testing.assert_allclose(few.obsm[slot], np.asarray(query.obsm[slot])[[7, 3, 50]], atol=1e-4)
    for column in ("scmag_unlikeness", "scmag_cell_type_unlikeness"):
        np.testing.assert_allclose(few.obs[column], query.obs[column].iloc[[7, 3, 50]], rtol=1e-4)


def test_a_sorted_type_of_a_deep_batch_lands_with_its_type(query: MuData, trained: tuple[MuData, SCMAG]) -> None:
    for name in ("rna", "prot"):
        counts = query[name].X.tocsr().copy()
        counts.data *= np.where(counts.indices % 3 == 0, 4, 1)
        query[name].X = counts
    query.obs["sample"] = "new"
    largest = query.obs["cell_type"].value_counts().index[0]
    alone = subset(query, (query.obs["cell_type"] == largest).to_numpy())
    smm.tl.map_query(alone, trained[1], labels="cell_type", batch_key="sample")
    assert (alone.obs["scmag_cell_type"] != "unknown").mean() > 0.8
    best = alone.obsm["scmag_cell_type_probabilities"].idxmax(axis=1)
    assert (best == largest).mean() > 0.9


def test_folder_model_and_mudata_give_the_same_bits_and_leave_the_reference_as_it_was(
    query: MuData, trained: tuple[MuData, SCMAG], tmp_path: Path
) -> None:
    reference, model = trained
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    spaces = {slot: np.array(reference.obsm[slot]) for slot in ("X_scmag", "X_manifold")}
    model.save(tmp_path / "reference", labels=reference.obs[["cell_type"]])
    found = []
    for given, further in (
        (model, {}),
        (reference, {"model": model}),
        (str(tmp_path / "reference"), {"accelerator": "cpu"}),
    ):
        cells = smm.tl.map_query(query, given, labels=["cell_type", "scmag"], copy=True, **further)
        assert cells is not None
        found.append(cells)
    assert "scmag" not in query.obs
    for cells in found[1:]:
        for slot in found[0].obsm:
            np.testing.assert_array_equal(np.asarray(cells.obsm[slot]), np.asarray(found[0].obsm[slot]))
        pd.testing.assert_frame_equal(cells.obs, found[0].obs)
    assert all((value == before[name]).all() for name, value in model.module.state_dict().items())
    for slot, values in spaces.items():
        np.testing.assert_array_equal(reference.obsm[slot], values)


def test_the_query_lies_on_the_reference_s_map_with_its_type(query: MuData, trained: tuple[MuData, SCMAG]) -> None:
    reference, model = trained[0].copy(), trained[1]
    codes = reference.obs["cell_type"].cat.codes.to_numpy()
    reference.obsm["X_umap"] = np.column_stack([codes, -codes]).astype(float)
    smm.tl.map_query(query, reference[::-1].copy(), model=model, basis="X_umap")
    xy = query.obsm["X_scmag_umap"]
    np.testing.assert_allclose(xy[:, 0], -xy[:, 1], atol=1e-5)
    assert (np.abs(xy[:, 0] - query.obs["cell_type"].cat.codes) < 0.5).mean() > 0.9
    with pytest.raises(ValueError, match="needs the reference as its MuData"):
        smm.tl.map_query(query, model, basis="X_umap")
    with pytest.raises(KeyError, match="'X_tsne' is no map of the reference"):
        smm.tl.map_query(query, reference, model=model, basis="X_tsne")


def test_results_survive_a_file_and_are_renewed(query: MuData, trained: tuple[MuData, SCMAG], tmp_path: Path) -> None:
    smm.tl.map_query(query, trained[1], labels="cell_type")
    query.write_h5mu(tmp_path / "query.h5mu")
    import mudata

    again = mudata.read_h5mu(tmp_path / "query.h5mu")
    smm.tl.map_query(again, trained[1], labels="cell_type")
    np.testing.assert_allclose(again.obsm["X_scmag"], query.obsm["X_scmag"], atol=1e-5)


@pytest.mark.parametrize(("layer", "by_request"), [(None, False), ("counts", False), (None, True)])
def test_a_model_keeps_counts_of_its_own(
    whole: MuData, query: MuData, layer: str | None, *, by_request: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_request:
        monkeypatch.setattr(_fitted, "LARGE", 0)
        monkeypatch.setattr(_data, "_MOST_BYTES", 0)
    reference = subset(whole, slice(60))
    for name in ("rna", "prot"):
        for each in (reference, query):
            if layer is not None:
                each[name].layers[layer] = each[name].X.copy()
    model = smm.tl.scmag(reference, n_clusters=2, layer=layer, return_model=True, **BRIEF)
    before, own = smm.tl.map_query(query, model, layer=layer, copy=True), model.get_latent_representation()
    for adata in reference.mod.values():
        counts = adata.X if layer is None else adata.layers[layer]
        np.log1p(counts.data, out=counts.data)  # as scanpy's functions do
    smm.tl.map_query(query, model, layer=layer)
    np.testing.assert_array_equal(query.obsm["X_scmag"], before.obsm["X_scmag"])
    np.testing.assert_array_equal(model.get_latent_representation(), own)
    assert model.get_normalized_expression(library_size="observed").to_numpy().sum() > 0.5 * whole["rna"].X[:60].sum()


def test_batches_of_the_reference_are_asked_for(whole: MuData, query: MuData, caplog: pytest.LogCaptureFixture) -> None:
    reference = subset(whole, slice(60))
    model = smm.tl.scmag(reference, n_clusters=2, batch_key="half", return_model=True, **BRIEF)
    smm.tl.map_query(query, model)
    assert f"{query.n_obs} of {query.n_obs} cells are of batches of the reference by obs['half']" in caplog.text
    caplog.clear()
    smm.tl.map_query(query, model, batch_key="half")
    query.obs["half"] = "a third"
    smm.tl.map_query(query, model)
    assert "batches of the reference" not in caplog.text


def test_a_modality_without_cells_is_as_good_as_none(query: MuData, trained: tuple[MuData, SCMAG]) -> None:
    alone = subset(query, slice(None), ("rna",))
    query.mod["prot"] = query["prot"][:0].copy()
    query.update()
    for each in (alone, query):
        smm.tl.map_query(each, trained[1])
    np.testing.assert_array_equal(query.obsm["X_scmag"], alone.obsm["X_scmag"])
    with pytest.raises(ValueError, match="The MuData has no cells"):
        smm.tl.map_query(subset(alone, slice(0), ("rna",)), trained[1])


def test_what_an_earlier_mapping_left_goes_with_it(whole: MuData, query: MuData, trained: tuple[MuData, SCMAG]) -> None:
    reference, model = trained
    reference = subset(reference, slice(None))
    reference.obsm["X_map"] = reference["prot"].X[:, :2].toarray()
    smm.tl.map_query(query, reference, model=model, labels="cell_type", basis="X_map")
    smm.tl.markers(query)
    query.obs["mine"] = query.obs["scmag_cell_type"]
    smm.tl.map_query(query, model, labels="half")
    assert "scmag_markers" in query.uns  # the clusters are the same
    assert not [
        slot for where in (query.obs, query.obsm) for slot in where if "cell_type" in slot and slot != "cell_type"
    ]
    assert "X_scmag_map" not in query.obsm
    assert {"mine", "scmag_half", "scmag_half_probability"} <= set(query.obs)
    other = smm.tl.scmag(subset(whole, slice(60)), n_clusters=2, return_model=True, random_state=3, **BRIEF)
    rna = subset(query, slice(None), ("rna",))
    rna.uns.update(query.uns)
    for each in (query, rna):
        smm.tl.map_query(each, other)
        assert "scmag_half" not in each.obs


@pytest.mark.parametrize("labels", ["confidence", "measured", "unlikeness", ["half", "half_probability"], "of/mine"])
def test_labels_never_take_the_place_of_another_result(
    labels: Any, query: MuData, trained: tuple[MuData, SCMAG]
) -> None:
    reference, model = subset(trained[0], slice(None)), trained[1]
    columns = np.atleast_1d(labels)
    for column in columns:
        reference.obs[column] = reference.obs["cell_type"]
    with pytest.raises(ValueError, match="Give the column another name in the reference's MuData") as caught:
        smm.tl.map_query(query, reference, model=model, labels=labels)
    exec(str(caught.value).rpartition("MuData: ")[2].removesuffix("."), {"reference": reference})
    smm.tl.map_query(query, reference, model=model, labels=[*columns[:-1], f"of_{columns[-1].replace('/', '_')}"])
    assert query.obs["scmag_confidence"].dtype == float


def _without_model(query: MuData, reference: MuData, model: SCMAG) -> None:
    smm.tl.map_query(query, reference)


def _two_models(query: MuData, reference: MuData, model: SCMAG) -> None:
    smm.tl.map_query(query, model, model=model)


def _of_wrong_type(query: MuData, reference: MuData, model: SCMAG) -> None:
    smm.tl.map_query(query, 3)  # type: ignore[arg-type]


def _no_labels(query: MuData, reference: MuData, model: SCMAG) -> None:
    smm.tl.map_query(query, model, labels="celltype")


def _no_folder(query: MuData, reference: MuData, model: SCMAG) -> None:
    smm.tl.map_query(query, "nowhere", accelerator="cpu")


def _other_names(query: MuData, reference: MuData, model: SCMAG) -> None:
    query["rna"].var_names = [f"ENSG{i}" for i in range(50)]
    smm.tl.map_query(query, model)


def _other_modalities(query: MuData, reference: MuData, model: SCMAG) -> None:
    smm.tl.map_query(make_mudata({"adt": query["prot"].copy()}), model)


def _normalised(query: MuData, reference: MuData, model: SCMAG) -> None:
    query["prot"].X = np.log1p(query["prot"].X.toarray())
    smm.tl.map_query(query, model)


def _taken(query: MuData, reference: MuData, model: SCMAG) -> None:
    query.obs["scmag_unlikeness"] = 1.0
    smm.tl.map_query(query, model)


def _own_fit(query: MuData, reference: MuData, model: SCMAG) -> None:
    own = subset(reference, slice(None))
    smm.pp.manifold_fit(own, neighborhoods="own", key_added="own")
    SCMAG.setup_mudata(own, input_layer="own")
    other = SCMAG(own, n_clusters=2)
    smm.tl.map_query(query, other)


def _untrained(query: MuData, reference: MuData, model: SCMAG) -> None:
    own = subset(reference, slice(None))
    smm.pp.manifold_fit(own)
    SCMAG.setup_mudata(own)
    smm.tl.map_query(query, SCMAG(own, n_clusters=2))


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (_without_model, ValueError, "holds no network"),
        (_two_models, ValueError, "goes with a reference that is a MuData"),
        (_of_wrong_type, TypeError, "got int"),
        (_no_labels, KeyError, "no labels 'celltype'"),
        (_no_folder, FileNotFoundError, "no folder 'nowhere'"),
        (_other_names, ValueError, "shares 0 of the reference's 50 features"),
        (_other_modalities, ValueError, "none of the reference's"),
        (_normalised, ValueError, r"mdata\['prot'\]"),
        (_taken, ValueError, "scmag_unlikeness"),
        (_own_fit, ValueError, "holds no fit"),
        (_untrained, RuntimeError, "no clusters yet"),
    ],
)
def test_what_is_refused_leaves_the_query_as_it_was(
    wrong: Any, error: type[Exception], says: str, query: MuData, trained: tuple[MuData, SCMAG]
) -> None:
    before = copy_of(query)
    with pytest.raises(error, match=says):
        wrong(query, *trained)
    assert set(query.obsm) == set(before.obsm)
    assert not query.uns
    assert "scmag" not in query.obs
    assert not query["rna"].layers
