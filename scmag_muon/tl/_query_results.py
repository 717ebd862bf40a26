"""Denoised and imputed counts of a query, and where its results are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scmag_muon import _mudata
from scmag_muon._keys import Keys
from scmag_muon.tl._imputation import Imputer
from scmag_muon.tl._results import write_cells
from scmag_muon.tl._transfer import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from mudata import MuData

    from scmag_muon.model._mapping import Mapped
    from scmag_muon.model._reference import Reference
    from scmag_muon.transfer.labels import Transferred


def impute(found: Mapped, reference: Reference, query: _mudata.Query, features: Mapping[str, pd.Index]) -> None:
    """Put imputed counts in place of those that the network gives for what was not measured (:class:`~scmag_muon.tl._imputation.Imputer`).

    ``features`` are those of the denoised counts, by modality.
    """
    fit = reference.fit
    for name, values in found.denoised.items():
        own = pd.Index(fit.modality(name).features)
        columns = pd.Index(features[name]).get_indexer(own)
        has = query.present[:, fit.names.index(name)]
        nothing = np.zeros(len(own), dtype=bool)
        for rows, measured in ((~has, nothing), (has, query.measured.get(name, nothing))):
            cells = np.flatnonzero(rows)
            if not len(cells) or measured.all():
                continue
            imputer = Imputer(
                reference.counts[name], fit, name, joint=found.reference_joint, from_itself=bool(measured.any())
            )
            imputed = imputer(values[cells][:, columns], found.operators[name][cells], found.joint[cells])
            values[np.ix_(cells, columns[~measured])] = imputed[:, ~measured]


def frames(
    mdata: MuData, features: Mapping[str, pd.Index], query: _mudata.Query, found: Mapped, key: str
) -> dict[str, Any]:
    """Denoised and imputed counts as they are written: layers by modality, data frames by slot of ``obsm``."""
    layers, imputed = {}, {}
    for i, (name, values) in enumerate(found.denoised.items()):
        measured = query.measured.get(name)
        if measured is None or not (measured.all() and query.present[:, i].all()):
            imputed[Keys.imputed(key, name)] = pd.DataFrame(
                values, index=mdata.obs_names, columns=features[name].astype(str)
            )
        if measured is not None:
            columns = pd.Index(features[name]).get_indexer(mdata.mod[name].var_names)
            used = columns >= 0
            layers[name] = _mudata.expand_features(_mudata.rows_of(values[:, columns[used]], mdata, name), used)
    return {"layers": layers, "imputed": imputed}


def write(
    mdata: MuData,
    found: Mapped,
    confidence: np.ndarray,
    layers: Mapping[str, Any],
    of_reference: Sequence[str],
    key: str,
) -> None:
    """Write clusters, coordinates and what :func:`frames` made, in place of what an earlier call left."""
    write_cells(mdata, found, confidence, key=key)
    mdata.obs[Keys.q(key)] = found.q.max(axis=1)
    for name in (name for name in of_reference if name in mdata.mod):
        adata = mdata.mod[name]
        adata.layers.pop(key, None)
        if name in layers["layers"]:
            adata.layers[key] = layers["layers"][name]
        adata.uns[key] = _mudata.make_record("map_query", {}, made_from={}, key=key)
    for name in of_reference:
        slot = Keys.imputed(key, name)
        if slot in mdata.obsm:
            del mdata.obsm[slot]
        if slot in layers["imputed"]:
            mdata.obsm[slot] = layers["imputed"][slot]


def write_labels(
    mdata: MuData, carried: Mapping[str, Transferred], unlike: Mapping[str | None, np.ndarray], key: str
) -> None:
    """Write labels with their probabilities, and unlikeness."""
    mdata.obs[Keys.unlikeness(key)] = unlike[None]
    for column, found in carried.items():
        values = np.where(unlike[column] > 1, UNKNOWN, found.labels.astype(object))
        mdata.obs[Keys.transferred(key, column)] = pd.Categorical(values)
        mdata.obs[Keys.transferred_probability(key, column)] = found.confidence
        mdata.obs[Keys.transferred_unlikeness(key, column)] = unlike[column]
        mdata.obsm[Keys.transferred_probabilities(key, column)] = pd.DataFrame(
            found.probabilities,
            index=mdata.obs_names,
            columns=[name.replace("/", "_") for name in found.classes.astype(str)],
        )
