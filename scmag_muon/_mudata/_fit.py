"""A fit in a MuData: operators and lists in ``obsp``, loadings in ``varm``, numbers in ``uns``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scmag_muon import _fingerprint
from scmag_muon._keys import Keys
from scmag_muon._mudata._cells import get_obs_column
from scmag_muon.manifold.fit import ManifoldFit
from scmag_muon.manifold.fitting import fitting_operator
from scmag_muon.manifold.neighborhoods import KERNELS, Tables
from scmag_muon.manifold.neighbors import indicator

if TYPE_CHECKING:
    from mudata import MuData

FORMAT = 1
_ELSEWHERE = ("name", "kind", "cells", "loadings", "replication", "concordance", "weight", "view_weights")
_BY_FEATURE = ("mean", "deviation", "main_mean", "main_deviation", "center", "slopes", "intercepts")


def write_fit(mdata: MuData, fit: ManifoldFit, key: str) -> None:
    """Write what is needed to read the fit again (:func:`read_fit`); :func:`scmag_muon.pp.manifold_fit` writes the rest."""
    for kernel in KERNELS:
        mdata.obsp[Keys.neighbor_lists(key, kernel)] = sp.csr_matrix(indicator(fit.lists[kernel], dtype=np.int8))
    for modality in fit.modalities:
        adata = mdata.mod[modality.name]
        stored = {name: value for name, value in modality.to_dict().items() if name not in _ELSEWHERE}
        adata.uns[key]["fit"] = stored
        loadings = np.zeros((adata.n_vars, modality.components.loadings.shape[1]), dtype=np.float32)
        loadings[adata.var[key].to_numpy()] = modality.components.loadings
        adata.varm[Keys.loadings(key)] = loadings
        everywhere = len(modality.cells) == fit.n_obs
        for kernel, table in fit.neighborhoods[modality.name].items():
            slot = Keys.operator(key, kernel, None if everywhere else modality.name)
            mdata.obsp[slot] = sp.csr_matrix(fitting_operator(table, step=fit.step))
    mdata.uns[Keys.fit(key)] = {
        "format": FORMAT,
        "modalities": list(fit.names),
        "batches": list(fit.batches),
        "batch_codes": fit.codes,
        "step": fit.step,
    }


def drop_fit(mdata: MuData, key: str) -> None:
    """Take away a stored fit, so that none of another run is left beside new results."""
    mdata.uns.pop(Keys.fit(key), None)
    for slot in _obsp_slots(list(mdata.mod), key):
        if slot in mdata.obsp:
            del mdata.obsp[slot]
    for adata in mdata.mod.values():
        if Keys.loadings(key) in adata.varm:
            del adata.varm[Keys.loadings(key)]


def copy_fit(source: MuData, target: MuData, key: str) -> None:
    """Carry a stored fit, but for what modalities record, to a MuData of the same cells and features."""
    drop_fit(target, key)
    for slot in _obsp_slots(list(source.mod), key):
        if slot in source.obsp:
            target.obsp[slot] = source.obsp[slot]
    for name, adata in source.mod.items():
        if Keys.loadings(key) in adata.varm and name in target.mod:
            target.mod[name].varm[Keys.loadings(key)] = adata.varm[Keys.loadings(key)]
    if Keys.fit(key) in source.uns:
        target.uns[Keys.fit(key)] = source.uns[Keys.fit(key)]


def lend_fit(source: MuData, target: MuData, key: str) -> None:
    """Carry a stored fit to a MuData that holds the fitted features only; nothing where there is none, or a part is gone."""
    if Keys.fit(key) not in source.uns or deleted_part(source, key) is not None:
        return
    for slot in _obsp_slots(list(source.mod), key):
        if slot in source.obsp:
            target.obsp[slot] = source.obsp[slot]
    for name, adata in target.mod.items():
        full = source.mod[name]
        adata.varm[Keys.loadings(key)] = full.varm[Keys.loadings(key)][full.var_names.get_indexer(adata.var_names)]
    target.obsm[Keys.joint_embedding(key)] = source.obsm[Keys.joint_embedding(key)]
    target.uns[Keys.fit(key)] = source.uns[Keys.fit(key)]


def deleted_part(mdata: MuData, key: str) -> str | None:
    """A slot of the stored fit under ``key`` that was deleted, if there is one."""
    for name in map(str, mdata.uns[Keys.fit(key)]["modalities"]):
        if name in mdata.mod and Keys.loadings(key) not in mdata.mod[name].varm:
            return f"mdata[{name!r}].varm[{Keys.loadings(key)!r}]"
        for kernel in KERNELS:
            own, of_all = Keys.operator(key, kernel, name), Keys.operator(key, kernel)
            wanted = own if own in mdata.obsp else of_all
            for slot in (wanted, Keys.neighbor_lists(key, kernel)):
                if slot not in mdata.obsp:
                    return f"mdata.obsp[{slot!r}]"
    return None


def _obsp_slots(names: list[str], key: str) -> list[str]:
    operators = [Keys.operator(key, kernel, name) for kernel in KERNELS for name in (None, *names)]
    return [*operators, *(Keys.neighbor_lists(key, kernel) for kernel in KERNELS)]


def read_fit(mdata: MuData, key: str = Keys.MANIFOLD, *, present: np.ndarray | None = None) -> ManifoldFit:
    """The fit that :func:`scmag_muon.pp.manifold_fit` left under ``key``, the same to the bit.

    ``present`` says which modalities a cell has, ``(n_obs, n_modalities)``, where each holds rows for all cells.

    Raises
    ------
    KeyError
        Where there is none, or one by each view's own neighbourhoods, which fits no other cells, or a part of it was deleted.
    ValueError
        Where it is of a later version of the package, or of other cells, features or batches than those that are there.
    """
    if Keys.fit(key) not in mdata.uns:
        raise KeyError(
            f"No fit mdata.uns[{Keys.fit(key)!r}]. Make it with scmag_muon.pp.manifold_fit(mdata, key_added={key!r}), whose default "
            "neighbourhoods are shared."
        )
    of_all = mdata.uns[Keys.fit(key)]
    if int(of_all["format"]) > FORMAT:
        raise ValueError(
            f"The fit mdata.uns[{Keys.fit(key)!r}] has format {of_all['format']}, this version of scmag_muon reads up to {FORMAT}. "
            f"Update scmag_muon, or fit anew with scmag_muon.pp.manifold_fit(mdata, key_added={key!r})."
        )
    gone = deleted_part(mdata, key)
    if gone is not None:
        raise KeyError(f"{gone} of the fit {key!r} was deleted. {_anew(key)}")
    names = [str(name) for name in of_all["modalities"]]
    modalities = {
        name: _modality(mdata, name, key, None if present is None else present[:, i]) for i, name in enumerate(names)
    }
    shared: Tables = {}
    neighborhoods: dict[str, Tables] = {}
    for name in names:
        slots = {kernel: Keys.operator(key, kernel, name) for kernel in KERNELS}
        if all(slot in mdata.obsp for slot in slots.values()):
            neighborhoods[name] = {kernel: _table(mdata.obsp[slot]) for kernel, slot in slots.items()}
        else:
            shared = shared or {kernel: _table(mdata.obsp[Keys.operator(key, kernel)]) for kernel in KERNELS}
            neighborhoods[name] = shared
    return ManifoldFit.from_dict(
        {
            "modalities": modalities,
            "names": names,
            "joint": mdata.obsm[Keys.joint_embedding(key)],
            "lists": {kernel: _table(mdata.obsp[Keys.neighbor_lists(key, kernel)]) for kernel in KERNELS},
            "neighborhoods": neighborhoods,
            "batches": of_all["batches"],
            "codes": _codes(mdata, names[0], of_all, key),
            "step": of_all["step"],
        }
    )


def _modality(mdata: MuData, name: str, key: str, present: np.ndarray | None) -> dict[str, Any]:
    adata = mdata.mod[name]
    has = np.asarray(mdata.obsmap[name]).ravel() > 0 if present is None else present
    record, mask = adata.uns[key], adata.var[key].to_numpy()
    _check_cells(record, adata.obs_names if present is None else mdata.obs_names[present], name, key)
    features = adata.var_names[mask].to_numpy()
    return {
        **_by_feature(record["fit"], features, name, key),
        "name": name,
        "kind": record["kind"],
        "features": features,
        "cells": np.flatnonzero(has),
        "loadings": np.ascontiguousarray(adata.varm[Keys.loadings(key)][mask]),
        "replication": record["replication"],
        "concordance": record["concordance"],
        "weight": record["modality_weight"],
        "view_weights": np.array(list(record["view_weights"].values())),
    }


def _check_cells(record: Any, cells: pd.Index, name: str, key: str) -> None:
    before = record.get("made_from", {}).get("cells")
    if before is not None and str(before) != _fingerprint.of_cells(cells):
        raise ValueError(
            f"The fit {key!r} is of other cells of modality {name!r} ({_fingerprint.n_cells(str(before))} then, {len(cells)} now). "
            f"{_anew(key)}"
        )


def _by_feature(stored: Any, features: np.ndarray, name: str, key: str) -> dict[str, Any]:
    """What was learnt of each feature, in the order in which they are now: ``uns`` keeps its own when features are moved."""
    before = pd.Index(np.asarray(stored.get("features", features), dtype=object).astype(str))
    places = before.get_indexer(pd.Index(features.astype(str)))
    if len(places) != np.shape(stored["mean"])[-1] or (places < 0).any():
        raise ValueError(
            f"The fit {key!r} is of other features of modality {name!r} ({np.shape(stored['mean'])[-1]} then, {len(places)} of them "
            f"now). {_anew(key)}"
        )
    if np.array_equal(places, np.arange(len(places))):
        return dict(stored)
    moved = {part: np.asarray(stored[part])[..., places] for part in _BY_FEATURE if np.size(stored[part])}
    return {**stored, **moved}


def _codes(mdata: MuData, name: str, of_all: Any, key: str) -> np.ndarray:
    """Batch of each cell; read from its column where that is there, since ``uns`` keeps its order when cells are moved."""
    codes, names = np.asarray(of_all["batch_codes"]), [str(batch) for batch in of_all["batches"]]
    record = mdata.mod[name].uns[key]
    batch_key = record.get("params", {}).get("batch_key")
    if batch_key is None:
        return codes
    try:
        column = get_obs_column(mdata, str(batch_key), argument="batch_key")
    except KeyError:
        pass
    else:
        found = pd.Index(names).get_indexer(pd.Index(column.astype(str)))
        codes = codes if (found < 0).any() else found.astype(codes.dtype)
    before = record.get("made_from", {}).get("batches")
    if before is not None and str(before) != _fingerprint.of_labels(mdata.obs_names, np.array(names, object)[codes]):
        raise ValueError(f"The fit {key!r} is of other batches than those in {str(batch_key)!r}. {_anew(key)}")
    return codes


def _anew(key: str) -> str:
    return f"Fit anew with scmag_muon.pp.manifold_fit(mdata, key_added={key!r})."


def _table(operator: sp.csr_matrix) -> np.ndarray:
    """Neighbours by row, in their order; whoever stands for the cell has the largest entry."""
    width = operator.indptr[1]
    indices, data = operator.indices.reshape(-1, width), operator.data.reshape(-1, width)
    order = np.argsort(-data, axis=1, kind="stable")
    return np.take_along_axis(indices, order, axis=1).astype(np.int32)
