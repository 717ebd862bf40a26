"""Labels that rows about results share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from mudata import MuData


def one_cell_cluster(mdata: MuData) -> None:
    """Labels of which one has a single cell."""
    mdata.obs["mine"] = ["alone", *["rest"] * (mdata.n_obs - 1)]


def with_a_gap(mdata: MuData) -> None:
    """Labels that the first cell lacks."""
    mdata.obs["mine"] = pd.Categorical([None, *(["a", "b"] * mdata.n_obs)[: mdata.n_obs - 1]])


def odd_labels(mdata: MuData) -> None:
    """Labels with markup in them."""
    names = np.array(["T/NK $x_1$", "<b>B</b>", "{é}" * 60, "\\frac"], dtype=object)
    mdata.obs["mine"] = pd.Categorical(names[np.arange(mdata.n_obs) % 4])
