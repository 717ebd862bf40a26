"""The fitted layer of a modality, or its rows by request where the layer was not kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scmag_muon import _fingerprint
from scmag_muon._keys import Keys
from scmag_muon._mudata._fit import read_fit
from scmag_muon.manifold.lazy import FittedRows
from scmag_muon.manifold.scratch import only_columns, reordered

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import scipy.sparse as sp
    from mudata import MuData

    from scmag_muon.manifold.fit import ManifoldFit
    from scmag_muon.manifold.packed import PackedCounts


LARGE = 2 * 10**8
"""Values, cells by features that take part, above which layers are written on request only: .8 GB each, or 1.6 as sparse ones."""


def is_large(n_values: int) -> bool:
    """Whether so many values are too many to be written without being asked for."""
    return n_values > LARGE


def are_large(mdata: MuData, names: Sequence[str], key: str) -> bool:
    """Whether layers of the features that ``var[key]`` names would be."""
    return is_large(sum(mdata.mod[name].n_obs * int(mdata.mod[name].var[key].sum()) for name in names))


class FittedLayer:
    """What a fitted layer would hold, ``(n_obs, n_vars)``: rows are computed when they are asked for, zeros at other features."""

    dtype = np.dtype(np.float32)

    def __init__(self, rows: FittedRows, mask: np.ndarray) -> None:
        self.rows = rows
        self.mask = mask
        self.shape = (len(rows), len(mask))

    @property
    def counts(self) -> PackedCounts | None:
        """Counts of all cells and features, where the rows hold a copy of just these."""
        packed = self.rows.packed
        return packed if packed is not None and packed.shape == self.shape else None

    def __getitem__(self, cells: Any) -> np.ndarray:
        values = self.rows[cells]
        if self.mask.all():
            return values
        result = np.zeros((len(values), len(self.mask)), dtype=np.float32)
        result[:, self.mask] = values
        return result


def has_fitted_rows(mdata: MuData, name: str, key: str, present: np.ndarray | None = None) -> bool:
    """Whether a modality has its fitted layer, or the stored fit of just these cells, which gives its rows.

    ``present`` says which of the cells have the modality, bool, ``(n_obs,)``; by default all.
    """
    adata = mdata.mod[name]
    if key in adata.layers:
        return True
    if Keys.fit(key) not in mdata.uns or key not in adata.uns or key not in adata.var:
        return False
    cells = mdata.obs_names if present is None else mdata.obs_names[present]
    return str(adata.uns[key].get("made_from", {}).get("cells")) == _fingerprint.of_cells(cells)


def fitted_layer(
    mdata: MuData,
    name: str,
    key: str,
    *,
    counts: Callable[[], sp.csr_array],
    present: np.ndarray | None = None,
    fit: ManifoldFit | None = None,
) -> Any:
    """The fitted layer where it is there, else a :class:`FittedLayer`.

    Parameters
    ----------
    mdata
        Modalities with a row for every cell, in one order (:func:`~scmag_muon._mudata.check_complete`).
    name, key
        Modality, and name of the fit.
    counts
        Gives the modality's counts, ``(n_obs, n_vars)``.
    present
        Which modalities each cell has, in the order of the fit, bool, ``(n_obs, n_modalities)``; by default all.
    fit
        The stored fit, where it was read already: the layers of several modalities share its tables.
    """
    adata = mdata.mod[name]
    if key in adata.layers:
        return adata.layers[key]
    fit, mask = fit or read_fit(mdata, key, present=present), adata.var[key].to_numpy()
    own, cells = counts(), fit.modality(name).cells
    own = own if len(cells) == fit.n_obs else reordered(own, cells)
    return FittedLayer(FittedRows(fit, name, only_columns(own, mask)), mask)
