"""Cells that are to be mapped onto a reference: their counts, features matched by name."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scmag_muon._mudata._cells import check_mudata, get_batches
from scmag_muon._mudata._counts import check_layer, get_counts, layer_of
from scmag_muon._mudata._pairing import check_modalities, check_none_lacks_all

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData

    from scmag_muon.manifold.fit import ManifoldFit

logger = logging.getLogger(__name__)

FEWEST_SHARED = 0.25
MOST_CATEGORIES = 1000


@dataclass(frozen=True)
class Query:
    """Counts of the fit's features, and which cells have what.

    Parameters
    ----------
    obs_names
        Names of the cells.
    counts
        For each modality of the fit that is there, raw counts of the cells that have it in the order of ``obs_names``, CSR,
        ``(n_with_it, n_vars)``; zeros in the columns of features that were not measured.
    present
        Which modalities of the fit each cell has, bool, ``(n_obs, n_modalities)``.
    measured
        For each modality that is there which of the fit's features were measured, bool, ``(n_vars,)``.
    batches
        Batch of each cell, text, ``(n_obs,)``; ``None`` where none are told apart.
    """

    obs_names: pd.Index
    counts: dict[str, sp.csr_array]
    present: np.ndarray
    measured: dict[str, np.ndarray]
    batches: np.ndarray | None


def read_query(
    mdata: MuData,
    fit: ManifoldFit,
    *,
    layer: str | Mapping[str, str | None] | None = None,
    round_counts: bool = False,
    batch_key: str | None = None,
) -> Query:
    """Read what mapping needs of a MuData, which is not written to.

    Raises
    ------
    ValueError
        Where no modality of the fit is there, one shares less than a quarter of its features, counts are no counts, or cells have
        none of the modalities.
    KeyError
        Where a layer or column is not there.
    TypeError
        Where ``mdata`` is no MuData.
    """
    check_mudata(mdata)
    if not mdata.n_obs:
        raise ValueError("The MuData has no cells.")
    names = [name for name in fit.names if name in mdata.mod and mdata.mod[name].n_obs]
    if not names:
        raise ValueError(
            f"The query has the modalities {list(mdata.mod)}, none of the reference's {list(fit.names)}. Modalities are found by "
            f"name: mdata = mudata.MuData({{{fit.names[0]!r}: mdata[{next(iter(mdata.mod))!r}]}})."
        )
    check_modalities(mdata, names)
    check_layer(mdata, layer, names)
    batches = get_batches(mdata, batch_key)
    counts, measured = {}, {}
    present = np.zeros((mdata.n_obs, len(fit.names)), dtype=bool)
    for name in names:
        adata = mdata.mod[name]
        rows = mdata.obs_names.get_indexer(adata.obs_names)
        if (rows < 0).any():
            raise ValueError(f"Cells of modality {name!r} were renamed after they were joined. Call mdata.update().")
        columns = adata.var_names.get_indexer(pd.Index(fit.modality(name).features))
        measured[name] = columns >= 0
        _check_shared(name, np.asarray(fit.modality(name).features), measured[name])
        values = get_counts(adata, modality=name, layer=layer_of(layer, name), round_counts=round_counts)
        counts[name] = _columns(values[np.argsort(rows)], columns)
        present[rows, fit.names.index(name)] = True
    check_none_lacks_all(mdata, ~np.asarray(present.any(axis=1)), fit.names, names)
    return Query(
        obs_names=mdata.obs_names,
        counts=counts,
        present=present,
        measured=measured,
        batches=None if batches is None else np.asarray(batches, dtype=object),
    )


def _columns(counts: sp.csr_array, columns: np.ndarray) -> sp.csr_array:
    """The columns asked for, zeros for -1."""
    there = np.flatnonzero(columns >= 0)
    chosen = sp.csr_array(counts[:, columns[there]])
    return sp.csr_array((chosen.data, there[chosen.indices], chosen.indptr), shape=(counts.shape[0], len(columns)))


def _check_shared(name: str, features: np.ndarray, measured: np.ndarray) -> None:
    if measured.all():
        return
    first = str(features[~measured][0])
    if measured.mean() < FEWEST_SHARED:
        raise ValueError(
            f"Modality {name!r} of the query shares {int(measured.sum())} of the reference's {len(features)} features, less than a "
            f"quarter; {first!r}, for one, is missing. Features are found by name: give both the same kind of names, for example "
            f"mdata[{name!r}].var_names = mdata[{name!r}].var['gene_ids']."
        )
    logger.warning(
        "Modality %r of the query lacks %d of the reference's %d features, among them %r. They are taken to be what the others "
        "let expect.",
        name,
        int((~measured).sum()),
        len(features),
        first,
    )


def text_columns(obs: pd.DataFrame) -> pd.DataFrame:
    """Columns of text, categories and booleans of no more than a thousand kinds, as text, ``None`` where missing."""
    found = {}
    for column in obs.columns[~obs.columns.duplicated(keep=False)]:
        values = obs[column]
        numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
        if numeric or not isinstance(column, str) or column.startswith("_scvi") or not _are_few(values):
            continue
        found[column] = np.where(values.isna(), None, values.astype(object).astype(str))
    return pd.DataFrame(found, index=obs.index, dtype=object)


def _are_few(values: pd.Series) -> bool:
    try:
        return bool(values.nunique() <= MOST_CATEGORIES)
    except TypeError:  # lists and the like, which are no labels
        return False
