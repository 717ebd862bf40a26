"""Annotation, doublets and confidence against published labels.

    python tests/benchmarks/annotation.py ../shared/data/{teaseq_pbmc_rna_adt,pbmc10k_citeseq,bmmc_cite}.h5mu

For each set: the share of labelled cells that the list of the package names as their published broad type, with the published
labels as clusters and with those of runs (a column ``batch`` is their ``batch_key``); the area under
the ROC curve of the doublet score for pairs of cells of different types that were added (5 %); and, for the runs, the expected
calibration error of confidence and of the soft assignment of eq. 31, in ten bins, where a cell is right whose label is its cluster's
commonest. Figures of runs are means over seeds.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pandas as pd
import results
import scipy.sparse as sp
from anndata import AnnData
from common import known, markdown
from sklearn.metrics import roc_auc_score

import scmag_muon as smm
from scmag_muon._mudata import make_mudata
from scmag_muon.tl._doublets import LIKELY, doublet_scores

if TYPE_CHECKING:
    from mudata import MuData

COMMAND = "python tests/benchmarks/annotation.py FILES --results tests/benchmarks/results/annotation.json"
BROAD = {
    "CD4 T cell": "T.CD4|CD4+ T|CD4 T|T reg",
    "CD8 T cell": "T.CD8|CD8+ T|CD8 T",
    "Gamma-delta T cell": "gdT",
    "MAIT cell": "MAIT",
    "B cell": "B.Naive|B.Activated|B cells|Naive CD20+ B|Transitional B|B1 B",
    "Plasma cell": "Plasma",
    "CD14 monocyte": "Mono.CD14|CD14+ mono",
    "CD16 monocyte": "Mono.CD16|CD16+ mono",
    "NK cell": "NK|ILC",
    "Conventional dendritic cell": "DC.Myeloid|cDC|Dendritic cells",
    "Plasmacytoid dendritic cell": "pDC",
    "Platelet": "Platelets",
    "Erythroid cell": "Reticulocyte|Normoblast|Erythroblast|Proerythroblast",
    "Hematopoietic progenitor": "G/M prog|Lymph prog|HSC|MK/E prog|ID2-hi myeloid prog",
}


def broad(label: str) -> str | None:
    """The type of the package's list for a published label, by how it begins."""
    for name, starts in BROAD.items():
        if label.lower().startswith(tuple(start.lower() for start in starts.split("|"))):
            return name
    return None


def with_doublets(mdata: MuData, types: pd.Series, share: float = 0.05) -> tuple[MuData, np.ndarray]:
    """The cells, and sums of pairs of cells of different types."""
    rng, labels = np.random.default_rng(0), types.to_numpy(dtype=object)
    typed = np.flatnonzero(types.notna())
    pairs: list[np.ndarray] = []
    while len(pairs) < round(share * mdata.n_obs):
        pair = rng.choice(typed, 2)
        if labels[pair[0]] != labels[pair[1]]:
            pairs.append(pair)
    one, other = np.transpose(pairs)
    mods = {}
    for name in ("rna", "prot"):
        counts = sp.csr_matrix(mdata[name].X)
        both = sp.vstack([counts, counts[one] + counts[other]]).tocsr()
        mods[name] = AnnData(both, var=mdata[name].var[[]])
    return make_mudata(mods, None), np.arange(mdata.n_obs + len(pairs)) >= mdata.n_obs


def calibration_error(confidence: np.ndarray, right: np.ndarray, n_bins: int = 10) -> float:
    """Mean over bins of equal width of the difference between confidence and share that is right, weighted by cells."""
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    parts = [bins == k for k in range(n_bins) if (bins == k).any()]
    return float(sum(abs(confidence[part].mean() - right[part].mean()) * part.mean() for part in parts))


def is_right(labels: pd.Series, clusters: pd.Series) -> np.ndarray:
    """Whether a cell's label is the commonest of its cluster."""
    commonest = labels.groupby(clusters.to_numpy()).agg(lambda each: each.value_counts().index[0])
    return (labels.to_numpy() == clusters.map(commonest.to_dict()).to_numpy()).astype(bool)


def of_set(path: Path, *, n_seeds: int) -> dict[str, Any]:
    """All figures of one set."""
    mdata = mudata.read_h5mu(path)
    labels = known(mdata.obs["cell_type"].astype(object)).astype(str)
    types = labels.map(broad)
    mdata.obs["published"] = labels.reindex(mdata.obs_names)
    smm.tl.annotate(mdata, groupby="published", key_added="from_published")
    row: dict[str, Any] = {"set": path.stem, "cells": f"{len(labels):,}"}
    row["named, published clusters"] = _share(mdata.obs["from_published"], types)
    runs = pd.DataFrame([_of_run(mdata, labels, types, seed) for seed in range(n_seeds)])
    for what in runs:
        print(f"{path.stem}, {what}: {', '.join(f'{value:.3f}' for value in runs[what])}", flush=True)
    row |= runs.mean().to_dict()
    together, doublet = with_doublets(mdata, mdata.obs["published"])
    scores = doublet_scores(together, ["rna", "prot"], None, key="scmag", random_state=0)
    row["AUROC of doublets"] = roc_auc_score(doublet, scores["score"])
    for what, rows in (("doublets flagged", doublet), ("other cells flagged", ~doublet)):
        row[what] = (scores["score"][rows] >= LIKELY).mean()
    return row


def _of_run(mdata: MuData, labels: pd.Series, types: pd.Series, seed: int) -> dict[str, float]:
    """Share of cells that get the name of their published type, and calibration errors, of one run."""
    batch_key = "batch" if mdata.obs.get("batch", pd.Series(dtype=str)).nunique() > 1 else None
    smm.tl.scmag(mdata, n_clusters=labels.nunique(), batch_key=batch_key, random_state=seed, progress_bar=False)
    smm.tl.annotate(mdata)
    right = is_right(labels, mdata.obs["scmag"].astype(str).loc[labels.index])
    of_run = {"named, clusters of a run": _share(mdata.obs["scmag_type"], types)}
    for slot in ("confidence", "q"):
        sure = mdata.obs[f"scmag_{slot}"].loc[labels.index].to_numpy()
        of_run[f"calibration error of {slot}"] = calibration_error(sure, right)
    return of_run


def _share(named: pd.Series, types: pd.Series) -> float:
    of_known = types.dropna()
    return float((named.astype(str).loc[of_known.index] == of_known).mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each set")
    parser.add_argument("--results", type=Path, help="JSON file of the docs' table to put the rows into")
    arguments = parser.parse_args()
    logging.getLogger("scmag_muon").setLevel(logging.ERROR)
    found = [of_set(path, n_seeds=arguments.seeds) for path in arguments.files]
    print(markdown(pd.DataFrame(found).set_index("set").round(3).T, index="figure"))
    if arguments.results:
        results.merge(arguments.results, found, command=COMMAND, n_keys=1)
