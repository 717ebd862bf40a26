from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import scmag_muon as smm
from scmag_muon._made_from import made_from

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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
    assert axes[2].get_ylim()[0] == 0
    assert [text.get_text() for text in axes[0].texts] == ["reconstruction", "+ KL", "+ clustering"]
    looks_right(axes, "training")


def test_short_stages_are_named_by_their_number(trained: MuData) -> None:
    trained.uns["scmag"]["history"]["stage"] = np.repeat([1.0, 2.0, 3.0], [13, 1, 1])
    axes = smm.pl.training(trained)
    assert [text.get_text() for text in axes[0].texts] == ["reconstruction", "+ KL", "3"]


def test_no_history(citeseq: MuData) -> None:
    with pytest.raises(KeyError, match=r"No history in mdata.uns\['scmag'\].*tl.scmag"):
        smm.pl.training(citeseq)


def test_the_history_is_that_of_the_run_whatever_clusters_are_called(trained: MuData) -> None:
    trained.obs["scmag"] = "0"
    trained.uns["scmag"]["made_from"] = made_from(trained, obs=["scmag"])
    trained.obs["scmag"] = "T cells"
    assert len(smm.pl.training(trained)) == 3


def test_a_link_to_data_is_not_drawn_over(trained: MuData, tmp_path: Path) -> None:
    data, link = tmp_path / "cells.h5mu", tmp_path / "picture.png"
    data.write_text("mine")
    link.symlink_to(data)
    with pytest.raises(ValueError, match="is a link to .*cells.h5mu', which is no picture"):
        smm.pl.training(trained, save=link)
    assert data.read_text() == "mine"
