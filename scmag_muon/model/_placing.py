"""Further cells among the reference, the cells that a model was trained on: fitted by the reference's fit, not by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scmag_muon import _mudata
from scmag_muon.manifold.missing import restricted
from scmag_muon.model._new_cells import feature_names, registered_counts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData

    from scmag_muon._mudata import Query
    from scmag_muon.manifold.fit import ManifoldFit, Operators
    from scmag_muon.model._reference import Reference


def placed(cells: MuData, reference: Reference, registry: Mapping[str, Any]) -> MuData:
    """The cells with the model's features and rows fitted over the reference's cells, as the network takes them.

    Raises
    ------
    ValueError
        Where counts of the cells are no counts.
    """
    setup, fit = registry["setup_args"], reference.fit
    names, present_key, batch_key = setup["modalities"], setup.get("present_key"), setup["batch_key"]
    present = np.ones((cells.n_obs, len(names)), bool) if present_key is None else np.asarray(cells.obsm[present_key])
    counts = {name: registered_counts(cells, name, setup) for name in names}
    batches = None if batch_key is None else np.asarray(_mudata.get_batches(cells, batch_key), dtype=object)
    query = _mudata.Query(
        obs_names=cells.obs_names,
        counts={
            name: sp.csr_array(counts[name][present[:, i]][:, _columns(cells, name, fit.modality(name).features)])
            for i, name in enumerate(names)
            if present[:, i].any()
        },
        present=present,
        measured={},
        batches=batches if fit.batches else None,
    )
    of_model = {
        name: sp.csr_matrix(counts[name][:, _columns(cells, name, feature_names(registry, i))])
        for i, name in enumerate(names)
    }
    operators = fit.operators(embedded(query, fit))
    found = network_cells(query, operators, reference, registry, counts=of_model)
    if batches is not None:
        found.obs[batch_key] = batches
    return found


def as_seen_by(query: Query, reference: Reference) -> ManifoldFit:
    """The reference's fit by those features alone that the query has.

    A query of half a panel is less sure of what a cell is. Compared with cells that are seen alike, it is as sure as it ought to be.
    """
    if all(measured.all() for measured in query.measured.values()):
        return reference.fit
    return restricted(reference.fit, query.measured, reference.counts)


def embedded(query: Query, seen: ManifoldFit) -> np.ndarray:
    """Coordinates of the cells in the joint space of the fit that :func:`as_seen_by` gives, float32, ``(n_obs, n_components)``."""
    counts = {
        name: x[:, np.flatnonzero(query.measured[name])] if name in query.measured else x
        for name, x in query.counts.items()
    }
    return seen.embed(
        counts,
        present={name: query.present[:, seen.names.index(name)] for name in counts},
        batches=query.batches,
    )


def network_cells(
    query: Query,
    operators: Mapping[str, Operators],
    reference: Reference,
    registry: Mapping[str, Any],
    *,
    rows: slice = slice(None),
    counts: Mapping[str, sp.csr_matrix] | None = None,
) -> MuData:
    """Cells fitted by these rows of operators as the network takes them.

    ``rows`` are those of the query that the operators are of; ``counts`` are of the model's features, by default zeros.
    """
    setup, fit = registry["setup_args"], reference.fit
    cells = query.obs_names[rows]
    codes = np.full(len(cells), -1)
    if query.batches is not None and fit.batches:
        codes = pd.Index(fit.batches).get_indexer(pd.Index(query.batches[rows]))
    mods = {}
    for i, name in enumerate(setup["modalities"]):
        wanted = feature_names(registry, i)
        fitted = fit.fitted(name, operators[name], counts=reference.counts[name], codes=codes)
        columns, layer = wanted.get_indexer(pd.Index(fit.modality(name).features)), fitted
        if not np.array_equal(columns, np.arange(len(wanted))):
            layer = np.zeros((len(cells), len(wanted)), dtype=np.float32)
            layer[:, columns] = fitted
        place = _mudata.layer_of(setup["layer"], name)
        own = sp.csr_matrix(layer.shape, dtype=np.float32) if counts is None else counts[name]
        mods[name] = AnnData(
            own if place is None else None,
            obs=pd.DataFrame(index=cells),
            var=pd.DataFrame(index=wanted.astype(str)),
            layers={setup["input_layer"]: layer, **({} if place is None else {place: own})},
        )
    result = _mudata.make_mudata(mods, pd.DataFrame(index=cells))
    if setup.get("present_key") is not None:
        result.obsm[setup["present_key"]] = query.present[rows]
    return result


def _columns(cells: MuData, name: str, features: Any) -> np.ndarray:
    return cells.mod[name].var_names.get_indexer(pd.Index(features))
