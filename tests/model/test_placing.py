"""Cells placed by the reference's fit, beside the rows that the fit gives for its own cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.sparse as sp

import scmag_muon as smm
from scmag_muon import _mudata
from scmag_muon._mudata import copy_of, make_mudata, no_pull_on_update
from scmag_muon.model import SCMAG
from scmag_muon.model._new_cells import feature_names
from scmag_muon.model._placing import as_seen_by, embedded, placed
from scmag_muon.model._reference import Reference, reference_of

if TYPE_CHECKING:
    from mudata import MuData


N = 90


@pytest.fixture(scope="module", params=[None, "batch"], ids=["one batch", "two batches"])
def reference(request: pytest.FixtureRequest) -> tuple[MuData, dict[str, Any], Reference]:
    """Cells of which 20 lack RNA and 25 proteins, completed, as a model is set up with them; and their fit."""
    whole = smm.datasets.simulate_citeseq(n_obs=N, n_vars=40, n_prot=9, n_clusters=3, n_batches=2)
    with no_pull_on_update():
        mdata = make_mudata({"rna": whole["rna"][:70].copy(), "prot": whole["prot"][25:].copy()}, whole.obs)
    mdata["rna"].var["highly_variable"] = np.arange(40) % 7 != 0
    smm.pp.manifold_fit(mdata, batch_key=request.param, step=0.8)
    complete = smm.pp.complete_cells(mdata)
    SCMAG.setup_mudata(complete, batch_key=request.param, present_key="present")
    registry = SCMAG(complete, n_clusters=2).registry_
    found = reference_of(complete, registry)
    assert found is not None
    return complete, registry, found


def test_reference_cells_get_the_rows_of_the_fit(reference: tuple[MuData, dict[str, Any], Reference]) -> None:
    complete, registry, of_cells = reference
    fit = of_cells.fit
    order = np.random.default_rng(0).permutation(N)[:60]
    with no_pull_on_update():
        cells = complete[order].copy()
    found = placed(cells, of_cells, registry)
    np.testing.assert_array_equal(found.obsm["present"], fit.present[order])
    for i, name in enumerate(fit.names):
        features = list(fit.modality(name).features)
        own = sp.csr_array(complete[name].X)[fit.modality(name).cells][
            :, complete[name].var_names.get_indexer(features)
        ]
        expected = fit.rows(name, order, counts=own)
        layer = found[name].layers["manifold"]
        assert list(found[name].var_names) == list(feature_names(registry, i))
        columns = found[name].var_names.get_indexer(features)
        # a cell's coordinates are found anew, so that of neighbours at the same distance others may be taken
        same = np.isclose(layer[:, columns], expected, atol=2e-3).all(axis=1)
        assert same[fit.present[order].all(axis=1)].all()
        assert same.mean() > 0.95
        assert not np.delete(layer, columns, axis=1).any()
        np.testing.assert_array_equal(found[name].X.toarray(), cells[name][:, found[name].var_names].X.toarray())


def test_order_of_cells_and_features_does_not_matter(reference: tuple[MuData, dict[str, Any], Reference]) -> None:
    complete, registry, of_cells = reference
    with no_pull_on_update():
        cells = complete[:30].copy()
        mods = {name: adata[::-1, ::-1].copy() for name, adata in cells.mod.items()}
        turned = make_mudata(mods, cells.obs.iloc[::-1])
    turned.obsm["present"] = cells.obsm["present"][::-1]
    one, other = placed(cells, of_cells, registry), placed(turned, of_cells, registry)
    for name in of_cells.fit.names:
        np.testing.assert_allclose(one[name].layers["manifold"], other[name].layers["manifold"][::-1], atol=1e-5)


def test_the_reference_is_seen_by_the_features_that_the_query_has(
    reference: tuple[MuData, dict[str, Any], Reference],
) -> None:
    _, _, of_cells = reference
    fit = of_cells.fit
    batches = np.asarray(fit.batches, dtype=object)[fit.codes] if fit.batches else None
    names = of_cells.obs.index
    whole = {name: np.ones(of_cells.counts[name].shape[1], bool) for name in fit.names}
    query = _mudata.Query(names, of_cells.counts, fit.present, whole, batches)
    assert as_seen_by(query, of_cells) is fit
    half = {**whole, "prot": np.arange(9) % 2 == 0}
    seen = as_seen_by(_mudata.Query(names, of_cells.counts, fit.present, half, batches), of_cells)
    counts = {**of_cells.counts, "prot": sp.csr_array(of_cells.counts["prot"].toarray() * half["prot"])}
    query = _mudata.Query(names, counts, fit.present, half, batches)
    np.testing.assert_allclose(seen.joint, embedded(query, seen), atol=1e-5)
    blocks, own = fit.blocks(seen.joint), fit.blocks(fit.joint)
    measured = fit.present.all(axis=1)
    np.testing.assert_allclose(blocks[0][measured], own[0][measured], atol=1e-3)
    assert not np.allclose(blocks[1], own[1], atol=1e-2)


def test_no_reference_where_no_fit_is_held(reference: tuple[MuData, dict[str, Any], Reference]) -> None:
    complete, registry, _ = reference
    assert reference_of(None, registry) is None
    setup = {**registry["setup_args"], "input_layer": "other"}
    assert reference_of(complete, {**registry, "setup_args": setup}) is None


def test_cells_without_counts_are_taken_as_they_are_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    whole = smm.datasets.simulate_citeseq(n_obs=60, n_vars=20, n_prot=6, n_clusters=2)
    with no_pull_on_update():
        own, rest = whole[:40].copy(), whole[40:].copy()
    model = smm.tl.scmag(
        own,
        n_clusters=2,
        max_epochs_pretrain=2,
        max_epochs=1,
        progress_bar=False,
        accelerator="cpu",
        return_model=True,
    )
    smm.pp.manifold_fit(rest)
    by_counts = model.get_latent_representation(rest)
    assert "fitted anew by the reference's fit" in caplog.text
    without = copy_of(rest)
    without.mod["rna"].X = without["rna"].X * 0.5
    caplog.clear()
    found = model.get_latent_representation(without)
    assert "can't be fitted by the reference's fit" in caplog.text
    assert "'rna'" in caplog.text
    assert np.isfinite(found).all()
    assert not np.allclose(found, by_counts, atol=1e-3)
    assert _mudata.read_fit(own) is not None
