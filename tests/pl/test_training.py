from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import scmag_muon as smm

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData


@pytest.fixture
def trained(citeseq: MuData) -> MuData:
    stage = np.repeat([1.0, 2.0, 3.0], [6, 4, 5])
    history = pd.DataFrame(
        {
            "reconstruction_rna": np.linspace(9, 5, 15),
            "kl": np.linspace(2, 1, 15),
            "label_change": np.where(stage == 3, 0.1, np.nan),
            "loss": 1.0,
            "validation_loss": 1.0,
            "stage": stage,
        }
    )
    citeseq.uns["scmag"] = {"history": history}
    return citeseq


def test_a_panel_for_each_term_with_the_switches_marked(
    trained: MuData, looks_right: Callable[[Any, str], None]
) -> None:
    axes = smm.pl.training(trained)
    titles = [ax.get_title(loc="left") for ax in axes]
    assert titles == ["reconstruction loss, rna", "KL divergence", "share of cells that changed cluster"]
    for ax, column in zip(axes, ("reconstruction_rna", "kl", "label_change"), strict=True):
        curve, *switches = ax.lines
        np.testing.assert_array_equal(curve.get_xdata(), np.arange(1, 16))
        np.testing.assert_array_equal(curve.get_ydata(), trained.uns["scmag"]["history"][column])
        assert [line.get_xdata()[0] for line in switches] == [6.5, 10.5]
    assert [text.get_text() for text in axes[0].texts] == ["reconstruction", "+ KL", "+ clustering"]
    looks_right(axes, "training")


def test_short_stages_are_named_by_their_number(trained: MuData) -> None:
    trained.uns["scmag"]["history"]["stage"] = np.repeat([1.0, 2.0, 3.0], [13, 1, 1])
    axes = smm.pl.training(trained)
    assert [text.get_text() for text in axes[0].texts] == ["reconstruction", "+ KL", "3"]


def test_no_history(citeseq: MuData) -> None:
    with pytest.raises(KeyError, match=r"No history in mdata.uns\['scmag'\].*tl.scmag"):
        smm.pl.training(citeseq)
