from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import mudata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

import scmag_muon as smm

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData


@pytest.fixture
def path(finished: MuData) -> MuData:
    """All cells on one line, in the order of their rows."""
    line = np.zeros((finished.n_obs, 32), dtype=np.float32)
    line[:, 0] = np.arange(finished.n_obs)
    finished.obsm["X_scmag"] = line
    sc.pp.neighbors(finished, use_rep="X_scmag", transformer="sklearn", method="gauss")
    return finished


def test_pseudotime_follows_the_path(path: MuData) -> None:
    smm.tl.trajectory(path, root="cell0")
    pseudotime = path.obs["scmag_pseudotime"]
    assert pseudotime.iloc[0] == 0
    assert pseudotime.max() == 1
    assert (np.diff(pseudotime) > 0).mean() > 0.95
    connectivities = path.uns["scmag_trajectory"]["connectivities"]
    # clusters lie one after the other, so only neighbours are connected
    strength = connectivities.to_numpy()
    assert (strength[[0, 1, 2], [1, 2, 3]] > 0).all()
    assert strength[[0, 0, 1], [2, 3, 3]].max() == 0


def test_equals_scanpy(finished: MuData) -> None:
    smm.tl.trajectory(finished, root="cell3")
    theirs = finished.copy()
    theirs.uns["iroot"] = 3
    sc.tl.paga(theirs, groups="scmag")
    sc.tl.diffmap(theirs, n_comps=11)
    sc.tl.dpt(theirs)
    found = finished.uns["scmag_trajectory"]["connectivities"]
    np.testing.assert_allclose(found, theirs.uns["paga"]["connectivities"].toarray())
    expected = theirs.obs["dpt_pseudotime"].to_numpy()
    ours = finished.obs["scmag_pseudotime"].to_numpy()
    np.testing.assert_allclose(ours, np.where(np.isfinite(expected), expected, np.nan), rtol=1e-4, atol=1e-5)


def test_a_cluster_starts_at_its_middle(path: MuData) -> None:
    smm.tl.trajectory(path, root="1")
    assert path.uns["scmag_trajectory"]["root_cell"] == "cell94"
    assert path.obs["scmag_pseudotime"].idxmin() == "cell94"


def test_cells_apart_are_missing(finished: MuData, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    for slot in ("connectivities", "distances"):
        graph = sp.lil_matrix(finished.obsp[slot])
        graph[:20] = 0
        graph[:, :20] = 0
        graph[:20, :20] = np.ones((20, 20)) - np.eye(20)
        finished.obsp[slot] = sp.csr_matrix(graph)
    with caplog.at_level(logging.WARNING):
        smm.tl.trajectory(finished, root="cell100")
    assert "cells are not connected with the root" in caplog.text
    assert finished.obs["scmag_pseudotime"].iloc[:20].isna().all()
    assert np.nanmax(finished.obs["scmag_pseudotime"]) == 1
    finished.write_h5mu(tmp_path / "out.h5mu")
    back = mudata.read_h5mu(tmp_path / "out.h5mu")
    pd.testing.assert_frame_equal(
        back.uns["scmag_trajectory"]["connectivities"], finished.uns["scmag_trajectory"]["connectivities"]
    )


def test_names_that_files_can_not_hold(path: MuData, tmp_path: Path) -> None:
    path.obs["scmag"] = path.obs["scmag"].cat.rename_categories({"0": "T/NK", "1": "_index"})
    smm.tl.trajectory(path, root="T/NK")
    path.write_zarr(tmp_path / "out.zarr")
    assert list(path.uns["scmag_trajectory"]["connectivities"].index[-2:]) == ["T/NK", "_index"]
    path.obsm["X_umap"] = path.obsm["X_scmag"][:, :2]
    path.uns["scmag_trajectory"]["connectivities"].iloc[:, :] = 1.0
    axes = smm.pl.trajectory(path)
    n_groups = path.obs["scmag"].nunique()
    assert len(axes[0].lines) == n_groups * (n_groups - 1) // 2


def test_numbers_are_printed_as_before(path: MuData) -> None:
    with np.printoptions(precision=3):
        smm.tl.trajectory(path, root="0")
        assert np.get_printoptions()["precision"] == 3


def test_other_neighbors_are_told(finished: MuData, caplog: pytest.LogCaptureFixture) -> None:
    finished.obsm["X_other"] = np.asarray(finished.obsm["X_scmag"])
    sc.pp.neighbors(finished, use_rep="X_other", transformer="sklearn", method="gauss", key_added="other")
    with caplog.at_level(logging.WARNING):
        smm.tl.trajectory(finished, root="0", neighbors_key="other")
    assert "are those of X_other, not of X_scmag" in caplog.text


def test_errors(finished: MuData) -> None:
    with pytest.raises(ValueError, match="root='stem' is neither a cell nor one of the groups"):
        smm.tl.trajectory(finished, root="stem")
    with pytest.raises(KeyError, match=r"No neighbours in mdata.uns\['wnn'\].*scanpy.pp.neighbors.*use_rep='X_scmag'"):
        smm.tl.trajectory(finished, root="0", neighbors_key="wnn")
    del finished.obsm["X_scmag"]
    with pytest.raises(KeyError, match=r"No clustering space mdata.obsm\['X_scmag'\]"):
        smm.tl.trajectory(finished, root="0")


def test_what_is_not_from_an_earlier_trajectory_stays(path: MuData) -> None:
    path.obs["scmag_pseudotime"] = 7.0
    with pytest.raises(ValueError, match=r"mdata.obs\['scmag_pseudotime'\] is there already and not from an earlier"):
        smm.tl.trajectory(path, root="0")
    del path.obs["scmag_pseudotime"]
    path.uns["scmag_trajectory"] = {"mine": 1}
    with pytest.raises(ValueError, match=r"mdata.uns\['scmag_trajectory'\] is there already"):
        smm.tl.trajectory(path, root="0")
    assert path.uns["scmag_trajectory"] == {"mine": 1}
    assert "scmag_pseudotime" not in path.obs
    del path.uns["scmag_trajectory"]
    smm.tl.trajectory(path, root="0")
    smm.tl.trajectory(path, root="1")  # its own earlier result
