"""Cells that a model is asked about: do they fit it, and their rows, in the model's features, as the network takes them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from mudata import MuData
from scvi import REGISTRY_KEYS

from scmag_muon import _mudata
from scmag_muon.model._module import PRESENT, counts_key, input_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

logger = logging.getLogger(__name__)

_ENOUGH_FITTED = 0.5


def feature_names(registry: Mapping[str, Any], which: int) -> pd.Index:
    """Features of a modality, in the network's order."""
    return pd.Index(registry["field_registries"][counts_key(which)]["state_registry"]["column_names"], dtype=object)


def check_cells(mdata: object, registry: Mapping[str, Any]) -> None:
    """Raise unless the cells are paired and have the model's modalities, features and fitted layers."""
    if not isinstance(mdata, MuData):
        raise TypeError(f"The model needs cells in a MuData, got {type(mdata).__name__}.")
    names = list(registry["setup_args"]["modalities"])
    for name in names:
        if name not in mdata.mod:
            raise KeyError(f"No modality {name!r} in the MuData, which has {list(mdata.mod)}; the model needs {names}.")
    _mudata.check_complete(mdata, names, registry["setup_args"]["input_layer"])
    if (present_key := registry["setup_args"].get("present_key")) is not None:
        check_present(mdata, present_key, names)
    for which, name in enumerate(names):
        wanted = feature_names(registry, which)
        missing = wanted.difference(mdata.mod[name].var_names, sort=False)
        if len(missing):
            raise ValueError(
                f"Modality {name!r} lacks {len(missing)} of the model's {len(wanted)} features, among them {missing[0]!r}. "
                "Features are found by name: give those that the model was trained on."
            )
    check_rows(mdata, names, registry["setup_args"]["input_layer"], registry["setup_args"].get("present_key"))


def check_rows(mdata: MuData, names: Sequence[str], key: str, present_key: str | None) -> None:
    """Raise unless each modality has its fitted layer, or a stored fit that gives its rows."""
    for i, name in enumerate(names):
        present = None if present_key is None else mdata.obsm[present_key][:, i]
        if not _mudata.has_fitted_rows(mdata, name, key, present):
            raise KeyError(
                f"No layer {key!r} in modality {name!r}. Make it with scmag_muon.pp.manifold_fit(mdata, key_added={key!r})."
            )


def check_fitted(mdata: MuData, registry: Mapping[str, Any]) -> None:
    """Raise, or warn, where features of the model took no part in the fit of these cells."""
    for which, name in enumerate(registry["setup_args"]["modalities"]):
        _check_fitted(mdata, name, feature_names(registry, which), registry["setup_args"])


def check_present(mdata: MuData, key: str, modalities: Sequence[str]) -> None:
    """Raise unless ``mdata.obsm[key]`` says of each cell which modalities it has, and it has one."""
    if key not in mdata.obsm:
        raise KeyError(f"No {key!r} in mdata.obsm, which has {list(mdata.obsm)}.")
    present = mdata.obsm[key]
    if not isinstance(present, np.ndarray) or present.dtype != bool or present.shape != (mdata.n_obs, len(modalities)):
        raise ValueError(
            f"mdata.obsm[{key!r}] must be an array of True and False with a row for each of {mdata.n_obs} cells and a column "
            f"for each of the modalities {list(modalities)}."
        )
    if not present.any(axis=1).all():
        cells = mdata.obs_names[~present.any(axis=1)]
        raise ValueError(
            f"{len(cells)} cells have no modality, among them {cells[0]!r}. Leave them out: "
            f"mdata = mdata[mdata.obsm[{key!r}].any(axis=1)].copy()."
        )


def registered_counts(mdata: MuData, name: str, setup: Mapping[str, Any]) -> sp.csr_array:
    """Counts of all features of a modality from where the model was set up to find them, checked."""
    return _mudata.get_counts(
        mdata.mod[name],
        modality=name,
        layer=_mudata.layer_of(setup["layer"], name),
        round_counts=bool(setup.get("round_counts")),
        put_back=True,
    )


def cells_of_model(mdata: MuData, registry: Mapping[str, Any]) -> MuData:
    """The MuData itself where it fits the model as it is, else one of the model's features in the model's order."""
    check_cells(mdata, registry)
    check_fitted(mdata, registry)
    batch_codes(mdata, registry)
    setup = registry["setup_args"]
    names = setup["modalities"]
    for name in names:
        try:
            registered_counts(mdata, name, setup)
        except ValueError as error:
            raise ValueError(
                f"{error} The model was trained on counts there. Put them back, or load with adata=False and give the cells to "
                "the getters: coordinates, clusters and gates need no counts."
            ) from error
    cells = _mudata.with_features(mdata, {name: feature_names(registry, i).to_numpy() for i, name in enumerate(names)})
    if cells is not mdata and setup.get("present_key") is not None:
        cells.obsm[setup["present_key"]] = mdata.obsm[setup["present_key"]]
    return cells


def batch_codes(mdata: MuData, registry: Mapping[str, Any]) -> np.ndarray:
    """Number of each cell's batch among those that the model knows, shape ``(n_obs,)``."""
    batch_key = registry["setup_args"]["batch_key"]
    if batch_key is None:
        return np.zeros(mdata.n_obs, dtype=np.int64)
    batches = _mudata.get_obs_column(mdata, batch_key, argument="batch_key")
    if batches.isna().any():
        raise ValueError(f"batch_key={batch_key!r} is missing for {int(batches.isna().sum())} cells.")
    batches = batches.astype(str).to_numpy(dtype=object)
    state = registry["field_registries"][REGISTRY_KEYS.BATCH_KEY]["state_registry"]
    known = pd.Index([str(batch) for batch in state["categorical_mapping"]])
    codes = known.get_indexer(pd.Index(batches))
    if (codes < 0).any():
        unseen = sorted(set(batches[codes < 0]))
        raise ValueError(
            f"batch_key={batch_key!r}: the model has not seen {unseen} ({int((codes < 0).sum())} of {mdata.n_obs} cells); "
            f"it knows {list(known)}. Its decoders need a batch that it knows; coordinates, clusters and gates need none."
        )
    return codes.astype(np.int64)


def cells_signature(mdata: MuData) -> str:
    """A checksum of the cells' names, in any order."""
    return hashlib.sha256("\n".join(sorted(map(str, mdata.obs_names))).encode()).hexdigest()


def fit_signature(mdata: MuData, setup: Mapping[str, Any]) -> str | None:
    """What tells one manifold fit from another: a checksum of what it recorded; ``None`` where nothing is recorded."""
    records = [mdata.mod[name].uns.get(setup["input_layer"]) for name in setup["modalities"]]
    if not all(isinstance(record, Mapping) for record in records):
        return None
    numbers = [text for record in records for text in _numbers(record)]
    return hashlib.sha256("|".join(numbers).encode()).hexdigest()


def minibatches(
    mdata: MuData,
    registry: Mapping[str, Any],
    rows: np.ndarray,
    batch_size: int,
    *,
    counts: bool,
    batches: bool,
    inputs: Sequence[Any] | None = None,
) -> Iterator[dict[str, torch.Tensor]]:
    """Rows of the cells as the network takes them; no array of the MuData is handed out or written to.

    ``inputs`` are the fitted layers, or what gives their rows, of cells for which it is there already.
    """
    setup = registry["setup_args"]
    inputs = _inputs(mdata, setup) if inputs is None else inputs
    slots = []
    rounded = set()
    for which, name in enumerate(setup["modalities"]):
        adata = mdata.mod[name]
        wanted = feature_names(registry, which)
        columns = None if wanted.equals(adata.var_names) else adata.var_names.get_indexer(wanted)
        slots.append((input_key(which), inputs[which], columns))
        if counts:
            layer = _mudata.layer_of(setup["layer"], name)
            slots.append((counts_key(which), adata.X if layer is None else adata.layers[layer], columns))
            # they were checked before; noise of rounding is taken off without being asked
            rounded.add(counts_key(which))
    codes = batch_codes(mdata, registry) if batches else np.zeros(mdata.n_obs, dtype=np.int64)
    for start in range(0, max(len(rows), 1), batch_size):
        part = rows[start : start + batch_size]
        tensors = {key: torch.from_numpy(_dense(matrix, part, columns)) for key, matrix, columns in slots}
        for key in rounded:
            tensors[key].round_()
        for which, name in enumerate(setup["modalities"]):
            _check_finite(tensors[input_key(which)], f"mdata[{name!r}].layers[{setup['input_layer']!r}]", mdata, part)
        if setup.get("present_key") is not None:
            tensors[PRESENT] = torch.from_numpy(mdata.obsm[setup["present_key"]][part])
        yield {**tensors, REGISTRY_KEYS.BATCH_KEY: torch.from_numpy(codes[part][:, None])}


def _inputs(mdata: MuData, setup: Mapping[str, Any]) -> list[Any]:
    present_key = setup.get("present_key")
    return [
        _mudata.fitted_layer(
            mdata,
            name,
            setup["input_layer"],
            counts=partial(registered_counts, mdata, name, setup),
            present=None if present_key is None else mdata.obsm[present_key],
        )
        for name in setup["modalities"]
    ]


def _dense(matrix: Any, rows: np.ndarray, columns: np.ndarray | None) -> np.ndarray:
    if isinstance(matrix, np.ndarray) or sp.issparse(matrix):
        chosen = matrix[rows]
    else:  # on disk or to be computed, where rows are read in their order, each once
        order, back = np.unique(rows, return_inverse=True)
        chosen = matrix[order]
        chosen = chosen.compute() if hasattr(chosen, "compute") else chosen
        chosen = chosen[back]
    dense = np.asarray(chosen.toarray() if sp.issparse(chosen) else chosen)
    return np.ascontiguousarray(dense if columns is None else dense[:, columns], dtype=np.float32)


def _check_fitted(mdata: MuData, name: str, wanted: pd.Index, setup: Mapping[str, Any]) -> None:
    key, adata = setup["input_layer"], mdata.mod[name]
    fitted = adata.var.get(key)
    if fitted is None or fitted.dtype != bool or fitted.reindex(wanted).all():
        return
    lacking = wanted[~fitted.reindex(wanted).to_numpy()]
    layer = _mudata.layer_of(setup["layer"], name)
    counts = (adata.X if layer is None else adata.layers[layer])[:, adata.var_names.get_indexer(lacking)]
    # a feature that is zero in all cells takes no part in any fit
    lacking = lacking[np.asarray((counts != 0).sum(axis=0)).ravel() > 0]
    if not len(lacking):
        return
    message = (
        f"In modality {name!r}, {len(lacking)} of the model's {len(wanted)} features took no part in the fit of these cells, "
        f"among them {lacking[0]!r}: the network would take them for zero. Fit the cells on the model's features: for each "
        "modality mdata[name].var['of_model'] = mdata[name].var_names.isin(model.get_var_names()[name]), then "
        f"scmag_muon.pp.manifold_fit(mdata, mask_var='of_model', key_added={key!r})."
    )
    if len(lacking) > (1 - _ENOUGH_FITTED) * len(wanted):
        raise ValueError(message)
    logger.warning(message)


def _check_finite(values: torch.Tensor, where: str, mdata: MuData, rows: np.ndarray) -> None:
    bad = (~torch.isfinite(values).all(dim=1)).nonzero()
    if len(bad):
        raise ValueError(
            f"{where} holds NaN or infinite values, first in cell {mdata.obs_names[rows[int(bad[0, 0])]]!r}. Fit it anew with "
            "scmag_muon.pp.manifold_fit."
        )


def _numbers(value: Any) -> Sequence[str]:
    """All numbers in nested mappings, the same before and after a file."""
    if isinstance(value, Mapping):
        return [text for key in sorted(value, key=str) for text in _numbers(value[key])]
    if isinstance(value, (list, tuple, np.ndarray)):
        return [text for item in np.asarray(value, dtype=object).ravel() for text in _numbers(item)]
    return [float(value).hex()] if isinstance(value, (int, float, np.number, np.bool_)) else []
