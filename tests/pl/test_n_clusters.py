from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import scmag_muon as smm

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData


def test_n_clusters(citeseq: MuData, looks_right: Callable[[Any, str], None]) -> None:
    table = pd.DataFrame(
        {
            "resolution": [0.5, 1.0, 2.0],
            "n_clusters": [4, 5, 9],
            "fewest": [4, 4, 7],
            "most": [4, 6, 10],
            "stability": [1.0, 0.9, 0.6],
        }
    )
    citeseq.uns["n_clusters"] = {"table": table, "estimate": 5, "resolution": 1.0, "fewest": 4, "most": 10}
    ax = smm.pl.n_clusters(citeseq)
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_xydata(), table[["resolution", "n_clusters"]])
    assert [text.get_text() for text in ax.texts] == ["1.00", "0.90", "0.60"]
    assert ax.get_title(loc="left") == "5 clusters, at resolution 1; 4 to 10 in samples"
    looks_right(ax, "n_clusters")


def test_what_is_missing_is_named(citeseq: MuData) -> None:
    with pytest.raises(KeyError, match="Run scmag_muon.tl.n_clusters"):
        smm.pl.n_clusters(citeseq)
