"""Denoised and imputed counts of a query, and where its results are written."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from scmag_muon import _fingerprint, _mudata
from scmag_muon._keys import Keys
from scmag_muon.model._query_data import known_batches
from scmag_muon.tl._derived import forget_derived, same_run
from scmag_muon.tl._imputation import Imputer
from scmag_muon.tl._results import write_cells
from scmag_muon.tl._transfer import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from mudata import MuData

    from scmag_muon.model import SCMAG
    from scmag_muon.model._mapping import Mapped
    from scmag_muon.model._reference import Reference
    from scmag_muon.transfer.labels import Transferred


logger = logging.getLogger(__name__)

QueryLayers = Literal["denoised", "none"]


def is_denoised(asked: QueryLayers | None, model: SCMAG, n_obs: int) -> bool:
    """Whether denoised counts are wanted; where nothing was asked and they are large they are not, which a line of the log says."""
    if asked is not None:
        return asked == "denoised"
    if not _mudata.is_large(n_obs * sum(map(len, model.get_var_names().values()))):
        return True
    logger.info(
        "Denoised counts are not written: they would hold more than %.3g values. Ask for them with "
        'write_layers="denoised" (--layers on the command line).',
        _mudata.LARGE,
    )
    return False


def tell_modalities(names: Sequence[str], of_reference: Sequence[str]) -> None:
    lacking = [name for name in of_reference if name not in names]
    if lacking:
        logger.info(
            "The query has %s alone: labels and unlikeness rest on it, and %s imputed.",
            " and ".join(map(repr, names)),
            " and ".join(map(repr, lacking)) + (" is" if len(lacking) == 1 else " are"),
        )


def tell_batches(mdata: MuData, model: SCMAG, asked: str | None) -> None:
    """Warn where cells are of batches of the reference and nothing says so: they would be placed as if of none."""
    batch_key = model.registry_["setup_args"]["batch_key"]
    if asked is not None or batch_key is None or batch_key not in mdata.obs:
        return
    known = int(mdata.obs[batch_key].astype(str).isin(known_batches(model.registry_)).sum())
    if known:
        logger.warning(
            "%d of %d cells are of batches of the reference by obs[%r], which is not used. Say so with batch_key=%r: what was found "
            "of these batches is then taken off.",
            known,
            mdata.n_obs,
            batch_key,
            batch_key,
        )


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


def check_columns(columns: Sequence[str], key: str) -> None:
    """Raise where labels of the reference would be written to the place of another result."""
    slots = Keys.run_slots(key) | Keys.query_slots(key, ())
    taken = {name for where, name in slots if where == "obs"} | {Keys.measured(key)}
    for column in columns:
        slot = Keys.transferred(key, column)
        own = {slot, Keys.transferred_probability(key, column), Keys.transferred_unlikeness(key, column)}
        if own & taken or "/" in column:
            raise ValueError(
                f"labels={column!r} would be written to mdata.obs[{sorted(own & taken or own)[0]!r}], "
                f"{'the place of another result' if own & taken else 'which files can not hold for its slash'}. Give the column another "
                f"name in the reference's MuData: reference.obs[{'of_' + column.replace('/', '_')!r}] = reference.obs[{column!r}]."
            )
        taken |= own


def forget_earlier(mdata: MuData, found: Mapped, key: str) -> dict[str, dict[str, Any]]:
    """Delete what an earlier call left under the name: counts, labels, places on a map, what was made of other clusters.

    Returns arguments that make tables of markers anew.
    """
    record = mdata.uns.get(key)
    if not _mudata.is_record(record, "map_query"):
        return {}
    params = _mudata.plain(record["params"])
    slots = Keys.query_slots(key, params.get("labels", ())) | {("obs", Keys.measured(key))}
    slots |= {("obsm", Keys.projected(key, params["basis"]))} if "basis" in params else set()
    for name in record["reference_features"]:
        slots.add(("obsm", Keys.imputed(key, name)))
        if name in mdata.mod:
            mdata.mod[name].layers.pop(key, None)
    for where, name in slots:
        if name in getattr(mdata, where):
            del getattr(mdata, where)[name]
    labels = _fingerprint.of_labels(mdata.obs_names, found.q.argmax(axis=1).astype(str))
    return {} if same_run(mdata, key, labels, found.latent) else forget_derived(mdata, key)


def frames(
    mdata: MuData, features: Mapping[str, pd.Index], query: _mudata.Query, found: Mapped, key: str
) -> dict[str, Any]:
    """Denoised and imputed counts as they are written: layers by modality, data frames by slot of ``obsm``."""
    layers, imputed = {}, {}
    for i, (name, values) in enumerate(found.denoised.items()):
        measured = query.measured.get(name)
        if measured is None or not (measured.all() and query.present[:, i].all()):
            imputed[Keys.imputed(key, name)] = pd.DataFrame(
                values, index=mdata.obs_names, columns=_mudata.column_names(features[name])
            )
        if measured is not None:
            columns = pd.Index(features[name]).get_indexer(mdata.mod[name].var_names)
            used = columns >= 0
            in_order = np.array_equal(columns[used], np.arange(values.shape[1]))
            chosen = values if in_order else values[:, columns[used]]
            layers[name] = _mudata.expand_features(_mudata.rows_of(chosen, mdata, name), used)
    return {"layers": layers, "imputed": imputed}


def write(
    mdata: MuData,
    found: Mapped,
    confidence: np.ndarray,
    layers: Mapping[str, Any],
    of_reference: Sequence[str],
    key: str,
) -> None:
    """Write clusters, coordinates and what :func:`frames` made, once what an earlier call left is gone."""
    write_cells(mdata, found, confidence, key=key)
    mdata.obs[Keys.q(key)] = found.q.max(axis=1)
    for name in (name for name in of_reference if name in mdata.mod):
        adata = mdata.mod[name]
        if name in layers["layers"]:
            adata.layers[key] = layers["layers"][name]
        adata.uns[key] = _mudata.make_record("map_query", {}, made_from={}, key=key)
    for slot, values in layers["imputed"].items():
        mdata.obsm[slot] = values


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
            columns=_mudata.column_names(found.classes),
        )
