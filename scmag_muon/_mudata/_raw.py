"""Whether values are raw counts: in range, integers, or with decimals that may be taken off."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import scipy.sparse as sp

from scmag_muon.manifold.scratch import ENTRIES_AT_A_TIME

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData

logger = logging.getLogger(__name__)

_MOST_EXACT = 2**24
"""Above this, single precision does not hold every integer."""
_MOST_LOG = 15.0
"""More than any logarithm of normalised counts: the logarithm of three million."""
_CELLS_LOOKED_AT = 500
_VALUES_LOOKED_AT = 1000
_STORED_LOOKED_AT = 100_000
_UNDO: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "squares": np.square,
    "expm1": np.expm1,
    "powers of 2, less 1,": lambda values: np.exp2(values) - 1,
}


def check_range(counts: sp.csr_array, adata: AnnData, where: str, *, modality: str, put_back: bool = False) -> None:
    """Raise where counts are negative, not finite or larger than single precision can hold."""
    low, high = counts.data.min(), counts.data.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        _refuse(
            counts, ~np.isfinite(counts.data), adata, f"{where} holds NaN or infinite values", "raw counts are needed."
        )
    if low < 0:
        _refuse(
            counts,
            counts.data < 0,
            adata,
            f"{where} holds negative values",
            f"raw counts are needed. {_advice(adata, modality, where if put_back else None)}",
        )
    if high > _MOST_EXACT:
        _refuse(
            counts,
            counts.data > _MOST_EXACT,
            adata,
            f"{where} holds values above 2**24",
            "no count of molecules or reads is as large, and single precision does not hold them exactly. "
            f"Raw counts are needed. {_advice(adata, modality, where if put_back else None)}",
        )


def _refuse(counts: sp.csr_array, wrong: np.ndarray, adata: AnnData, what: str, needed: str) -> NoReturn:
    raise ValueError(f"{what} ({_places(counts, wrong, adata)}); {needed}")


def _places(counts: sp.csr_array, wrong: np.ndarray, adata: AnnData) -> str:
    """How many values are wrong, and where the first of them stands."""
    at = np.flatnonzero(wrong)
    rows = np.searchsorted(counts.indptr, at, side="right") - 1
    cell, feature = adata.obs_names[rows[0]], adata.var_names[counts.indices[at[0]]]
    size = f"{len(at)} of {counts.nnz}" if len(at) < counts.nnz else f"all {counts.nnz}"
    return (
        f"{size} values that are not zero, in {len(np.unique(rows))} cells, the first {counts.data[at[0]]:.6g} in cell "
        f"{str(cell)!r}, feature {str(feature)!r}"
    )


def as_integers(
    counts: sp.csr_array,
    adata: AnnData,
    where: str,
    *,
    modality: str,
    rounding: str | None,
    put_back: bool = False,
) -> tuple[sp.csr_array, int]:
    """The counts as integers: as they are, or rounded where nothing but noise, or what the user agrees to, is lost; how many."""
    values = counts.data
    if _are_integers(values):
        return counts, 0
    nearest = np.rint(values)
    off = np.abs(values - nearest)
    wrong = off > np.clip(1e-5 * values, 1e-3, 0.1)
    if wrong.any():
        places = f"{where} holds values that are not integers ({_places(counts, wrong, adata)})"
        reason = _normalised(counts, wrong, off)
        if reason is not None:
            raise ValueError(
                f"{places}. They seem to be normalised already: {reason}; raw counts are needed. {_advice(adata, modality, where if put_back else None)}"
            )
        if rounding is not None:
            raise ValueError(f"{places}. They seem to be counts with decimals, {_source(wrong)}. {rounding}")
    else:
        logger.debug("%s: rounding noise of at most %.2g is taken off.", where, off.max())
    counts = sp.csr_array((nearest, counts.indices, counts.indptr), shape=counts.shape)
    if np.count_nonzero(nearest) < nearest.size:
        counts = counts.copy()
        counts.eliminate_zeros()
    return counts, int(wrong.sum())


def _are_integers(values: np.ndarray) -> bool:
    """Whether all are; of many values some are looked at at a time, so that no second array of their size is made."""
    parts = (values[start : start + ENTRIES_AT_A_TIME] for start in range(0, len(values), ENTRIES_AT_A_TIME))
    return all(np.array_equal(part, np.rint(part)) for part in parts)


def _source(wrong: np.ndarray) -> str:
    if wrong.mean() > 0.5:
        return "as ambient correction leaves them (SoupX, CellBender, DecontX)"
    return "as expectation maximisation leaves them (alevin, kallisto, RSEM, STARsolo) where reads fit several genes"


def _normalised(counts: sp.csr_array, wrong: np.ndarray, off: np.ndarray) -> str | None:
    """Why the values look normalised, or ``None`` if they look like counts with decimals."""
    some = counts.data[wrong][:_VALUES_LOOKED_AT].astype(np.float64)
    for words, undo in _UNDO.items():
        undone = undo(some[some < _MOST_LOG])
        if len(np.unique(undone)) > 2 and (np.abs(undone - np.rint(undone)) < np.minimum(1e-5 * undone, 0.01)).all():
            return f"{words} of them are integers"
    if wrong.mean() <= 0.5:
        return None
    step = max(1, counts.shape[0] // _CELLS_LOOKED_AT)
    rows = counts[::step]
    small = counts.data.max() < _MOST_LOG
    if _equal_totals(rows):
        return "every cell has the same total"
    if small and _equal_totals(sp.csr_array((np.expm1(rows.data), rows.indices, rows.indptr), shape=rows.shape)):
        return "expm1 of them gives every cell the same total"
    if _repeats(rows):
        return "cells hold few distinct values, as scaled or log-transformed counts do"
    if small and np.median(off[wrong]) > 0.1:
        return f"the largest is {counts.data.max():.3g}, as of logarithms"
    return None


def _equal_totals(rows: sp.csr_array) -> bool:
    totals = np.asarray(rows.sum(axis=1, dtype=np.float64)).ravel()
    totals = totals[totals > 0]
    return len(totals) > 1 and bool(totals.std() < 1e-3 * totals.mean())


def _repeats(rows: sp.csr_array) -> bool:
    """Whether the decimals of a cell come from a few integers: equal counts stay equal when a cell is scaled."""
    shares = []
    for start, stop in zip(rows.indptr[:-1], rows.indptr[1:], strict=True):
        values = rows.data[start:stop]
        values = values[values != np.rint(values)]
        if len(values) >= 10:
            shares.append(len(np.unique(values.astype(np.float32))) / len(values))
    return bool(shares) and float(np.median(shares)) < 0.7


def _advice(adata: AnnData, modality: str, put_back: str | None) -> str:
    """Where counts lie, in a layer or in ``.raw``, and how to use them."""
    place = f"mdata[{modality!r}]"
    layer = next((str(name) for name, of in adata.layers.items() if name is not None and _look_like_counts(of)), None)
    if layer is not None:
        if put_back is not None:
            return f"Put them back: {put_back} = {place}.layers[{layer!r}].copy()."
        return f"Name their layer, for example layer={{{modality!r}: {layer!r}}} (--layer {modality}={layer} on the command line)."
    raw = adata.raw
    if raw is not None and _look_like_counts(raw.X) and adata.var_names.isin(raw.var_names).all():
        target = f"{place}.layers['counts']" if put_back is None else put_back
        name = "" if put_back is not None else f", and name that layer with layer={{{modality!r}: 'counts'}}"
        return f"They are in .raw: take them from there with {target} = {place}.raw[:, {place}.var_names].X{name}."
    what = "Name their layer with layer=" if put_back is None else f"Put them into {put_back}"
    return f"{what}, or read the counts again: normalisation can't be undone safely."


def _look_like_counts(values: Any) -> bool:
    """Whether the first of the stored values are integers."""
    stored = values.data if sp.issparse(values) else values
    if not isinstance(stored, np.ndarray) or stored.dtype.kind not in "uif" or not stored.size:
        return False
    some = stored.ravel()[:_STORED_LOOKED_AT]
    return bool(some.any() and (some >= 0).all() and np.array_equal(some, np.rint(some)))
