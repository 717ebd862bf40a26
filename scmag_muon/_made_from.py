"""What a result was made from, noted when it is written and compared when it is read."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scmag_muon import _fingerprint, _mudata

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mudata import MuData

logger = logging.getLogger(__name__)

_EDGES = 200
_OTHER_CELLS = "it is of other cells"
_TOLERANCE = 1e-3


def made_from(
    mdata: MuData,
    *,
    obs: Iterable[str | None] = (),
    obsm: Iterable[str] = (),
    tables: Iterable[str] = (),
    counts: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """Fingerprints of the cells, of columns, of spaces, of tables in ``uns``, and of counts (a layer for each modality)."""
    return {
        "cells": _fingerprint.of_cells(mdata.obs_names),
        "obs": {column: _of_column(mdata, column) for column in obs if column is not None},
        "obsm": {slot: _fingerprint.of_rows(mdata.obsm[slot], mdata.obs_names) for slot in obsm},
        "tables": {slot: _fingerprint.of_table(mdata.uns[slot]["table"]) for slot in tables},
        "counts": {name: of_counts(mdata, name, layer) for name, layer in (counts or {}).items()},
        "layers": {name: layer for name, layer in (counts or {}).items() if layer is not None},
    }


def differences(mdata: MuData, record: Any, *, counts: bool = False) -> list[str]:
    """What has changed since a record was written, in words; nothing is known of records without fingerprints.

    Where cells were taken out or added, that alone is told. Counts are compared on request, for that takes as long as reading
    them.
    """
    noted = record.get("made_from") if isinstance(record, Mapping) else None
    if not noted:
        return []
    if str(noted["cells"]) != _fingerprint.of_cells(mdata.obs_names):
        return [f"{_OTHER_CELLS} ({_fingerprint.n_cells(str(noted['cells']))} then, {mdata.n_obs} now)"]
    found = []
    for column, before in noted.get("obs", {}).items():
        if _or_none(_of_column, mdata, column) != before:
            found.append(f"obs[{column!r}] has changed")
    for slot, before in noted.get("obsm", {}).items():
        if slot not in mdata.obsm or _fingerprint.of_rows(mdata.obsm[slot], mdata.obs_names) != before:
            found.append(f"obsm[{slot!r}] has changed")
    for slot, before in noted.get("tables", {}).items():
        if slot not in mdata.uns or _fingerprint.of_table(mdata.uns[slot]["table"]) != before:
            found.append(f"uns[{slot!r}] has changed")
    if counts:
        layers = noted.get("layers", {})
        for name, before in noted.get("counts", {}).items():
            if _or_none(of_counts, mdata, name, layers.get(name)) != before:
                found.append(f"the counts of {name!r} have changed")
    return found


def check_current(mdata: MuData, slot: str, verb: str) -> None:
    """Raise where ``uns[slot]`` is of other clusters or values than those that are there; warn where it is of other cells."""
    reasons = differences(mdata, mdata.uns[slot])
    if len(reasons) == 1 and reasons[0].startswith(_OTHER_CELLS):
        logger.warning("mdata.uns[%r]: %s. To renew it, run %s.", slot, reasons[0], verb)
    elif reasons:
        raise ValueError(f"mdata.uns[{slot!r}] is out of date: {'; '.join(reasons)}. Run {verb}.")


def dendrogram_is_of(tree: Any, labels: pd.Series, space: np.ndarray | None) -> bool:
    """Whether scanpy's dendrogram is of these groups, and in this space where one is given, as far as it can be told."""
    names = list(map(str, labels.cat.categories))
    if sorted(map(str, tree["categories_ordered"])) != sorted(names):
        return False
    if (
        space is None
        or str(tree.get("cor_method", "pearson")) != "pearson"
        or "correlation_matrix" not in tree
        or len(names) < 2
    ):
        return True
    means = pd.DataFrame(np.asarray(space)).groupby(labels.to_numpy(), observed=True).mean().loc[labels.cat.categories]
    here, before = means.T.corr().to_numpy(), np.asarray(tree["correlation_matrix"], dtype=float)
    return here.shape == before.shape and bool(np.allclose(here, before, atol=_TOLERANCE, equal_nan=True))


def neighbors_are_of(distances: sp.spmatrix, space: np.ndarray) -> bool:
    """Whether a graph of Euclidean distances was made in this space, by some of its edges."""
    edges = sp.coo_array(distances)
    chosen = np.linspace(0, edges.nnz - 1, min(_EDGES, edges.nnz)).astype(int)
    rows, columns = edges.coords[0][chosen], edges.coords[1][chosen]
    here = np.linalg.norm(np.asarray(space, dtype=np.float64)[rows] - np.asarray(space)[columns], axis=1)
    scale = max(float(here.max(initial=0.0)), 1e-12)
    same = np.isclose(here, edges.data[chosen], rtol=_TOLERANCE, atol=_TOLERANCE * scale)
    return edges.nnz == 0 or bool(same.mean() > 0.5)  # some may have been edited by hand


def _of_column(mdata: MuData, column: str) -> str:
    return _fingerprint.of_labels(mdata.obs_names, _mudata.get_obs_column(mdata, column, argument="column"))


def of_counts(mdata: MuData, modality: str, layer: str | None) -> str:
    """Fingerprint of a modality's counts, read by blocks of cells where they lie in a file."""
    adata = mdata.mod[modality]
    blocks = _mudata.count_blocks(adata, modality=modality, layer=layer, round_counts=True)
    return _fingerprint.of_parts(
        [_fingerprint.of_counts(counts, adata.obs_names[rows], adata.var_names) for rows, counts in blocks]
    )


def _or_none(function: Any, *arguments: Any) -> str | None:
    try:
        return str(function(*arguments))
    except (KeyError, ValueError):
        return None
