"""Rows of zeros are asked about where they may stand for what was not measured, and the fix that is named works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

import scmag_muon as smm
from scmag_muon import _mudata
from scmag_muon._mudata import make_mudata

if TYPE_CHECKING:
    from mudata import MuData

N = 60


@pytest.fixture
def mdata() -> MuData:
    return smm.datasets.simulate_citeseq(n_obs=N, n_vars=30, n_prot=10, n_clusters=2, n_batches=2)


def zeros_in_a_third(x: Any) -> sp.csr_matrix:
    x = x.toarray()
    x[::3] = 0
    return sp.csr_matrix(x)


@pytest.mark.parametrize("layer", [None, "counts"])
@pytest.mark.parametrize("whole_run", [False, True], ids=["manifold_fit", "scmag"])
@pytest.mark.filterwarnings("ignore:From 0.4 .update:FutureWarning")
def test_rows_of_zeros_are_asked_about_and_left_out_by_the_named_fix(
    mdata: MuData, layer: str | None, whole_run: bool, caplog: pytest.LogCaptureFixture
) -> None:
    prot = mdata["prot"]
    prot.X = zeros_in_a_third(prot.X)
    mdata["rna"].obs["batch"] = mdata.obs["batch"].to_numpy()
    if layer is not None:
        for adata in mdata.mod.values():
            adata.layers[layer] = adata.X.copy()
            adata.X = np.ones(adata.shape, dtype=np.float32)
    obs = mdata.obs.copy()

    def run() -> None:
        caplog.clear()
        if whole_run:
            short = {"max_epochs_pretrain": 2, "max_epochs": 1, "progress_bar": False, "accelerator": "cpu"}
            smm.tl.scmag(mdata, n_clusters=2, batch_key="batch", layer=layer, **short)
        else:
            smm.pp.manifold_fit(mdata, batch_key="batch", layer=layer)

    run()
    asked = [record.getMessage() for record in caplog.records if "Were they not measured?" in record.getMessage()]
    assert len(asked) == 1
    assert asked[0].startswith("Modality 'prot': 20 of 60 cells, such as 'cell_0', have no count at all")
    exec(asked[0].partition("imputed:\n")[2], {"mdata": mdata})
    run()
    assert "Were they not measured?" not in caplog.text
    assert (mdata.obsmap["prot"] > 0).tolist() == [i % 3 != 0 for i in range(N)]
    assert mdata["prot"].layers["manifold"].shape[0] == 40
    pd.testing.assert_frame_equal(mdata.obs[obs.columns], obs)
    if whole_run:
        assert mdata.obs["scmag_measured"].tolist() == ["rna" if i % 3 == 0 else "rna+prot" for i in range(N)]


@pytest.mark.parametrize(("n_empty", "n_also_in_rna", "asks"), [(20, 0, True), (19, 0, False), (20, 1, False)])
def test_few_rows_of_zeros_and_cells_without_any_count_are_not_asked_about(
    mdata: MuData, n_empty: int, n_also_in_rna: int, asks: bool, caplog: pytest.LogCaptureFixture
) -> None:
    for name, n in (("prot", n_empty), ("rna", n_also_in_rna)):
        x = mdata[name].X.toarray()
        x[:n] = 0
        mdata[name].X = sp.csr_matrix(x)
    smm.pp.manifold_fit(mdata)
    assert ("Were they not measured?" in caplog.text) == asks


@pytest.mark.parametrize(("n_empty", "asks"), [(50, True), (49, False)])
def test_rows_of_zeros_below_a_twentieth_are_not_asked_about(
    n_empty: int, asks: bool, caplog: pytest.LogCaptureFixture
) -> None:
    cells = pd.DataFrame(index=[f"cell_{i}" for i in range(1000)])
    counts = {name: np.ones((1000, 2), dtype=np.float32) for name in ("rna", "prot")}
    counts["prot"][:n_empty] = 0
    mdata = make_mudata({name: AnnData(x, obs=cells) for name, x in counts.items()})
    _mudata.warn_of_unmeasured(mdata, counts, dict.fromkeys(counts, np.arange(1000)), None)
    assert ("Were they not measured?" in caplog.text) == asks
