"""What the command line prints and writes as tables."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pandas as pd

from scmag_muon import tl
from scmag_muon._files import written_aside
from scmag_muon._keys import Keys
from scmag_muon._mudata import get_obs_column
from scmag_muon.metrics import clustering_scores

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mudata import MuData

CSV_FILES = ("clusters.csv", "cluster_summary.csv", "markers.csv")


def cluster_table(mdata: MuData, labels: str | None, *, key: str = Keys.SCMAG) -> pd.DataFrame:
    """Size, mean confidence, type where it was named and, with labels, the commonest label of each cluster."""
    cluster = mdata.obs[key]
    confidence = mdata.obs[Keys.confidence(key)]
    table = pd.DataFrame(
        {
            "cells": cluster.value_counts().reindex(cluster.cat.categories),
            "confidence": confidence.groupby(cluster, observed=True).mean(),
        }
    )
    if Keys.cell_type(key) in mdata.uns:
        table["type"] = mdata.uns[Keys.cell_type(key)]["table"]["type"]
    if labels is not None:
        known = get_obs_column(mdata, labels, argument="--labels")
        shares = (
            pd.crosstab(cluster, known.astype(object), normalize="index").reindex(cluster.cat.categories).fillna(0.0)
        )
        table[f"commonest {labels}"] = shares.idxmax(axis=1).where(shares.max(axis=1) > 0, "–")
        table["share"] = shares.max(axis=1)
    return table.rename_axis("cluster").round(3)


def summary(mdata: MuData, labels: str | None, seconds: Mapping[str, float], *, key: str = Keys.SCMAG) -> str:
    """One line per figure: cells, features, seconds, memory, K and agreement with the labels."""
    record = mdata.uns[key]
    manifold_key = record["params"]["manifold_key"]
    used = [f"{int(mdata.mod[m].var[manifold_key].sum())} {m}" for m in record["params"]["modalities"]]
    stages = record["history"]["stage"].value_counts().reindex([1.0, 2.0, 3.0], fill_value=0).astype(int)
    parts = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
    lines = {
        "cells": str(mdata.n_obs),
        "features": " + ".join(used),
        "clusters": str(record["n_clusters"]),
        "epochs": " + ".join(map(str, stages)),
        "seconds": f"{sum(seconds.values()):.1f} ({parts})",
        "peak memory": _peak_memory(),
    }
    if labels is not None:
        known = get_obs_column(mdata, labels, argument="--labels")
        lines |= {name: f"{score:.3f}" for name, score in clustering_scores(known, mdata.obs[key]).items()}
    return "\n" + "\n".join(f"{name:<12}{value}" for name, value in lines.items())


def write_csv(mdata: MuData, folder: Path, labels: str | None, *, key: str = Keys.SCMAG) -> list[Path]:
    """Clusters of the cells, summary of the clusters and their markers, one file each; the files' names are fixed."""
    columns = [key, Keys.confidence(key)]
    columns += [Keys.cell_type(key)] * (Keys.cell_type(key) in mdata.uns)
    tables = {
        "clusters.csv": mdata.obs[columns].rename_axis("cell"),
        "cluster_summary.csv": cluster_table(mdata, labels, key=key),
        "markers.csv": _markers(mdata, key),
    }
    folder.mkdir(exist_ok=True)
    for name in CSV_FILES:
        with written_aside(folder / name) as draft:
            tables[name].to_csv(draft, float_format="%.5g")
    return [folder / name for name in CSV_FILES]


def holds_tables(folder: Path) -> bool:
    """Whether there are tables in the folder already."""
    return any((folder / name).exists() for name in CSV_FILES)


def _markers(mdata: MuData, key: str) -> pd.DataFrame:
    sizes = mdata.obs[key].value_counts()
    if (sizes > 0).sum() < 2 or sizes.max() < 2:
        return pd.DataFrame(columns=["feature"]).rename_axis("cluster")  # nothing to compare
    table = tl.markers(mdata, key=key)
    return table[table["is_marker"]].set_index(
        "cluster"
    )  # a row for each feature and cluster would be tens of megabytes


def _peak_memory() -> str:
    try:
        import resource
    except ImportError:  # Windows
        return "not known on this system"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"{peak / (1024**3 if sys.platform == 'darwin' else 1024**2):.2f} GB"
