"""What downstream verbs and pictures share: the clusters, a feature by its name, normalised counts."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scmag_muon import _mudata
from scmag_muon._feature_names import is_housekeeping
from scmag_muon._keys import Keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Feature:
    """One feature of one modality."""

    modality: str
    name: str

    def __str__(self) -> str:
        return f"{self.modality}:{self.name}"


def cluster_column(mdata: MuData, column: str, *, argument: str = "key") -> pd.Series:
    """Clusters of the cells, categorical without empty categories."""
    try:
        values = _mudata.get_obs_column(mdata, column, argument=argument)
    except KeyError:
        if argument not in ("key", "groupby"):
            raise
        raise KeyError(
            f"No clusters in mdata.obs[{column!r}]. Make them with scmag_muon.tl.scmag(mdata, key_added={column!r}), or "
            f"name a column with {argument}=."
        ) from None
    if not isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(object).where(values.isna(), values.astype(str)).astype("category")
    return values.cat.remove_unused_categories()


def joint_space(mdata: MuData, manifold_key: str) -> np.ndarray:
    """The joint space before fitting, ``(n_obs, n_components)``."""
    make = f"scmag_muon.pp.manifold_fit(mdata, key_added={manifold_key!r})"
    slot = Keys.joint_embedding(manifold_key)
    return _space(mdata, slot, f"No joint space mdata.obsm[{slot!r}]", make)


def clustering_space(mdata: MuData, key: str) -> np.ndarray:
    """The clustering space of a run, ``(n_obs, n_latent)``."""
    slot = Keys.latent(key)
    make = f"scmag_muon.tl.scmag(mdata, key_added={key!r})"
    return _space(mdata, slot, f"No clustering space mdata.obsm[{slot!r}]", make)


def _space(mdata: MuData, slot: str, none: str, make: str) -> np.ndarray:
    _mudata.check_mudata(mdata)
    if slot not in mdata.obsm:
        raise KeyError(f"{none}. Make it with {make}.")
    space = np.asarray(mdata.obsm[slot])
    lacking = np.isnan(space).any(axis=1)
    if lacking.any():
        raise ValueError(
            f"mdata.obsm[{slot!r}] has no coordinates of {int(lacking.sum())} of {mdata.n_obs} cells, the first is "
            f"{str(mdata.obs_names[lacking][0])!r}: they were added or renamed since. Make it anew with {make}."
        )
    return space


def as_names(given: Any) -> list[str]:
    """Names of groups as text; one may stand by itself."""
    return [str(name) for name in ([given] if isinstance(given, str) or not isinstance(given, Iterable) else given)]


def used_modalities(mdata: MuData, key: str, modalities: Sequence[str] | None = None) -> list[str]:
    """The modalities asked for, else those that ``tl.scmag`` joined, else all of a known kind."""
    _mudata.check_mudata(mdata)
    if modalities is not None:
        return _mudata.modality_names(mdata, modalities)
    if key in mdata.uns and "params" in mdata.uns[key]:
        joined = [str(name) for name in mdata.uns[key]["params"]["modalities"]]
        own = [name for name, adata in mdata.mod.items() if adata.n_obs]
        there = [name for name in joined if name in own]
        what = f"{key!r} joined the modalities {joined}, and the MuData has cells of {own}"
        if not there:
            raise KeyError(f"{what}. Give those back their names, or name modalities= where there is the argument.")
        if len(there) < len(joined):
            logger.warning("%s: %s alone take part.", what, there)
        return there
    return _mudata.modality_names(mdata)


def counts_layer(mdata: MuData, key: str, modality: str) -> str | None:
    """The layer of raw counts that ``tl.scmag`` was told of."""
    params = mdata.uns[key].get("params", {}) if key in mdata.uns else {}
    return _mudata.layer_of(params.get("layer"), modality)


def counts_in_use(mdata: MuData, key: str, modality: str, layer: str | None = None) -> sp.csr_array:
    """Raw counts as ``tl.scmag`` read them, or of another layer; not to be written to."""
    params = mdata.uns[key].get("params", {}) if key in mdata.uns else {}
    if layer is not None and layer in (key, params.get("manifold_key")):
        raise ValueError(
            f"mdata[{modality!r}].layers[{layer!r}] holds values that are not integers but made by the model; raw counts are "
            "needed. Leave layer= out to use the counts of the run."
        )
    recorded = counts_layer(mdata, key, modality)
    layer = recorded if layer is None else layer
    where = f"mdata[{modality!r}]" + (".X" if layer is None else f".layers[{layer!r}]")
    adata = mdata.mod[modality]
    to_integers = "rint()" if sp.issparse(adata.X if layer is None else adata.layers.get(layer)) else "round()"
    return _mudata.get_counts(
        adata,
        modality=modality,
        layer=layer,
        round_counts=bool(params.get("round_counts", False)) and layer == recorded,
        rounding=f"Round them: {where} = {where}.{to_integers}.",
        put_back=layer == recorded,
    )


def kind_in_use(mdata: MuData, key: str, modality: str) -> _mudata.ModalityKind:
    """The kind for which ``tl.scmag`` took the modality, else the one that it seems to be."""
    params = mdata.uns[key].get("params", {}) if key in mdata.uns else {}
    if modality in params.get("modalities", ()) and "kinds" in params:
        kinds = dict(zip(params["modalities"], params["kinds"], strict=True))
        return next(kind for kind in _mudata.ASSAYS if kind == kinds[modality])
    adata = mdata.mod[modality]
    recorded = _mudata.recorded_kind(adata, str(params.get("manifold_key", Keys.MANIFOLD)))
    return recorded or _mudata.modality_kind(modality, adata)


def find_feature(mdata: MuData, feature: str, modalities: Sequence[str]) -> Feature:
    """A feature by its name, or by ``"modality:name"`` where more than one modality has the name."""
    for name in modalities:  # which may hold a colon themselves
        if feature.startswith(f"{name}:") and feature.removeprefix(f"{name}:") in mdata.mod[name].var_names:
            return Feature(name, feature.removeprefix(f"{name}:"))
    found = [Feature(name, feature) for name in modalities if feature in mdata.mod[name].var_names]
    if not found:
        raise KeyError(f"No feature {feature!r} in the modalities {list(modalities)}.")
    if len(found) > 1:
        choices = " or ".join(repr(str(each)) for each in found)
        raise ValueError(f"More than one modality has a feature {feature!r}: say {choices}.")
    return found[0]


Across = Literal["features", "cells"]
"""What a centred log ratio is taken across: the proteins of a cell, or the cells of a protein."""


def normalize(
    counts: sp.csr_array,
    kind: _mudata.ModalityKind,
    totals: np.ndarray | None = None,
    *,
    across: Across = "features",
) -> sp.csr_array | np.ndarray:
    """Log of normalised counts, never negative, in natural units as scanpy's fold changes want them.

    RNA and ATAC: log(1 + counts at the median library size). Proteins: log(1 + counts over a geometric mean of 1 + counts),
    because the total of a small panel says little. The mean is the cell's across ``"features"``, as muon's
    ``prot.pp.clr(axis=1)`` has it, to compare cells; or the protein's across ``"cells"``, as ``axis=0``, to compare groups by a
    protein: what a cell lacks would else make all its other proteins high, isotype controls among them.
    """
    if not _mudata.ASSAYS[kind].scales:
        dense = np.asarray(counts.toarray(), dtype=np.float32)
        axis = 1 if across == "features" else 0
        return np.log1p(dense / np.exp(np.log1p(dense).mean(axis=axis, keepdims=True)))
    totals = np.asarray(counts.sum(axis=1)).ravel() if totals is None else totals
    median = np.median(totals[totals > 0]) if (totals > 0).any() else 1.0
    factors = np.divide(median, totals, out=np.zeros_like(totals, dtype=np.float64), where=totals > 0)
    scaled = counts.copy()
    scaled.data = np.log1p(scaled.data * np.repeat(factors, np.diff(scaled.indptr))).astype(np.float32)
    return scaled


def normalized_counts(
    mdata: MuData, modality: str, *, layer: str | None, key: str, across: Across = "features"
) -> sp.csr_array | np.ndarray:
    """Normalised counts of all features of a modality, a row for each of its own cells."""
    counts = counts_in_use(mdata, key, modality, layer)
    return normalize(counts, kind_in_use(mdata, key, modality), across=across)


def normalized_features(
    mdata: MuData, features: Sequence[Feature], *, key: str, across: Across = "features"
) -> dict[Feature, np.ndarray]:
    """Normalised counts of some features, each ``(n_obs,)``, missing where not measured; library sizes are of the whole modality."""
    found: dict[Feature, np.ndarray] = {}
    for modality in dict.fromkeys(feature.modality for feature in features):
        names = [feature.name for feature in features if feature.modality == modality]
        adata = mdata.mod[modality]
        counts = counts_in_use(mdata, key, modality)
        kind = kind_in_use(mdata, key, modality)
        columns = adata.var_names.get_indexer(names)
        if not _mudata.ASSAYS[kind].scales:
            values = normalize(counts, kind, across=across)[:, columns]
        else:
            totals = np.asarray(counts.sum(axis=1)).ravel()
            values = np.asarray(sp.csr_array(normalize(sp.csr_array(counts[:, columns]), kind, totals)).toarray())
        found |= {
            Feature(modality, name): _mudata.in_all_cells(values[:, i], mdata, modality) for i, name in enumerate(names)
        }
    return found


def denoised_features(mdata: MuData, features: Sequence[Feature], *, key: str) -> dict[Feature, np.ndarray]:
    """Log of 1 + denoised counts of some features, each ``(n_obs,)``, imputed where not measured."""
    found: dict[Feature, np.ndarray] = {}
    for feature in features:
        adata = mdata.mod[feature.modality]
        if key not in adata.layers:
            raise KeyError(
                f"No denoised counts in mdata[{feature.modality!r}].layers[{key!r}]. "
                f"Make them with scmag_muon.tl.scmag(mdata, key_added={key!r}, write_layers='all')."
            )
        imputed = mdata.obsm.get(Keys.imputed(key, feature.modality))
        if isinstance(imputed, pd.DataFrame):
            stored = dict(zip(adata.var_names, _mudata.column_names(adata.var_names), strict=True))[feature.name]
            if stored in imputed:
                found[feature] = np.log1p(imputed[stored].to_numpy())
                continue
        column = adata.layers[key][:, adata.var_names.get_loc(feature.name)]
        values = np.log1p(np.asarray(column.toarray() if sp.issparse(column) else column).ravel())
        found[feature] = _mudata.in_all_cells(values, mdata, feature.modality)
    return found


def short_list(table: pd.DataFrame, n_markers: int, *, housekeeping: bool = False) -> pd.DataFrame:
    """Rows of the best ``n_markers`` features of each cluster and modality in a table of :func:`scmag_muon.tl.markers`.

    Features that are higher in the cluster than in each other one come first, and of these the highest AUROC. Ribosomal and
    mitochondrial genes are left out unless asked for. A cluster without markers gets none; a modality in which no cluster
    has any shows its features of highest AUROC.
    """
    rows = table if housekeeping else table[~is_housekeeping(table["feature"])]
    if "is_marker" in rows:
        modality = rows["modality"].astype(str)
        some = rows["is_marker"].astype(bool)
        rows = rows[some | ~modality.isin(modality[some])]
    specific = (
        rows["log2_fold_change_next"] > 0 if "log2_fold_change_next" in rows else pd.Series(data=True, index=rows.index)
    )
    order = pd.DataFrame({"specific": specific, "auroc": rows["auroc"]}).sort_values(
        ["specific", "auroc"], ascending=False, kind="stable"
    )
    rows = rows.loc[order.index]
    return rows.groupby(["modality", "cluster"], observed=True, sort=False).head(n_markers)
