from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import scmag_muon as smm

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData


def test_enrichment(finished: MuData, looks_right: Callable[[Any, str], None]) -> None:
    rows = [("0", "GO: a", 0.5, 1e-6), ("0", "GO: b", 0.2, 0.01), ("1", "GO: b", 1.0, 1e-30), ("2", "GO: c", 0.1, 0.9)]
    table = pd.DataFrame(rows, columns=["cluster", "gene_set", "share", "p_adjusted"]).assign(
        p=lambda t: t["p_adjusted"]
    )
    finished.uns["scmag_enrichment"] = {"table": table}
    ax = smm.pl.enrichment(finished)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "1"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["GO: a", "GO: b"]
    points = ax.collections[0]
    drawn = {
        tuple(map(int, place)): color for place, color in zip(points.get_offsets(), points.get_array(), strict=True)
    }
    assert drawn == pytest.approx({(0, 0): 6, (0, 1): 2, (1, 1): 20})
    sizes = dict(zip(map(tuple, points.get_offsets().astype(int)), points.get_sizes(), strict=True))
    assert sizes[1, 1] / sizes[0, 0] == pytest.approx(2)
    looks_right(ax, "enrichment")
    with pytest.raises(ValueError, match="holds no gene set with an adjusted p of at most 1e-50"):
        smm.pl.enrichment(finished, max_p_adjusted=1e-50)


def test_what_is_missing_is_named(citeseq: MuData) -> None:
    citeseq.obs["scmag"] = citeseq.obs["cell_type"]
    with pytest.raises(KeyError, match="Run scmag_muon.tl.enrichment"):
        smm.pl.enrichment(citeseq)
