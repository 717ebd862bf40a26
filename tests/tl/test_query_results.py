"""Confidence, imputed counts and layers of a query, beside their definitions."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import scmag_muon as smm
from scmag_muon import _values
from scmag_muon._mudata import _fitted, make_mudata, no_pull_on_update
from scmag_muon.manifold.missing import restricted
from scmag_muon.model import SCMAG
from scmag_muon.tl import _map_query

if TYPE_CHECKING:
    from mudata import MuData

N = 120


@pytest.fixture(scope="module")
def trained() -> tuple[SCMAG, MuData]:
    """A model of 120 simulated cells, and 40 others."""
    whole = smm.datasets.simulate_citeseq(n_obs=N + 40, n_vars=40, n_prot=10, n_clusters=3)
    with no_pull_on_update():
        reference, query = whole[:N].copy(), whole[N:].copy()
    brief: dict[str, Any] = {"max_epochs_pretrain": 3, "max_epochs": 2, "progress_bar": False, "accelerator": "cpu"}
    model = smm.tl.scmag(reference, n_clusters=3, return_model=True, **brief)
    assert isinstance(model, SCMAG)
    return model, query


def of(query: MuData, **features: Any) -> MuData:
    """The query's cells with some features of some modalities."""
    return make_mudata({name: query[name][:, chosen].copy() for name, chosen in features.items()}, query.obs)


def coordinates(model: SCMAG, query: MuData) -> np.ndarray:
    return model.reference.fit.embed({name: sp.csr_array(query[name].X) for name in query.mod})


def test_confidence_is_the_vote_of_the_reference_s_nearest_cells(trained: tuple[SCMAG, MuData]) -> None:
    model, query = trained
    cells = of(query, rna=slice(None), prot=slice(None))
    smm.tl.map_query(cells, model)
    fit, of_reference = model.reference.fit, model.get_cluster_assignments()
    for x, cluster, confidence in zip(
        coordinates(model, query), cells.obs["scmag"].astype(int), cells.obs["scmag_confidence"], strict=True
    ):
        asked = min(max((of_reference == cluster).sum() // 2, 5), 50)
        nearest = np.argsort(np.square(fit.joint - x).sum(axis=1))[:asked]
        assert confidence == pytest.approx(((of_reference[nearest] == cluster).sum() + 0.5) / (asked + 1))
    assert (cells.obs["scmag_q"] > cells.obs["scmag_confidence"]).any()


def test_confidence_of_rna_alone_compares_rna_alone(trained: tuple[SCMAG, MuData]) -> None:
    model, query = trained
    cells = of(query, rna=slice(None))
    smm.tl.map_query(cells, model)
    fit, of_reference = model.reference.fit, model.get_cluster_assignments()
    own, among = fit.blocks(coordinates(model, cells))[0][7], fit.blocks(fit.joint)[0]
    cluster = int(cells.obs["scmag"].iloc[7])
    asked = min(max((of_reference == cluster).sum() // 2, 5), 50)
    nearest = np.argsort(np.square(among - own).sum(axis=1))[:asked]
    expected = ((of_reference[nearest] == cluster).sum() + 0.5) / (asked + 1)
    assert cells.obs["scmag_confidence"].iloc[7] == pytest.approx(expected)


def test_clusters_of_the_reference_are_saved_and_renewed_by_training(
    trained: tuple[SCMAG, MuData], tmp_path: Any
) -> None:
    model, _ = trained
    clusters = model.get_cluster_assignments()
    np.testing.assert_array_equal(model.reference.clusters, clusters)
    model.save(tmp_path / "model")
    alone = SCMAG.load(tmp_path / "model", adata=False, accelerator="cpu")
    np.testing.assert_array_equal(alone.reference.clusters, clusters)
    again = SCMAG.load(tmp_path / "model", adata=model.adata, accelerator="cpu")
    again._reference.clusters[:] = -1
    again.train(max_epochs=1, accelerator="cpu", progress_bar=False)
    np.testing.assert_array_equal(again.reference.clusters, again.get_cluster_assignments())


def test_clusters_of_the_reference_are_computed_once(trained: tuple[SCMAG, MuData], monkeypatch: Any) -> None:
    model, query = trained
    clusters = model.get_cluster_assignments()
    model.get_cluster_assignments(indices=[3, 4])
    monkeypatch.setattr(SCMAG, "_inferred", None)
    np.testing.assert_array_equal(model.reference.clusters, clusters)


def logs_of_three(
    model: SCMAG, joint: np.ndarray, decoded: np.ndarray, name: str, x: np.ndarray, to: np.ndarray
) -> Any:
    """Logarithms of the network's mean, of the neighbours' and of a ridge from ``x`` at the reference to ``to``, with sizes."""
    reference = model.reference
    values = _values.normalize(reference.counts[name], reference.fit.modality(name).kind)
    values = values.toarray() if sp.issparse(values) else np.asarray(values)
    near = reference.fit.operators(joint)[name]["rbf"] @ values
    center = x.mean(axis=0)
    slopes = np.linalg.solve((x - center).T @ (x - center) + np.eye(x.shape[1]), (x - center).T @ values)
    if name == "rna":
        sizes = decoded.sum(axis=1, keepdims=True) / np.median(reference.counts[name].sum(axis=1))
    else:
        sizes = np.exp(np.log1p(decoded).mean(axis=1, keepdims=True))
    return np.log1p(decoded / sizes) + near + values.mean(axis=0) + (to - center) @ slopes, sizes


@pytest.mark.parametrize("lacks", ["rna", "prot"])
def test_a_modality_that_the_query_lacks_is_the_mean_of_three_guesses(
    lacks: str, trained: tuple[SCMAG, MuData], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, query = trained
    has = "prot" if lacks == "rna" else "rna"
    cells, other = of(query, **{has: slice(None)}), of(query, **{has: slice(None)})
    smm.tl.map_query(cells, model)
    monkeypatch.setattr(_map_query, "impute", lambda *_: None)
    smm.tl.map_query(other, model)
    fit = model.reference.fit
    joint, block = coordinates(model, cells), fit.names.index(has)
    logs, sizes = logs_of_three(
        model,
        joint,
        other.obsm[f"scmag_imputed_{lacks}"].to_numpy(),
        lacks,
        fit.blocks(fit.joint)[block],
        fit.blocks(joint)[block],
    )
    expected = np.expm1(np.maximum(logs / 3, 0)) * sizes
    np.testing.assert_allclose(cells.obsm[f"scmag_imputed_{lacks}"], expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(cells[has].layers["scmag"], other[has].layers["scmag"])


def test_features_that_the_query_lacks_are_foretold_from_all_that_was_measured(
    trained: tuple[SCMAG, MuData], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, query = trained
    cells, other = (of(query, rna=slice(None), prot=slice(None, None, 2)) for _ in range(2))
    smm.tl.map_query(cells, model)
    monkeypatch.setattr(_map_query, "impute", lambda *_: None)
    smm.tl.map_query(other, model)
    fit, reference = model.reference.fit, model.reference
    measured = {"prot": np.arange(10) % 2 == 0}
    padded = sp.lil_array((40, 10), dtype=np.float32)
    padded[:, ::2] = query["prot"].X.toarray()[:, ::2]
    counts = {"rna": sp.csr_array(query["rna"].X), "prot": sp.csr_array(padded)}
    seen = restricted(fit, measured, reference.counts)
    joint = seen.embed({"rna": counts["rna"], "prot": sp.csr_array(padded[:, ::2])})
    before = other.obsm["scmag_imputed_prot"].to_numpy()
    logs, sizes = logs_of_three(model, joint, before, "prot", seen.joint, joint)
    found = cells.obsm["scmag_imputed_prot"].to_numpy()
    expected = np.expm1(np.maximum(logs / 3, 0)) * sizes
    np.testing.assert_allclose(found[:, 1::2], expected[:, 1::2], rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(found[:, ::2], before[:, ::2])
    np.testing.assert_array_equal(found[:, ::2], cells["prot"].layers["scmag"])


def test_without_layers_nothing_is_decoded_and_earlier_ones_go(
    trained: tuple[SCMAG, MuData], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, query = trained
    cells = of(query, rna=slice(None))
    smm.tl.map_query(cells, model, fine_tune=True, max_epochs=1)
    coordinates, names = np.array(cells.obsm["X_scmag"]), set(cells.obsm)
    monkeypatch.setattr(SCMAG, "load_query_data", None)
    monkeypatch.setattr(type(model.module), "generative", None)
    smm.tl.map_query(cells, model, fine_tune=True, write_layers="none")
    np.testing.assert_array_equal(cells.obsm["X_scmag"], coordinates)
    assert names - set(cells.obsm) == {"scmag_imputed_prot"}
    assert not cells["rna"].layers
    assert "scmag" in cells["rna"].uns


def test_large_layers_are_written_on_request_only(
    trained: tuple[SCMAG, MuData], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, query = trained
    cells = of(query, prot=slice(None))
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(_fitted, "LARGE", 40 * (40 + 10))
    smm.tl.map_query(cells, model)
    assert "scmag_imputed_rna" in cells.obsm
    monkeypatch.setattr(_fitted, "LARGE", 40 * (40 + 10) - 1)
    smm.tl.map_query(cells, model)
    assert 'Ask for them with write_layers="denoised"' in caplog.text
    assert "scmag_imputed_rna" not in cells.obsm
    assert not cells["prot"].layers
    smm.tl.map_query(cells, model, write_layers="denoised")
    assert isinstance(cells.obsm["scmag_imputed_rna"], pd.DataFrame)
    with pytest.raises(ValueError, match="write_layers"):
        smm.tl.map_query(cells, model, write_layers="fitted")  # type: ignore[arg-type]
