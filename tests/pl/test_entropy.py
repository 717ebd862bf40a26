from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import scmag_muon as smm

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData


def test_entropy(finished: MuData, looks_right: Callable[[Any, str], None]) -> None:
    ax = smm.pl.entropy(finished)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "1", "2", "3"]
    means = finished.obs.groupby("scmag", observed=True)["scmag_entropy"].mean()
    drawn = [line.get_ydata()[0] for line in ax.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(drawn, means)
    share = (finished.obs["scmag_entropy"] > 0.1).mean()
    assert ax.get_title(loc="left") == f"{share:.1%} of the cells above 0.1 nats"
    looks_right(ax, "entropy")


def test_what_is_missing_is_named(citeseq: MuData) -> None:
    citeseq.obs["scmag"] = citeseq.obs["cell_type"]
    with pytest.raises(KeyError, match="Run scmag_muon.tl.scmag"):
        smm.pl.entropy(citeseq)
