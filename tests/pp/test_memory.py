from __future__ import annotations

import tracemalloc

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

import scmag_muon as smm
from scmag_muon import _mudata
from scmag_muon._mudata import make_mudata
from scmag_muon.manifold import neighbors

CELLS, PEAKS = 1000, 10_000
DENSE = 4 * CELLS * PEAKS


def peak_of_fit(*, write_layers: bool) -> int:
    """Most bytes that fitting has at once."""
    rng = np.random.default_rng(0)
    group = rng.integers(4, size=CELLS)
    entries = rng.integers(CELLS, size=60 * CELLS)
    columns = (rng.integers(PEAKS // 4, size=len(entries)) + group[entries] * (PEAKS // 4)) % PEAKS
    counts = sp.csr_matrix((np.ones(len(entries), np.float32), (entries, columns)), shape=(CELLS, PEAKS))
    adata = anndata.AnnData(counts)
    adata.var_names = [f"peak_{i}" for i in range(PEAKS)]
    mdata = make_mudata({"atac": adata})
    tracemalloc.start()
    try:
        smm.pp.manifold_fit(mdata, kinds={"atac": "atac"}, write_layers=write_layers)
        if not write_layers:
            layer = _mudata.fitted_layer(mdata, "atac", "manifold", counts=lambda: sp.csr_array(counts))
            assert layer[:50].shape == (50, PEAKS)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.filterwarnings("ignore")
def test_nothing_of_the_size_of_cells_by_features_is_ever_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "_BLOCK_ENTRIES", 50_000)  # distances of a block of cells to all others
    assert peak_of_fit(write_layers=False) < 0.8 * DENSE
    assert peak_of_fit(write_layers=True) > DENSE
