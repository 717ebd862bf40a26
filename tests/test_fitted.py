from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.sparse as sp

import scmag_muon as smm
from scmag_muon import _mudata
from scmag_muon._mudata import FittedLayer
from scmag_muon.model._checkpoint import _digest

if TYPE_CHECKING:
    from mudata import MuData


@pytest.fixture(scope="module")
def _cells() -> MuData:
    mdata = smm.datasets.simulate_citeseq(n_obs=90, n_vars=40, n_prot=8, n_clusters=3)
    mdata["rna"].var["highly_variable"] = np.arange(40) % 4 > 0
    smm.pp.manifold_fit(mdata)
    return mdata


@pytest.fixture
def cells(_cells: MuData) -> MuData:
    return _cells.copy()


def layer_of(mdata: MuData, name: str) -> object:
    return _mudata.fitted_layer(mdata, name, "manifold", counts=lambda: sp.csr_array(mdata[name].X))


def test_rows_by_request_are_those_of_the_layer(cells: MuData) -> None:
    for name, adata in cells.mod.items():
        assert layer_of(cells, name) is adata.layers["manifold"]
        expected = adata.layers["manifold"]
        expected = expected.toarray() if sp.issparse(expected) else np.array(expected)
        del adata.layers["manifold"]
        found = layer_of(cells, name)
        assert isinstance(found, FittedLayer)
        assert found.shape == expected.shape
        rows = [3, 80, 3, 0]
        np.testing.assert_allclose(found[rows], expected[rows], atol=3e-4)
        assert (found[rows][:, ~found.mask] == 0).all()


def test_the_stored_fit_serves_its_own_cells_alone(cells: MuData) -> None:
    for adata in cells.mod.values():
        del adata.layers["manifold"]
    assert _mudata.has_fitted_rows(cells, "rna", "manifold")
    assert _mudata.has_fitted_rows(cells[np.random.default_rng(0).permutation(90)].copy(), "rna", "manifold")
    assert not _mudata.has_fitted_rows(cells[5:].copy(), "rna", "manifold")
    assert not _mudata.has_fitted_rows(cells, "rna", "other")
    del cells.uns["manifold_fit"]
    assert not _mudata.has_fitted_rows(cells, "rna", "manifold")


def test_of_cells_that_lack_a_modality_those_that_have_it_are_compared(cells: MuData) -> None:
    whole = smm.datasets.simulate_citeseq(n_obs=90, n_vars=40, n_prot=8, n_clusters=3)
    whole.mod["prot"] = whole["prot"][25:].copy()
    whole.update()
    smm.pp.manifold_fit(whole)
    complete = smm.pp.complete_cells(whole)
    del complete["prot"].layers["manifold"]
    assert _mudata.has_fitted_rows(complete, "prot", "manifold", complete.obsm["present"][:, 1])
    assert not _mudata.has_fitted_rows(complete, "prot", "manifold")


def test_a_checksum_tells_other_counts(cells: MuData) -> None:
    for adata in cells.mod.values():
        del adata.layers["manifold"]
    before = _digest(layer_of(cells, "rna"))
    assert _digest(layer_of(cells, "rna")) == before
    cells["rna"].X.data += 1
    assert _digest(layer_of(cells, "rna")) != before
