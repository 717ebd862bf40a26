from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import scmag_muon as smm

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData


def test_edges_and_pseudotime(finished: MuData, looks_right: Callable[[Any, str], None]) -> None:
    smm.tl.trajectory(finished, root="0")
    finished.obs.loc["cell5", "scmag_pseudotime"] = np.nan
    table = finished.uns["scmag_trajectory"]["connectivities"]
    table.loc[:, :] = 0.0
    table.loc["0", "1"] = table.loc["1", "0"] = 0.8
    table.loc["2", "3"] = table.loc["3", "2"] = 0.2
    table.loc["0", "3"] = table.loc["3", "0"] = 0.05
    axes = smm.pl.trajectory(finished)
    labels = finished.obs["scmag"].astype(str).to_numpy()
    xy = np.asarray(finished.obsm["X_umap"])
    middles = {name: np.median(xy[labels == name], axis=0) for name in "0123"}
    edges = {tuple(map(tuple, np.round(line.get_xydata(), 6))): line.get_linewidth() for line in axes[0].lines}
    ends = {name: tuple(np.round(middle, 6)) for name, middle in middles.items()}
    assert edges.keys() == {(ends["0"], ends["1"]), (ends["2"], ends["3"])}
    assert edges[ends["0"], ends["1"]] > edges[ends["2"], ends["3"]]
    missing, points, root, _ = axes[1].collections
    np.testing.assert_allclose(missing.get_offsets(), xy[[5]])
    known = finished.obs["scmag_pseudotime"].dropna()
    np.testing.assert_allclose(np.sort(points.get_array()), np.sort(known))
    place = np.flatnonzero(finished.obs_names == finished.uns["scmag_trajectory"]["root_cell"])
    np.testing.assert_allclose(root.get_offsets(), xy[place])
    legend = [text.get_text() for text in axes[1].get_legend().get_texts()]
    assert legend == ["root", "not connected with the root"]
    looks_right(axes, "trajectory")


def test_clusters_and_root_may_have_been_taken_out(finished: MuData) -> None:
    smm.tl.trajectory(finished, root="0")
    table = finished.uns["scmag_trajectory"]["connectivities"]
    table.loc[:, :] = 0.8
    rest = finished[finished.obs["scmag"].isin(["1", "2"])].copy()
    axes = smm.pl.trajectory(rest)
    assert len(axes[0].lines) == 1
    assert axes[1].get_legend() is None


def test_errors(finished: MuData) -> None:
    with pytest.raises(KeyError, match=r"mdata.uns\['scmag_trajectory'\]. Run scmag_muon.tl.trajectory"):
        smm.pl.trajectory(finished)
