from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import scmag_muon as smm

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData


def test_held_out_markers(finished: MuData, looks_right: Callable[[Any, str], None]) -> None:
    table = pd.DataFrame(
        {
            "label": ["T", "B", "T"],
            "modality": ["rna", "rna", "prot"],
            "feature": ["a", "b", "c"],
            "raw": [0.7, 0.8, 0.95],
            "reconstructed": [0.9, 0.85, 0.94],
        }
    )
    table["gain"] = table["reconstructed"] - table["raw"]
    finished.uns["scmag_held_out"] = {"table": table}
    ax = smm.pl.held_out_markers(finished)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["rna: mean gain +0.125", "prot: mean gain -0.010"]
    drawn = np.concatenate([np.asarray(points.get_offsets()) for points in ax.collections])
    assert {tuple(point) for point in drawn} == {(0.95, 0.94), (0.7, 0.9), (0.8, 0.85)}
    looks_right(ax, "held_out_markers")


def test_what_is_missing_is_named(citeseq: MuData) -> None:
    citeseq.obs["scmag"] = citeseq.obs["cell_type"]
    with pytest.raises(KeyError, match="Run scmag_muon.tl.held_out_markers"):
        smm.pl.held_out_markers(citeseq)
