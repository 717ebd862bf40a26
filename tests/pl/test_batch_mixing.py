from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import scmag_muon as smm

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData


def test_both_states_with_their_figures(finished: MuData, looks_right: Callable[[Any, str], None]) -> None:
    table = pd.DataFrame({"mixing": [0.1, 0.9], "ilisi": [0.2, 0.8]}, index=["before", "after"])
    finished.uns["scmag_batch_mixing"] = {"table": table, "params": {"batch_key": "batch"}}
    finished.obsm["X_scmag_batch_mixing_before"] = np.asarray(finished.obsm["X_umap"]) + 1
    finished.obsm["X_scmag_batch_mixing_after"] = np.asarray(finished.obsm["X_umap"])
    axes = smm.pl.batch_mixing(finished)
    assert [ax.get_title(loc="left") for ax in axes] == [
        "before: mixing 0.10, iLISI 0.20",
        "after: mixing 0.90, iLISI 0.80",
    ]
    for ax, state in zip(axes, ("before", "after"), strict=True):
        points = ax.collections[0]
        xy = np.asarray(finished.obsm[f"X_scmag_batch_mixing_{state}"])
        np.testing.assert_allclose(np.sort(points.get_offsets(), axis=0), np.sort(xy, axis=0))
    colors = {tuple(color) for color in axes[0].collections[0].get_facecolors()}
    assert len(colors) == 2
    assert [text.get_text() for text in axes[1].get_legend().get_texts()] == ["a", "b"]
    looks_right(axes, "batch_mixing")


def test_errors(finished: MuData) -> None:
    with pytest.raises(
        KeyError, match=r"No table in mdata.uns\['scmag_batch_mixing'\]. Run scmag_muon.tl.batch_mixing"
    ):
        smm.pl.batch_mixing(finished)
