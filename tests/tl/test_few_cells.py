"""Downstream verbs where there is little to work with: the right result or an error that names the cause."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scanpy as sc

import scmag_muon as smm
from scmag_muon._mudata import make_mudata

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData


def only(mdata: MuData, rows: np.ndarray) -> MuData:
    few = mdata[rows].copy()
    for slot in [*few.uns]:
        if slot != "scmag":
            del few.uns[slot]
    for slot in [*few.obsp]:
        del few.obsp[slot]
    return few


@pytest.fixture
def cells(finished: MuData, request: pytest.FixtureRequest) -> MuData:
    return only(finished, np.random.default_rng(0).permutation(180)[: request.param])


@pytest.mark.parametrize("finished", ["in memory"], indirect=True)
@pytest.mark.parametrize("cells", [1, 2, 3, 5], indirect=True)
def test_a_report_of_very_few_cells(cells: MuData, tmp_path: Path) -> None:
    text = smm.report(cells, tmp_path / "r.html", labels="cell_type").read_text(encoding="utf-8")
    plt.close("all")
    assert f"There are only {cells.n_obs} cells" in text
    assert "it is of other cells (180 then" not in text


@pytest.mark.parametrize("finished", ["in memory"], indirect=True)
@pytest.mark.parametrize("cells", [2], indirect=True)
def test_markers_need_two_cells_of_a_group(cells: MuData) -> None:
    with pytest.raises(ValueError, match="No group of 'scmag' to rank features for has two cells or more"):
        smm.tl.markers(cells)


@pytest.mark.parametrize("finished", ["in memory"], indirect=True)
@pytest.mark.parametrize("cells", [3], indirect=True)
def test_a_trajectory_needs_four_cells(cells: MuData) -> None:
    with pytest.raises(ValueError, match="A trajectory needs 4 cells or more, there are 3"):
        smm.tl.trajectory(cells, root="0")


@pytest.mark.parametrize("finished", ["in memory"], indirect=True)
def test_a_trajectory_of_one_cluster(finished: MuData) -> None:
    one = only(finished, np.arange(60))
    sc.pp.neighbors(one, use_rep="X_scmag", transformer="sklearn", method="gauss")
    smm.tl.trajectory(one, root="0")
    assert one.uns["scmag_trajectory"]["connectivities"].to_numpy().tolist() == [[0.0]]
    assert one.obs["scmag_pseudotime"].max() == 1


@pytest.mark.parametrize("finished", ["in memory"], indirect=True)
def test_one_protein(finished: MuData, tmp_path: Path) -> None:
    one = make_mudata({"rna": finished["rna"], "prot": finished["prot"][:, :1].copy()}, finished.obs)
    for slot in ("X_scmag", "X_umap"):
        one.obsm[slot] = finished.obsm[slot]
    one.uns["scmag"] = finished.uns["scmag"]
    table = smm.tl.batch_mixing(one)
    assert table.loc["after", "mixing"] == pytest.approx(1, abs=0.2)
    assert "p0" in smm.report(one, tmp_path / "r.html").read_text(encoding="utf-8")
    plt.close("all")
