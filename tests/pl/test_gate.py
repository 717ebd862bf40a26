from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import scmag_muon as smm

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData


def test_gate(finished: MuData, looks_right: Callable[[Any, str], None]) -> None:
    ax = smm.pl.gate(finished)
    gate = finished.uns["scmag"]["gate"]
    np.testing.assert_allclose(ax.images[0].get_array(), gate)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0", "1", "2", "3"]
    texts = [text.get_text() for text in ax.texts]
    assert {"rna", "prot"} <= set(texts)
    row = gate.iloc[3].to_numpy()
    assert f"{row[:16].mean():.2f}   {row[16:].mean():.2f}" in texts
    looks_right(ax, "gate")


def test_what_is_missing_is_named(citeseq: MuData) -> None:
    citeseq.obs["scmag"] = citeseq.obs["cell_type"]
    with pytest.raises(KeyError, match="Run scmag_muon.tl.scmag"):
        smm.pl.gate(citeseq)
