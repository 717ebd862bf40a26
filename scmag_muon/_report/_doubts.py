"""What in the data or the run should make a reader careful."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scmag_muon import _mudata, _values
from scmag_muon._keys import Keys
from scmag_muon._levels import run_of
from scmag_muon._report._query import doubts_of_query, is_query
from scmag_muon.manifold.information import discordant
from scmag_muon.model._clustering import AGREE, DOUBTFUL

if TYPE_CHECKING:
    from mudata import MuData

_FEW_CELLS = 500
_SMALL_CLUSTER = 20
_LOW_REPLICATION = 0.1
_LITTLE_WEIGHT = 0.5
_LOW_CONFIDENCE = 0.7
_LOW_COUNTS = 0.1
_SHARE_WITH_LOW_COUNTS = 0.01
_ONE_BATCH = 0.95
_LOW_STABILITY = 0.5
_LOW_AGREEMENT = {"fit_agreement": ("fitting", AGREE), "network_agreement": ("the network", DOUBTFUL)}
_OF_FLAGS = {
    "doublets": "half of the cells or more look like two cells in one droplet. Leave such cells out, and cluster again.",
    "low counts": "the cells have less than a quarter of the usual counts in a modality. They may be dying cells or debris.",
    "mitochondrial": "more than a fifth of the RNA is mitochondrial. The cells may be dying.",
    "near": "within three standard errors of the nearest cluster. The two may be one.",
}


def doubts(mdata: MuData, key: str, batch_key: str | None) -> list[str]:
    """Warnings about data and run, in plain sentences."""
    labels = _values.cluster_column(mdata, key)
    names = _values.used_modalities(mdata, key)
    found = []
    if mdata.n_obs < _FEW_CELLS:
        found.append(f"There are only {mdata.n_obs} cells: small types can't be told from chance.")
    for name in names:
        found += _of_modality(mdata, name, key)
    sizes = labels.value_counts()
    small = [f"{cluster} ({size})" for cluster, size in sizes.items() if size < _SMALL_CLUSTER]
    if small:
        found.append(f"Clusters of fewer than {_SMALL_CLUSTER} cells: {', '.join(small)}. Their markers are uncertain.")
    confidence = mdata.obs.get(Keys.confidence(key))
    if confidence is not None:
        means = confidence.groupby(labels, observed=True).mean()
        low = [str(cluster) for cluster, mean in means.items() if mean < _LOW_CONFIDENCE]
        if low:
            found.append(
                f"{_named(low)}: mean confidence below {_LOW_CONFIDENCE}. Many of the nearest cells are in other clusters."
            )
    if key in mdata.uns and not bool(mdata.uns[key].get("converged", True)):
        found.append(
            "Training ended before cells stopped changing clusters. More epochs (max_epochs=) may move cells still."
        )
    found += _of_agreement(mdata, key)
    if Keys.stability(key) in mdata.uns:
        table = mdata.uns[Keys.stability(key)]["table"]
        lost = [str(cluster) for cluster, mean in table.mean(axis=1).items() if mean < _LOW_STABILITY]
        if lost:
            found.append(f"{_named(lost)}: not found again with other seeds. Base no claim on this.")
    if key in mdata.uns and is_query(mdata, key):
        found += doubts_of_query(mdata, key)
    found += _of_health(mdata, key)
    found += _of_measured(mdata, labels, key)
    return found + _of_batches(mdata, labels, batch_key)


def _of_agreement(mdata: MuData, key: str) -> list[str]:
    """Where one way to find the clusters changes what they are."""
    record = mdata.uns.get(run_of(mdata, key), {})
    found = []
    for slot, (what, least) in _LOW_AGREEMENT.items():
        agreement = float(record.get(slot, 1.0))
        if agreement < least:
            found.append(
                f"Clusters with and without {what} differ (adjusted Rand index {agreement:.2f}): types may be hard to tell in these "
                "data. Trust clusters that have markers of their own."
            )
    return found


def _of_modality(mdata: MuData, name: str, key: str) -> list[str]:
    found = []
    found += _of_imputation(mdata, name, key)
    totals = np.asarray(_values.counts_in_use(mdata, key, name).sum(axis=1)).ravel()
    empty = int((totals == 0).sum())
    if empty:
        found.append(f"{empty} cells have no count at all in modality {name}.")
    few = int(((totals > 0) & (totals < _LOW_COUNTS * np.median(totals))).sum())
    if few > _SHARE_WITH_LOW_COUNTS * len(totals):
        found.append(f"{few} cells have less than a tenth of the median count in modality {name}: are they cells?")
    params = mdata.uns[key].get("params", {}) if key in mdata.uns else {}
    record = mdata.mod[name].uns.get(str(params.get("manifold_key", Keys.MANIFOLD)), {})
    replication = record.get("replication")
    alone = len(params.get("modalities", ())) == 1
    rest = "Clusters rest on nothing else." if alone else "Clusters rest on the others."
    if replication is not None and float(replication) < _LOW_REPLICATION:
        found.append(
            f"Modality {name} holds little information on which cells belong together: {float(replication):.1%} of "
            f"neighbours replicate between two halves of its counts. {rest}"
        )
    elif _is_discordant(mdata, name, key) and float(record["modality_weight"]) < _LITTLE_WEIGHT:
        found.append(
            f"Modality {name} knows next to nothing of the same cells as any other: concordance "
            f"{float(record['concordance']):.2f}. Are the cells paired? {rest}"
        )
    return found


def _is_discordant(mdata: MuData, name: str, key: str) -> bool:
    """As fitting judges it, from what it noted of all modalities."""
    params = mdata.uns[key].get("params", {}) if key in mdata.uns else {}
    slot = str(params.get("manifold_key", Keys.MANIFOLD))
    records = {other: adata.uns[slot] for other, adata in mdata.mod.items() if "concordance" in adata.uns.get(slot, {})}
    if name not in records:
        return False
    of = {
        what: np.array([float(record[what]) for record in records.values()]) for what in ("concordance", "replication")
    }
    return bool(discordant(of["concordance"], of["replication"], mdata.n_obs)[list(records).index(name)])


def _of_imputation(mdata: MuData, name: str, key: str) -> list[str]:
    adata = mdata.mod[name]
    scores = adata.var.get(Keys.imputation(key, "r"))
    if adata.n_obs == mdata.n_obs:
        return []
    lacking = f"{mdata.n_obs - adata.n_obs} of {mdata.n_obs} cells lack modality {name}"
    if scores is None or scores.isna().all():
        return [f"{lacking}: too few cells have it and another one to say how well it is imputed."]
    return [
        f"{lacking}: their counts are imputed. Held-out counts of its features correlate with imputed ones by "
        f"{scores.median():.2f} in the median."
    ]


def _of_health(mdata: MuData, key: str) -> list[str]:
    """What :func:`scmag_muon.tl.cluster_qc` found and no other check tells."""
    if Keys.cluster_qc(key) not in mdata.uns:
        return []
    flags = mdata.uns[Keys.cluster_qc(key)]["table"]["flags"].astype(str).str.split(";")
    found = []
    for flag, sentence in _OF_FLAGS.items():
        clusters = [str(cluster) for cluster, fired in flags.items() if flag in fired]
        if clusters:
            found.append(f"{_named(clusters)}: {sentence}")
    return found


def _named(clusters: list[str]) -> str:
    return f"Cluster{'s' * (len(clusters) > 1)} {', '.join(clusters)}"


def _of_measured(mdata: MuData, labels: pd.Series, key: str) -> list[str]:
    if Keys.measured(key) not in mdata.obs:
        return []
    alone = _from_one(labels, mdata.obs[Keys.measured(key)].astype(str))
    return (
        [f"Clusters of cells with the same modalities almost alone: {alone}. What cells lack may have set them apart."]
        if alone
        else []
    )


def _from_one(labels: pd.Series, origins: pd.Series) -> str:
    """Clusters nearly all of whose cells are of one origin, unless nearly all cells are."""
    shares = pd.crosstab(labels.astype(str).to_numpy(), origins.to_numpy(), normalize="index")
    if origins.value_counts(normalize=True).max() > 1 - (1 - _ONE_BATCH) * 2:
        return ""
    return ", ".join(f"{cluster} ({row.idxmax()})" for cluster, row in shares.iterrows() if row.max() > _ONE_BATCH)


def _of_batches(mdata: MuData, labels: pd.Series, batch_key: str | None) -> list[str]:
    batches = _mudata.get_batches(mdata, batch_key)
    if batches is None or len(batches.categories) < 2:
        return []
    alone = _from_one(labels, pd.Series(np.asarray(batches)).astype(str))
    if not alone:
        return []
    return [f"Clusters from one batch almost alone: {alone}. They may be a type of that batch, or the batch itself."]
