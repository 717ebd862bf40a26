"""What was made from an earlier run under the same name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scanpy as sc

import scmag_muon as smm
from scmag_muon import _fingerprint
from scmag_muon.tl._derived import forget_derived, older_maps, renew_markers, same_run

if TYPE_CHECKING:
    import pytest
    from mudata import MuData


def test_all_that_rests_on_the_clusters_goes_and_nothing_else(
    finished: MuData, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="scmag_muon")
    finished.uns["scmag_colors"] = np.array(["red", "green", "blue", "black"])
    finished.uns["cell_type_colors"] = np.array(["red", "green", "blue", "black"])
    finished.uns["paga"] = {"groups": "scmag"}
    finished.obsp["mine"] = finished.obsp["distances"].copy()
    finished.obsm["X_mine"] = np.zeros((180, 2))
    smm.tl.markers(finished)
    smm.tl.markers(finished, key_added="my_markers")
    smm.tl.markers(finished, groupby="cell_type", key_added="of_types")
    smm.tl.trajectory(finished, root="0")
    sc.pp.neighbors(finished, use_rep="X_umap", key_added="other", transformer="sklearn", method="gauss")
    maps = older_maps(finished, "scmag")
    tables = forget_derived(finished, "scmag")
    assert sorted(finished.uns) == ["cell_type_colors", "of_types", "other", "scmag"]
    assert list(finished.obs) == ["cell_type", "batch", "scmag", "scmag_confidence", "scmag_q", "scmag_entropy"]
    assert sorted(finished.obsp) == ["mine", "other_connectivities", "other_distances"]
    assert {"X_umap", "X_mine", "X_scmag"} <= set(finished.obsm)
    # drawn from neighbours in the space of the run, as far as can be told
    assert maps == {"X_umap": _fingerprint.of_rows(finished.obsm["X_umap"], finished.obs_names)}
    assert "Deleted, as made from the earlier run 'scmag': " in caplog.text
    assert "uns['my_markers']" in caplog.text
    assert sorted(tables) == ["my_markers", "scmag_markers"]
    assert forget_derived(finished, "scmag") == {}


def test_tables_of_markers_are_renewed_as_they_were_made(finished: MuData, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="scmag_muon")
    smm.tl.markers(finished)
    smm.tl.markers(finished, modalities=["prot"], groups=["0", "1"], key_added="two")
    smm.tl.markers(finished, groups=["3"], reference="0")
    tables = forget_derived(finished, "scmag")
    finished.obs["scmag"] = pd.Categorical(np.where(finished.obs["scmag"] == "3", "1", finished.obs["scmag"]))
    renew_markers(finished, tables)
    assert "scmag_markers_3_vs_0" not in finished.uns
    assert "uns['scmag_markers_3_vs_0'] can't be made anew: No group '3'" in caplog.text
    assert "uns['scmag_markers'] is made anew" in caplog.text
    renewed = {name: finished.uns.pop(name)["table"] for name in ("scmag_markers", "two")}
    pd.testing.assert_frame_equal(renewed["scmag_markers"], smm.tl.markers(finished))
    pd.testing.assert_frame_equal(renewed["two"], smm.tl.markers(finished, modalities=["prot"], groups=["0", "1"]))


def test_tables_of_an_earlier_release_go_by_their_names(finished: MuData) -> None:
    smm.tl.markers(finished)
    for part in ("format", "verb", "key", "made_from"):
        finished.uns["scmag_markers"].pop(part, None)
    forget_derived(finished, "scmag")
    assert "scmag_markers" not in finished.uns


def test_the_same_run_again_leaves_them(finished: MuData) -> None:
    labels = _fingerprint.of_labels(finished.obs_names, finished.obs["scmag"])
    latent = finished.obsm["X_scmag"]
    assert same_run(finished, "scmag", labels, latent * np.float32(1 + 1e-6))
    assert not same_run(finished, "scmag", labels, latent + 0.01)
    assert not same_run(finished, "other", labels, latent)
    finished.obs["scmag"] = finished.obs["scmag"].cat.rename_categories({"0": "T cells"})
    assert not same_run(finished, "scmag", labels, latent)
