"""Cells that lack modalities with what fitting imputes for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scmag_muon import _fingerprint, _mudata
from scmag_muon._keys import Keys

if TYPE_CHECKING:
    from mudata import MuData


def complete_cells(mdata: MuData, *, manifold_key: str = Keys.MANIFOLD) -> MuData:
    """Give every modality a row for every cell, imputed where it was not measured, as the network reads them.

    :func:`scmag_muon.tl.scmag` does this by itself. By hand it is needed to set up :class:`scmag_muon.model.SCMAG`, to load a
    saved model with cells that lack modalities, or to ask it about such cells.

    Parameters
    ----------
    mdata
        Fitted by :func:`scmag_muon.pp.manifold_fit` with its default neighbourhoods; cells may lack modalities.
    manifold_key
        The ``key_added`` of that call.

    Returns
    -------
    A new MuData of the fitted modalities; ``mdata`` stays as it is.

    ``mod.X``, or the layer that the fit was told
        Raw counts, ``(n_obs, n_vars)``, CSR; zeros where the modality was not measured.
    ``mod.layers[manifold_key]``
        Fitted data (unitless), ``(n_obs, n_vars)``; where the modality was not measured, means of neighbours that have it.
    ``mdata.obsm["present"]``
        Which modalities each cell has, boolean, ``(n_obs, n_modalities)``: the ``present_key`` of
        :meth:`scmag_muon.model.SCMAG.setup_mudata`.

    Raises
    ------
    KeyError
        Where ``mdata`` is not fitted, or was fitted with ``neighborhoods="own"``.
    ValueError
        Where the fit is of other cells.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=150, n_vars=80, n_prot=12, n_clusters=3)
    >>> smm.pp.manifold_fit(mdata)
    >>> complete = smm.pp.complete_cells(mdata)
    >>> complete["prot"].shape, int(complete.obsm["present"][:, 1].sum())
    ((150, 12), 150)
    >>> smm.model.SCMAG.setup_mudata(complete, present_key="present")
    """
    fitted = [
        name for name, adata in mdata.mod.items() if _mudata.is_record(adata.uns.get(manifold_key), "manifold_fit")
    ]
    if not fitted:
        raise KeyError(
            f"No modality is fitted under {manifold_key!r}. Run scmag_muon.pp.manifold_fit(mdata, key_added={manifold_key!r})."
        )
    record = mdata.mod[fitted[0]].uns[manifold_key]["params"]
    params = {name: _mudata.plain(value) for name, value in record.items()}
    names, layer = [str(name) for name in params["modalities"]], params.get("layer")
    _check_same_cells(mdata, names, manifold_key)
    complete = _mudata.is_complete(mdata, names)
    work = _mudata.working_copy(
        mdata, names, layer, params.get("batch_key"), round_counts=bool(params.get("round_counts", False))
    )
    _mudata.copy_fitted(mdata, work, names, manifold_key)
    fit = None if complete else _mudata.read_fit(work, manifold_key)
    found = _mudata.complete_mudata(work, names, manifold_key, layer, fit, all_features=True)
    for column in mdata.obs.columns.difference(found.obs.columns, sort=False):
        found.obs[column] = mdata.obs[column]
    if complete:
        found.obsm[_mudata.PRESENT] = np.ones((mdata.n_obs, len(names)), dtype=bool)
    return found


def _check_same_cells(mdata: MuData, names: list[str], manifold_key: str) -> None:
    _mudata.check_cells(mdata, names)
    for name in names:
        record = mdata.mod[name].uns.get(manifold_key, {})
        before = str(record.get("made_from", {}).get("cells"))
        if before != _fingerprint.of_cells(mdata.mod[name].obs_names):
            raise ValueError(
                f"The fit {manifold_key!r} is of other cells of modality {name!r}. Fit these anew with "
                f"scmag_muon.pp.manifold_fit(mdata, key_added={manifold_key!r})."
            )
