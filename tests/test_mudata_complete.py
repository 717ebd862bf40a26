"""Rows of all cells, beside loops over cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.sparse as sp

from scmag_muon import _mudata
from scmag_muon.datasets import simulate_citeseq
from scmag_muon.manifold.joint import joint_space
from scmag_muon.manifold.modality import make_modality
from scmag_muon.manifold.reference import fit as learn

if TYPE_CHECKING:
    from scmag_muon.manifold.fit import ManifoldFit

N = 70
LACKING = np.array([0, 3, 4, 40, 41, 69])
CELLS = np.setdiff1d(np.arange(N), LACKING)


@pytest.fixture(scope="module")
def mosaic() -> tuple[ManifoldFit, sp.csr_array, np.ndarray]:
    """A fit of 70 cells of which six lack proteins, the proteins' counts and their fitted rows."""
    mdata = simulate_citeseq(n_obs=N, n_vars=30, n_prot=8, n_clusters=2)
    rna, prot = sp.csr_array(mdata["rna"].X), sp.csr_array(mdata["prot"].X[CELLS])
    modalities = [
        make_modality(
            "rna", "rna", rna, features=np.arange(30).astype(str), main="scaled", scales=True, cells=np.arange(N)
        ),
        make_modality(
            "prot", "protein", prot, features=np.arange(8).astype(str), main="clr", scales=False, cells=CELLS
        ),
    ]
    fit, layers = learn(modalities, joint_space(modalities, N, n_pcs=5), n_neighbors=6)
    return fit, prot, layers["prot"]


def test_padded_has_zeros_where_nothing_was_measured() -> None:
    counts = sp.csr_array(np.array([[1.0, 0, 2], [0, 0, 0], [0, 5, 0]], dtype=np.float32))
    cells, expected = np.array([1, 2, 4]), np.zeros((6, 3))
    for row, cell in zip(counts.toarray(), cells, strict=True):
        expected[cell] = row
    found = _mudata.padded(counts, cells, 6)
    np.testing.assert_array_equal(found.toarray(), expected)
    assert np.shares_memory(found.data, counts.data)
    assert _mudata.padded(counts, np.arange(3), 3) is counts


def test_borrowed_takes_each_row_of_a_cell_of_the_neighborhood(
    mosaic: tuple[ManifoldFit, sp.csr_array, np.ndarray],
) -> None:
    fit, prot, _ = mosaic
    known = dict(zip(CELLS.tolist(), prot.toarray(), strict=True))
    many = [_mudata.borrowed(prot, fit, "prot", random_state=seed).toarray() for seed in range(40)]
    for cell in range(N):
        rows = {row[cell].tobytes() for row in many}
        near = (
            {known[c].tobytes() for c in fit.neighborhoods["prot"]["rbf"][cell].tolist()} if cell in LACKING else set()
        )
        assert rows == (near if cell in LACKING else {known[cell].tobytes()})  # each neighbour has its turn
    again = _mudata.borrowed(prot, fit, "prot", random_state=3).toarray()
    np.testing.assert_array_equal(again, many[3])
    rna = sp.csr_array(np.arange(2 * N).reshape(N, 2))
    np.testing.assert_array_equal(_mudata.borrowed(rna, fit, "rna", random_state=0).toarray(), rna.toarray())


def test_fitted_everywhere_has_given_rows_and_rows_of_the_fit(
    mosaic: tuple[ManifoldFit, sp.csr_array, np.ndarray],
) -> None:
    fit, prot, values = mosaic
    found = _mudata.fitted_everywhere(values, fit, "prot", prot)
    own = dict(zip(CELLS.tolist(), values, strict=True))
    for cell in range(N):
        expected = own[cell] if cell in own else fit.rows("prot", np.array([cell]), counts=prot)[0]
        np.testing.assert_allclose(found[cell], expected, rtol=1e-5, atol=1e-6)
    assert found.shape == (N, 8)
    whole = np.zeros((N, 30), np.float32)
    assert _mudata.fitted_everywhere(whole, fit, "rna", prot) is whole
