"""Sums of counts by sample, and their comparison by DESeq2."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from anndata import AnnData

FEWEST = 2  # samples on each side
SIDES = ["reference", "group"]
NAMES = {
    "stat": "score",
    "log2FoldChange": "log2_fold_change",
    "lfcSE": "standard_error",
    "baseMean": "mean_count",
    "pvalue": "p",
    "padj": "p_adjusted",
}
_LEAST_COUNT = 10  # of a feature in all pseudobulks


@dataclass(frozen=True)
class Packages:
    decoupler: Any
    dds: Any
    ds: Any
    inference: Any


def load_packages() -> Packages:
    try:
        with warnings.catch_warnings(), mpl.rc_context():  # both change settings of others when they are imported
            warnings.simplefilter("ignore")
            import decoupler
            from pydeseq2.dds import DeseqDataSet
            from pydeseq2.default_inference import DefaultInference
            from pydeseq2.ds import DeseqStats
    except ImportError as error:
        raise ImportError(
            f"Samples as replicates need {error.name or 'pydeseq2'}. Install it with: pip install 'decoupler>=2' 'pydeseq2>=0.5'"
        ) from None
    return Packages(decoupler, DeseqDataSet, DeseqStats, DefaultInference(n_cpus=1))


def sums(packages: Packages, counts: AnnData, samples: pd.Series, sides: pd.Series, min_cells: int) -> AnnData:
    """Sums of counts, a row per sample and side of ``min_cells`` or more; samples of both sides alone where there are two."""
    own = sides.reindex(counts.obs_names)
    cells = counts[own.notna().to_numpy()].copy()
    cells.obs["sample"] = samples.reindex(cells.obs_names).to_numpy()
    cells.obs["side"] = own[own.notna()].to_numpy()
    sizes = cells.obs.groupby(["sample", "side"], observed=True).size()
    large = [tuple(row) in set(sizes.index[sizes >= min_cells]) for row in cells.obs[["sample", "side"]].to_numpy()]
    cells = cells[np.array(large, dtype=bool)].copy()
    if cells.n_obs == 0:
        return cells
    both = cells.obs.groupby("sample", observed=True)["side"].nunique() == len(SIDES)
    if both.sum() >= FEWEST:
        cells = cells[cells.obs["sample"].map(both).to_numpy(dtype=bool)].copy()
    bulk: AnnData = packages.decoupler.pp.pseudobulk(cells, sample_col="sample", groups_col="side", mode="sum")
    return bulk[bulk.obs["psbulk_cells"] > 0].copy()  # decoupler makes a row for each pair of sample and side


def compared(packages: Packages, bulk: AnnData) -> pd.DataFrame:
    total = np.asarray(bulk.X).sum(axis=0)
    bulk = bulk[:, total >= _LEAST_COUNT].copy()
    bulk.obs["side"] = pd.Categorical(bulk.obs["side"].astype(str), categories=SIDES)
    both = bulk.obs.groupby("sample", observed=True)["side"].nunique()
    paired = bool((both == len(SIDES)).all())
    shares = {side: _share(bulk[bulk.obs["side"] == side]) for side in SIDES}
    n_samples = bulk.obs["side"].value_counts()
    counts = pd.DataFrame(np.asarray(bulk.X).astype(int), index=bulk.obs_names, columns=bulk.var_names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of trends that few features have not
        dds = packages.dds(
            counts=counts,
            metadata=bulk.obs[["sample", "side"]],
            design="~sample + side" if paired else "~side",
            size_factors_fit_type="poscounts",  # few cells: hardly a feature is in all sums
            inference=packages.inference,
            quiet=True,
        )
        dds.deseq2()
        found = packages.ds(
            dds,
            contrast=["side", "group", "reference"],
            independent_filter=False,
            inference=packages.inference,
            quiet=True,
        )
        found.summary()
    table = found.results_df.rename(columns=NAMES).rename_axis("feature")
    table["share"], table["share_others"] = shares["group"], shares["reference"]
    table["n_samples"], table["n_samples_reference"] = (int(n_samples[side]) for side in reversed(SIDES))
    return table.sort_values("p", kind="stable").reset_index()


def _share(bulk: AnnData) -> pd.Series:
    weights = bulk.obs["psbulk_cells"].to_numpy(dtype=float)
    shares = np.asarray(bulk.layers["psbulk_props"])
    return pd.Series(weights @ shares / weights.sum(), index=bulk.var_names)


def fault(bulk: AnnData, group: str, reference: str, min_cells: int) -> str | None:
    """Why a comparison can't be made."""
    for side, name in zip(SIDES, (reference, group), strict=True):
        found = [] if bulk.n_obs == 0 else sorted(bulk.obs.loc[bulk.obs["side"] == side, "sample"].astype(str))
        if len(found) < FEWEST:
            shown = ", ".join(map(repr, found)) or "none"
            return f"{group!r} against {reference!r}: samples of {name!r} with {min_cells} cells or more: {shown}"
    return None
