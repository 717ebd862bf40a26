"""What a query is mapped onto: a folder, a model, or the reference with its model."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mudata import MuData

from scmag_muon import _mudata
from scmag_muon.model import SCMAG
from scmag_muon.model._query_data import NO_REFERENCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scmag_muon.model._reference import Reference


def model_and_reference(
    reference: str | os.PathLike[str] | SCMAG | MuData, model: SCMAG | None, columns: Sequence[str], accelerator: str
) -> tuple[SCMAG, Reference]:
    """The model, and what it holds of its cells, with these columns of labels where they are of a MuData."""
    labels: dict[str, pd.Series] = {}
    if isinstance(reference, MuData):
        if model is None:
            raise ValueError(
                "A MuData holds no network. Give the model too, model=model, or a folder that model.save() wrote as `reference`."
            )
        labels = {column: _mudata.get_obs_column(reference, column, argument="labels") for column in columns}
    elif model is not None:
        raise ValueError("`model` goes with a reference that is a MuData; a folder or a model is complete.")
    elif isinstance(reference, SCMAG):
        model = reference
    elif isinstance(reference, (str, os.PathLike)):
        model = SCMAG.load(reference, adata=False, accelerator=accelerator)
    else:
        raise TypeError(
            f"`reference` must be the folder of a saved model, a model or a MuData, got {type(reference).__name__}."
        )
    if not isinstance(model, SCMAG):
        raise TypeError(f"`model` must be a scmag_muon.model.SCMAG, got {type(model).__name__}.")
    found = model.reference
    if found is None:
        raise ValueError(NO_REFERENCE)
    return model, found.with_labels(pd.DataFrame(labels)) if labels else found


def map_of(reference: Any, basis: str, of_cells: Reference) -> np.ndarray:
    """A map of the reference's cells in the order of its fit."""
    if not isinstance(reference, MuData):
        raise ValueError(
            f"basis={basis!r} needs the reference as its MuData, which has the map: map_query(mdata, reference, model=model)."
        )
    if basis not in reference.obsm:
        raise KeyError(
            f"basis={basis!r} is no map of the reference, which has {sorted(set(reference.obsm) - set(reference.mod))}."
        )
    rows = reference.obs_names.get_indexer(of_cells.obs.index)
    if (rows < 0).any():
        raise ValueError(f"{int((rows < 0).sum())} of the model's cells are not in the reference's MuData.")
    return np.asarray(reference.obsm[basis], dtype=np.float32)[rows, :2]
