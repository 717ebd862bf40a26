"""Names of clusters by known markers."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd

from scmag_muon import _mudata, _values
from scmag_muon._checks import check_number
from scmag_muon._keys import Keys, check_key
from scmag_muon._made_from import made_from
from scmag_muon.tl._marker_lists import listed_markers, measured_markers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mudata import MuData

logger = logging.getLogger(__name__)

UNKNOWN = "unknown"
_N_SHOWN = 10


def annotate(
    mdata: MuData,
    *,
    markers: str | Path | pd.DataFrame | Mapping[str, Sequence[str] | Mapping[str, float]] = "blood",
    key: str = Keys.SCMAG,
    groupby: str | None = None,
    modalities: Sequence[str] | None = None,
    gene_symbols: str | None = None,
    min_score: float = 0.25,
    min_markers: int = 2,
    key_added: str | None = None,
) -> pd.DataFrame:
    """Name each cluster after the cell type whose markers it has, in all modalities together.

    The score of a type is the weighted mean of its markers (``decoupler.mt.waggr``), RNA as much as proteins, of how far the
    cluster's mean lies from the mean of all clusters, in standard deviations of the cells. What a type lacks can lower its
    score, and never raise it above that of the markers that it has. Clusters may share a name.

    Parameters
    ----------
    mdata
        Raw counts, and clusters.
    markers
        ``"blood"``: human blood and bone marrow (:func:`scmag_muon.datasets.blood_markers`). Or a mapping of types to markers,
        or to markers with weights, below 0 for what the type lacks. Or a table, or a CSV file, with the columns ``type`` and
        ``feature``, and, as you like, ``weight``, ``modality`` (a kind, ``"rna"`` or ``"protein"``, or a modality's name) and
        ``aliases`` (separated by spaces).
    key
        The ``key_added`` of :func:`scmag_muon.tl.scmag`.
    groupby
        Column of groups to name; ``None`` takes the clusters.
    modalities
        Modalities to look at; by default those that were joined. ATAC is left out: its features are no genes.
    gene_symbols
        Column of ``var`` that holds the gene symbols; ``None`` takes the feature names.
    min_score
        Clusters whose best score is lower are ``"unknown"``.
    min_markers
        Leave out types of which fewer markers of weight above 0 were measured.
    key_added
        Name under which types and scores are written; ``None`` is ``f"{key}_type"``.

    Returns
    -------
    A row per cluster: ``type``, ``score``, ``next_type`` and ``next_score``, the second best, and ``markers``, measured markers of
    the type that are higher in the cluster than in the mean of all, the highest first, up to ten, joined by ``;``. Written:

    ``mdata.obs[key_added]``
        Type of each cell's cluster, categorical.
    ``mdata.uns[key_added]``
        That ``table``; ``scores``, a row per cluster and a column per type, with ``_`` for slashes; ``markers``, the markers that were found, with the
        features that they are; ``params``.

    Raises
    ------
    ImportError
        Where decoupler is not installed.
    KeyError
        Where clusters, a modality or a column are not there.
    FileNotFoundError
        Where there is no such file.
    TypeError
        Where the markers of a type are a text, not a list.
    ValueError
        Where a weight is no number, no type has ``min_markers`` measured markers, there is one group only, or ``key_added`` is something else's.

    Notes
    -----
    Names of antibodies are compared without signs, kits and clones: ``"HLA.DR"``, ``"MHCII (HLA-DR)"`` and ``"ADT_HLA-DR-1"`` are one.
    A score compares the clusters with each other: in cells of one type alone, nothing stands out.
    Names are a start. Look at the second best, and at the markers.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=300, n_vars=200, n_prot=20, n_clusters=3)
    >>> ranked = smm.tl.markers(mdata, groupby="cell_type")
    >>> best = (
    ...     ranked[ranked["is_marker"]].groupby("cluster", observed=True)["feature"].agg(lambda names: list(names[:4]))
    ... )
    >>> table = smm.tl.annotate(mdata, markers={f"like {name}": best[name] for name in best.index}, groupby="cell_type")
    >>> table["type"].to_dict()
    {'type_0': 'like type_0', 'type_1': 'like type_1', 'type_2': 'like type_2'}
    """
    check_number("min_score", min_score, low=0)
    check_number("min_markers", min_markers, integer=True, low=1)
    decoupler = _decoupler()
    column = groupby or key
    labels = _values.cluster_column(mdata, column, argument="groupby")
    if len(labels.cat.categories) < 2:
        raise ValueError(f"{column!r} holds one group only: a type stands out against others.")
    names = _values.used_modalities(mdata, key, modalities)
    key_added = key_added or Keys.cell_type(key)
    check_key(key_added, argument="key_added")
    _mudata.check_free_record(mdata, key_added, "annotate", argument="key_added", derived=[key_added])
    listed, source = listed_markers(markers)
    found = measured_markers(mdata, listed, names, key, gene_symbols, min_markers)
    z = _standardised(mdata, list(dict.fromkeys(found["target"])), labels, key)
    scores = np.minimum(_scores(decoupler, z, found), _scores(decoupler, z, found[found["weight"] > 0]))
    table = _named(scores, z, found, min_score)
    types = labels.astype(str).map(table["type"])
    order = [*sorted(set(table["type"]) - {UNKNOWN}), *({UNKNOWN} & set(table["type"]))]
    params = {
        "key": key,
        "groupby": column,
        "markers": source,
        "modalities": names,
        "gene_symbols": gene_symbols,
        "min_score": min_score,
        "min_markers": min_markers,
    }
    counts = {name: _values.counts_layer(mdata, key, name) for name in dict.fromkeys(found["modality"])}
    stored = scores.set_axis(_mudata.column_names(scores.columns), axis=1)
    contents = {"params": params, "table": table, "scores": stored, "markers": found}
    sources = made_from(mdata, obs=[column], counts=counts)
    mdata.obs[key_added] = pd.Categorical(types.to_numpy(dtype=object), categories=order)
    mdata.uns[key_added] = _mudata.make_record("annotate", contents, made_from=sources, key=key)
    return table


def _decoupler() -> Any:
    try:
        with warnings.catch_warnings(), mpl.rc_context():  # what decoupler imports warns, and sets legends of its own
            warnings.simplefilter("ignore")
            import decoupler
    except ImportError:
        raise ImportError("Annotation needs decoupler. Install it with: pip install 'decoupler>=2'") from None
    return decoupler


def _standardised(mdata: MuData, targets: Sequence[str], labels: pd.Series, key: str) -> pd.DataFrame:
    """Mean of each cluster, in standard deviations of the cells from the mean of all clusters, ``(n_clusters, n_targets)``."""
    features = [_values.find_feature(mdata, target, list(mdata.mod)) for target in targets]
    values = _values.normalized_features(mdata, features, key=key, across="cells")
    cells = pd.DataFrame({str(feature): values[feature] for feature in features})[list(targets)]
    groups = pd.Categorical(labels.astype(str), categories=[str(name) for name in labels.cat.categories])
    means = cells.groupby(groups, observed=True).mean()
    spread = cells.std(ddof=0)
    return ((means - means.mean()) / spread.where(spread > 0, 1.0)).fillna(0.0).rename_axis("cluster")


def _scores(decoupler: Any, z: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Score of each cluster and type; a type's markers in one modality weigh as much as those in another."""
    weights = found["weight"] / found.groupby(["type", "modality"])["weight"].transform("size")
    net = pd.DataFrame({"source": found["type"], "target": found["target"], "weight": weights})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numba, at the first call
        scores, _ = decoupler.mt.waggr(z, net, fun="wmean", times=1, tmin=1)
    return scores.loc[z.index, list(dict.fromkeys(found["type"]))].rename_axis("cluster")


def _named(scores: pd.DataFrame, z: pd.DataFrame, found: pd.DataFrame, min_score: float) -> pd.DataFrame:
    order = np.argsort(-scores.to_numpy(), axis=1, kind="stable")
    sorted_scores = np.take_along_axis(scores.to_numpy(), order, axis=1)
    types = scores.columns.to_numpy()
    alone = scores.shape[1] < 2
    table = pd.DataFrame(
        {
            "type": np.where(sorted_scores[:, 0] >= min_score, types[order[:, 0]], UNKNOWN),
            "score": sorted_scores[:, 0],
            "next_type": "" if alone else types[order[:, 1]],
            "next_score": np.nan if alone else sorted_scores[:, 1],
        },
        index=scores.index,
    )
    shown = []
    for cluster, best in zip(scores.index, types[order[:, 0]], strict=True):
        positive = found[(found["type"] == best) & (found["weight"] > 0)]
        high = z.loc[cluster, list(dict.fromkeys(positive["target"]))].sort_values(ascending=False, kind="stable")
        shown.append(";".join(high.index[high > 0][:_N_SHOWN]))
    return table.assign(markers=shown)
