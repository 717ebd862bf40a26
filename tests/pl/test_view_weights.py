from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import scmag_muon as smm

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData


def test_view_weights(finished: MuData, looks_right: Callable[[Any, str], None]) -> None:
    axes = smm.pl.view_weights(finished)
    record = finished["rna"].uns["manifold"]
    names = [label.get_text().replace("\n", "_") for label in axes[0].get_xticklabels()]
    heights = [bar.get_height() for bar in axes[0].containers[0]]
    assert dict(zip(names, heights, strict=True)) == pytest.approx(dict(record["view_weights"]))
    shown = [[bar.get_height() for bar in bars] for bars in axes[1].containers]
    assert shown == [[0.8, 0.3], [0.6, 0.05]]
    assert [text.get_text() for text in axes[0].figure.legends[0].get_texts()] == ["rna", "prot"]
    looks_right(axes, "view_weights")


def test_what_is_missing_is_named(citeseq: MuData) -> None:
    citeseq.obs["scmag"] = citeseq.obs["cell_type"]
    with pytest.raises(KeyError, match="Run scmag_muon.pp.manifold_fit"):
        smm.pl.view_weights(citeseq)
