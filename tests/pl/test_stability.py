from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import scmag_muon as smm

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData


def test_stability(finished: MuData, looks_right: Callable[[Any, str], None]) -> None:
    table = pd.DataFrame({"1": [1, 0.9, 0.6, 0.3], "2": [0.9, 0.8, 0.5, 0.2]}, index=list("0123"))
    finished.uns["scmag_stability"] = {"table": table, "ari": pd.DataFrame({"ari": [0.9, 0.7]})}
    ax = smm.pl.stability(finished)
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], table.mean(axis=1))
    points = [tuple(np.asarray(each.get_offsets())[:, 1]) for each in ax.collections]
    assert points == [tuple(row) for row in table.to_numpy()]
    assert ax.get_title(loc="left") == "2 other seeds: mean ARI 0.80"
    looks_right(ax, "stability")


def test_what_is_missing_is_named(citeseq: MuData) -> None:
    citeseq.obs["scmag"] = citeseq.obs["cell_type"]
    with pytest.raises(KeyError, match="Run scmag_muon.tl.stability"):
        smm.pl.stability(citeseq)
