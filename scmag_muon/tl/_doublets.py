"""How much a cell looks like two: simulated doublets in RNA, surface proteins that no single cell has together."""

from __future__ import annotations

import logging
import warnings
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData
from sklearn.mixture import GaussianMixture

from scmag_muon import _values
from scmag_muon.tl._marker_lists import feature_places

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

logger = logging.getLogger(__name__)

LIKELY = 0.5
"""Score of a cell from which on it is taken for a doublet."""
_LINEAGES = {"T cell": ("CD3",), "B cell": ("CD19", "CD20"), "monocyte": ("CD14",), "CD4": ("CD4",), "CD8": ("CD8",)}
# monocytes have some CD4, and some T cells CD56
_TOGETHER = ({"T cell", "CD4"}, {"T cell", "CD8"}, {"monocyte", "CD4"})
_FEWEST_CELLS, _FEWEST_GENES, _MOST_GENES = 50, 30, 2000
_THRESHOLD = 0.25  # scrublet's score of a likely doublet
_APART = 2.0  # standard deviations between cells with and without a protein
_MOST_FITTED = 20_000


def doublet_scores(
    mdata: MuData, names: Sequence[str], batches: pd.Categorical | None, *, key: str, random_state: int | None
) -> pd.DataFrame:
    """Scores of each cell, 0 to 1: ``rna``, ``protein`` (missing where they can't be had) and ``score``, the two as one.

    ``rna`` is scrublet's, within each batch, brought to a scale on which a likely doublet has a half; ``protein`` the probability
    that the cell has two proteins of different lineages. ``score`` is the probability of one or the other.
    """
    found = pd.DataFrame({"rna": np.nan, "protein": np.nan}, index=mdata.obs_names)
    for name in names:
        kind = _values.kind_in_use(mdata, key, name)
        adata = mdata.mod[name]
        if kind == "rna" and found["rna"].isna().all():
            own = None if batches is None else batches[mdata.obs_names.get_indexer(adata.obs_names)]
            scores = _of_rna(_values.counts_in_use(mdata, key, name), own, random_state)
            found.loc[adata.obs_names, "rna"] = scores
        elif kind == "protein" and found["protein"].isna().all():
            found.loc[adata.obs_names, "protein"] = _of_proteins(mdata, name, key)
    known = found[["rna", "protein"]]
    found["score"] = (1 - (1 - known.fillna(0)).prod(axis=1)).where(known.notna().any(axis=1))
    return found


def _of_rna(counts: sp.csr_array, batches: pd.Categorical | None, random_state: int | None) -> np.ndarray:
    codes = np.zeros(counts.shape[0], dtype=int) if batches is None else np.asarray(batches.codes)
    found = np.full(counts.shape[0], np.nan)
    for batch in np.unique(codes):
        rows = np.flatnonzero(codes == batch)
        found[rows] = _scrublet(counts[rows], random_state)
    return found**2 / (found**2 + _THRESHOLD**2)


def _scrublet(counts: sp.csr_array, random_state: int | None) -> np.ndarray:
    genes = np.flatnonzero((counts > 0).sum(axis=0) >= 3)
    if counts.shape[0] < _FEWEST_CELLS or len(genes) < _FEWEST_GENES:
        return np.full(counts.shape[0], np.nan)
    adata = AnnData(sp.csr_matrix(counts[:, genes]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scanpy, about its own calls
        adata.layers["raw"] = adata.X.copy()
        sc.pp.normalize_total(adata)
        if len(genes) > _MOST_GENES:
            logs = sc.pp.log1p(adata, copy=True)
            sc.pp.highly_variable_genes(logs, n_top_genes=_MOST_GENES)
            adata = adata[:, logs.var["highly_variable"].to_numpy()].copy()
        # scrublet's own choice of genes can leave fewer than there are components
        simulated = sc.pp.scrublet_simulate_doublets(adata, layer="raw", random_seed=random_state or 0)
        for cells in (adata, simulated):
            sc.pp.normalize_total(cells, target_sum=1e6)
        sc.pp.scrublet(
            adata,
            simulated,
            threshold=_THRESHOLD,
            n_prin_comps=min(30, adata.n_vars - 1, adata.n_obs - 1),
            verbose=False,
            random_state=random_state or 0,
        )
    return adata.obs["doublet_score"].to_numpy(dtype=float)


def _of_proteins(mdata: MuData, name: str, key: str) -> np.ndarray | float:
    """The highest product of the probabilities to have two proteins that exclude each other."""
    places = feature_places(mdata, name, "protein")
    columns = {
        lineage: [mdata.mod[name].var_names.get_loc(places[plain.lower()]) for plain in own if plain.lower() in places]
        for lineage, own in _LINEAGES.items()
    }
    counts = _values.counts_in_use(mdata, key, name)
    has = {
        lineage: np.max([_probability(np.asarray(counts[:, [i]].toarray()).ravel()) for i in own], axis=0)
        for lineage, own in columns.items()
        if own
    }
    pairs = [pair for pair in combinations(has, 2) if set(pair) not in _TOGETHER]
    return np.max([has[one] * has[other] for one, other in pairs], axis=0) if pairs else np.nan


def _probability(counts: np.ndarray) -> np.ndarray:
    """How likely each cell has a protein, by a mixture of two normals of log(1 + count); 0 where there is one mode only."""
    values = np.log1p(counts)[:, None]
    step = max(1, len(values) // _MOST_FITTED)
    means = np.quantile(values, [0.3, 0.97])[:, None]
    if means[0, 0] == means[1, 0]:
        return np.zeros(len(values))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that has not converged is looked at below
        mixture = GaussianMixture(2, means_init=means, random_state=0).fit(values[::step])
    high, low = mixture.means_.ravel().argsort()[::-1]
    centers, spread = mixture.means_.ravel(), np.sqrt(mixture.covariances_.mean())
    if centers[high] - centers[low] < _APART * spread:
        return np.zeros(len(values))
    found = mixture.predict_proba(values)[:, high]
    # a wide normal would win at both ends
    found[values.ravel() >= centers[high]] = 1.0
    found[values.ravel() <= centers[low]] = 0.0
    return found
