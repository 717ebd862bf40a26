"""The parts of the report, each as HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scmag_muon import _mudata, _values, pl
from scmag_muon._keys import Keys
from scmag_muon._levels import run_of
from scmag_muon._report import _html, _map, _query
from scmag_muon.metrics import clustering_scores

if TYPE_CHECKING:
    from mudata import MuData

_N_NAMED = 5
_UNDECIDED = 0.1  # nats
_ALIKE = 0.1
_MOST_LISTED = 50_000  # cells; more would fill the page
_MOST_MARKERS = 100
_MOST_COLORS = 100


def summary(mdata: MuData, key: str, labels: str | None) -> str:
    record = mdata.uns[key]
    names = _values.used_modalities(mdata, key)
    rows: dict[str, Any] = {"cells": mdata.n_obs, "clusters": len(_values.cluster_column(mdata, key).cat.categories)}
    if run_of(mdata, key) != key:
        rows["made from"] = f"{record['params']['key']}, by scmag_muon.tl.{record['verb']}"
    manifold_key = str(record["params"].get("manifold_key", Keys.MANIFOLD))
    shared = _mudata.plain(record.get("shared_features", {}))  # of a query
    for name in names:
        adata = mdata.mod[name]
        used = shared.get(name, adata.n_vars)
        if manifold_key in adata.var and name not in shared:
            used = int(adata.var[manifold_key].sum())
        if adata.n_obs < mdata.n_obs:
            rows[f"cells with {name}"] = f"{adata.n_obs:,} of {mdata.n_obs:,}"
        rows[f"features of {name}"] = f"{adata.n_vars:,}, of which {used:,} took part"
    if Keys.measured(key) in mdata.obs:
        sizes = mdata.obs[Keys.measured(key)].value_counts()
        rows["cells by what was measured"] = ", ".join(
            f"{pattern}: {size:,}" for pattern, size in sizes.items() if size
        )
    history = record.get("history")
    if history is not None:
        stages = history["stage"].astype(int).value_counts().sort_index()
        rows["epochs by stage"] = " + ".join(str(count) for count in stages)
    if labels is not None:
        known = _mudata.get_obs_column(mdata, labels, argument="labels")
        scores = clustering_scores(known, _values.cluster_column(mdata, key))
        rows |= {f"{name} with {labels}": float(score) for name, score in scores.items()}
    frame = pd.DataFrame({"value": rows.values()}, index=pd.Index(rows, name="what"))
    return _html.table(frame, caption="The run in figures.")


def clusters(mdata: MuData, key: str, labels: str | None, batch_key: str | None) -> str:
    column = _values.cluster_column(mdata, key)
    names = list(column.cat.categories)
    by_cluster = {name: (column == name).to_numpy() for name in names}
    frame = pd.DataFrame(index=pd.Index([str(name) for name in names], name="cluster"))
    frame["cells"] = [int(inside.sum()) for inside in by_cluster.values()]
    if Keys.cell_type(key) in mdata.uns:
        table = mdata.uns[Keys.cell_type(key)]["table"]
        frame["type"] = [f"{row.type} ({row.score:.2f})" for row in table.reindex(frame.index).itertuples()]
    frame["share"] = [f"{inside.mean():.1%}" for inside in by_cluster.values()]
    if Keys.confidence(key) in mdata.obs:
        confidence = mdata.obs[Keys.confidence(key)].to_numpy()
        frame["mean confidence"] = [float(confidence[inside].mean()) for inside in by_cluster.values()]
    if labels is not None:
        known = _mudata.get_obs_column(mdata, labels, argument="labels").astype(object).to_numpy()
        commonest = [pd.Series(known[inside]).value_counts(normalize=True) for inside in by_cluster.values()]
        frame[f"commonest {labels}"] = [f"{c.index[0]} ({c.iloc[0]:.0%})" if len(c) else "–" for c in commonest]
    ranked = mdata.uns.get(Keys.markers(key), {}).get("table")
    if ranked is not None:
        for modality, rows in ranked.groupby(ranked["modality"].astype(str), sort=False):
            found = _values.short_list(rows[rows["log2_fold_change"] > 0], _N_NAMED)
            texts = (
                found.groupby(found["cluster"].astype(str))["feature"]
                .agg(lambda each: ", ".join(map(str, each)))
                .astype(object)
            )
            frame[f"markers ({modality})"] = texts.reindex(frame.index).fillna("–").to_numpy()
    if Keys.cluster_qc(key) in mdata.uns:
        flags = mdata.uns[Keys.cluster_qc(key)]["table"]["flags"].astype(str).str.replace(";", ", ")
        frame["checks that fired"] = flags.reindex(frame.index).replace("", "–").to_numpy()
    carried = _query.labels_of(mdata, key) if _query.is_query(mdata, key) else []
    named = {labels: labels, Keys.cell_type(key): "type"}
    named |= {Keys.transferred(key, name): f"{name} (transferred)" for name in carried}
    named |= {batch_key: named.get(batch_key, batch_key)}
    columns = {column: str(name) for column, name in named.items() if column is not None and _is_column(mdata, column)}
    parts = [_map.cell_map(mdata, key, columns)] if _map.is_drawable(mdata) else []
    caption = "The clusters, the largest first, with the features of highest AUROC."
    if "type" in frame:
        caption += " In brackets: how well the type fits, in standard deviations."
    parts.append(_html.table(frame, caption=caption))
    parts.append(_html.download(frame, file="clusters.csv", text="Save this table as CSV"))
    if mdata.n_obs <= _MOST_LISTED:
        parts.append(
            _html.download(_of_cells(mdata, key), file="cells.csv", text="Save the cluster of each cell as CSV")
        )
    if ranked is not None:
        alt = f"Maps of {mdata.n_obs:,} cells: {len(names)} clusters, what is known of the cells, and each cluster's best markers."
        drawn = pl.overview(mdata, labels=labels, batch_key=batch_key, key=key)
        parts.append(_html.figure(drawn, alt=alt, caption=f"{alt} Markers: log(1 + normalised count)."))
    return "\n".join(parts)


def _is_column(mdata: MuData, column: str) -> bool:
    """Whether the map can be coloured by this column: it is there, and a legend can hold its values."""
    try:
        return 0 < len(_values.cluster_column(mdata, column).cat.categories) <= _MOST_COLORS
    except KeyError:
        return False


def _of_cells(mdata: MuData, key: str) -> pd.DataFrame:
    slots = [key, Keys.cell_type(key), Keys.confidence(key), Keys.doublet_score(key), Keys.measured(key)]
    return mdata.obs[[slot for slot in slots if slot in mdata.obs]].rename_axis("cell")


def annotation(mdata: MuData, key: str) -> str:
    found = mdata.uns[Keys.cell_type(key)]
    frame = found["table"].rename_axis("cluster")
    frame = frame.assign(markers=frame["markers"].astype(str).str.replace(";", ", "))
    frame.columns = [str(name).replace("_", " ") for name in frame.columns]
    alt = f"Map of the cells coloured by type, and scores of {found['scores'].shape[1]} types in {len(frame)} clusters."
    parts = [
        _html.paragraph(
            "A score is the mean of the type's markers in standard deviations from the mean of all clusters. Names are a start: look "
            "at the second best, and at the markers."
        ),
        _html.table(frame, caption="Types, their scores, the second best, and the markers that are higher here."),
        _html.download(frame, file="types.csv", text="Save this table as CSV"),
        _html.figure(pl.annotation(mdata, key=key), alt=alt, caption=f"{alt} Frames mark the names."),
    ]
    return "\n".join(parts)


def markers(mdata: MuData, key: str) -> str:
    parts = [
        _html.paragraph(
            "Wilcoxon's rank-sum test on normalised raw counts. The clusters were made from the same counts, so p values are a "
            "ranking and no proof; AUROC says how well one feature alone tells the cluster from the others."
        )
    ]
    n_clusters = len(_values.cluster_column(mdata, key).cat.categories)
    for modality in dict.fromkeys(mdata.uns[Keys.markers(key)]["table"]["modality"].astype(str)):
        alt = f"Dot plot of the best markers in {modality} of {n_clusters} clusters."
        caption = f"{alt} Colour: AUROC, 0.5 says nothing. Size: share of cells with any count."
        parts.append(_html.figure(pl.markers(mdata, modality=modality, key=key), alt=alt, caption=caption))
    table = mdata.uns[Keys.markers(key)]["table"]
    if "is_marker" in table:
        best = (
            table[table["is_marker"].astype(bool)].groupby(["modality", "cluster"], observed=True).head(_MOST_MARKERS)
        )
        text = f"Save the markers as CSV, up to {_MOST_MARKERS} of each cluster and modality"
        parts.insert(1, _html.download(best.set_index("cluster"), file="markers.csv", text=text))
    last = _values.used_modalities(mdata, key)[-1]
    alt = f"Heat map of the clusters' means in {last}, with a dendrogram of the clusters in the clustering space."
    parts.append(_html.figure(pl.heatmap(mdata, modality=last, key=key), alt=alt, caption=alt))
    return "\n".join(parts)


def tree(mdata: MuData, key: str) -> str:
    level, key = key, run_of(mdata, key)
    run, found = mdata.uns[key], mdata.uns[Keys.cluster_tree(key)]
    finest = int(found["params"]["n_clusters"])
    shown = f" This page is about the row of {mdata.uns[level]['n_clusters']}." if level != key else ""
    parts = [
        _html.paragraph(
            "Each row has one cluster more than the row above it. Below the grey row, that of the run, the most distinct group is "
            f"split off first, whatever its size: scmag_muon.tl.cut(mdata, n_clusters={finest}, key={key!r}) gives the last row.{shown}"
        )
    ]
    alt = f"Tree of the clusters, from 1 to {finest}, with the features that tell the two sides of each split apart."
    caption = f"{alt} Area: number of cells. AUROC: 0.5 says nothing."
    parts.append(_html.figure(pl.cluster_tree(mdata, key=key), alt=alt, caption=caption))
    if "levels" in run:
        as_good = ", ".join(str(n) for n in np.atleast_1d(run.get("as_good", []))) or "none"
        caption = (
            "How well each number of clusters agrees with communities that were found without it, 1 at best, and how far apart the two "
            f"clusters are that it parts, in standard deviations. As good as the number taken: {as_good}."
        )
        parts.append(_html.table(run["levels"].set_index("n_clusters").rename_axis("clusters"), caption=caption))
    return "\n".join(parts)


def batches(mdata: MuData, key: str) -> str:
    found = mdata.uns[Keys.batch_mixing(key)]["table"]
    before, after = (float(found.at[state, "mixing"]) for state in ("before", "after"))
    alt = f"Maps of the cells coloured by batch, before and after; mixing goes from {before:.2f} to {after:.2f}."
    table = _html.table(found.rename_axis("state"), caption="0: batches are apart; 1: mixed.")
    return table + _html.figure(pl.batch_mixing(mdata, key=key), alt=alt, caption=alt)


def further(mdata: MuData, key: str) -> str:
    """What was computed beyond the report's own needs."""
    parts = []
    if Keys.trajectory(key) in mdata.uns:
        root = mdata.uns[Keys.trajectory(key)]["params"]["root"]
        alt = f"PAGA graph of the clusters and diffusion pseudotime from root {root}."
        parts.append(_html.figure(pl.trajectory(mdata, key=key), alt=alt, caption=alt))
    if Keys.enrichment(key) in mdata.uns and (mdata.uns[Keys.enrichment(key)]["table"]["p_adjusted"] <= 0.05).any():
        alt = "Dot plot of the gene sets enriched in each cluster's markers."
        parts.append(_html.figure(pl.enrichment(mdata, key=key), alt=alt, caption=alt))
    if Keys.held_out(key) in mdata.uns:
        gain = float(mdata.uns[Keys.held_out(key)]["table"]["gain"].mean())
        alt = f"AUROC of known types' markers on held-out cells, raw and reconstructed; mean gain {gain:+.3f}."
        parts.append(_html.figure(pl.held_out_markers(mdata, key=key), alt=alt, caption=alt))
    return "\n".join(parts)


def inside(mdata: MuData, key: str) -> str:
    record = mdata.uns[key]
    parts = []
    manifold_key = str(record["params"].get("manifold_key", Keys.MANIFOLD))
    if any(manifold_key in adata.uns for adata in mdata.mod.values()):
        alt = (
            "Left: weights of the four views of each modality; at the dashed line all weigh alike. Right: weight of each modality in the "
            "joint neighbourhoods, and how well its neighbours replicate between two halves of its counts."
        )
        parts.append(_html.figure(pl.view_weights(mdata, manifold_key=manifold_key), alt=alt, caption=alt))
    if "gate" in record:
        lowest, highest = float(np.min(record["gate"])), float(np.max(record["gate"]))
        alt = f"Heat map of the gate, clusters by latent dimensions; values from {lowest:.2f} to {highest:.2f}."
        alike = " Clusters hardly differ in it." if highest - lowest < _ALIKE else ""
        parts.append(_html.figure(pl.gate(mdata, key=key), alt=alt, caption=f"{alt} 0 is closed, 1 open.{alike}"))
    if Keys.entropy(key) in mdata.obs and (mdata.obs[Keys.entropy(key)] > _UNDECIDED).any():
        alt = "Boxes of the soft assignment's entropy in each cluster."
        parts.append(_html.figure(pl.entropy(mdata, key=key), alt=alt, caption=f"{alt} 0: one cluster takes all."))
    if Keys.stability(key) in mdata.uns:
        alt = "Bars of each cluster's best Jaccard index with the clusters of other seeds."
        parts.append(_html.figure(pl.stability(mdata, key=key), alt=alt, caption=alt))
    if "history" in record:
        alt = f"Terms of the loss over {len(record['history'])} epochs in three stages."
        parts.append(_html.figure(pl.training(mdata, key=key), alt=alt, caption=alt))
    return "\n".join(parts)
