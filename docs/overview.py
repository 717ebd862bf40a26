"""Draw the picture of the README and of the landing page: ``python docs/overview.py`` (about a minute)."""

from __future__ import annotations

import warnings
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import muon as mu
import pandas as pd
import scanpy as sc

import scmag_muon as smm

PICTURE = Path(__file__).parent / "_static" / "overview.png"
COLOURS = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"]


def main() -> None:
    """Simulated cells as RNA alone, proteins alone and both together show them."""
    mdata = smm.datasets.simulate_citeseq(n_obs=1000, n_clusters=6)
    alone = {name: mod.copy() for name, mod in mdata.mod.items()}
    smm.tl.scmag(mdata, n_clusters=6, progress_bar=False)
    sc.pp.normalize_total(alone["rna"])
    sc.pp.log1p(alone["rna"])
    mu.prot.pp.clr(alone["prot"], axis=1)
    for name, adata in alone.items():
        sc.pp.pca(adata, n_comps=15)
        mdata.obsm[f"X_{name}_alone"] = adata.obsm["X_pca"]
    panels = [
        ("X_rna_alone", "cell_type", "RNA alone, by true type"),
        ("X_prot_alone", "cell_type", "proteins alone, by true type"),
        ("X_scmag", "cell_type", "scmag_muon, by true type"),
        ("X_scmag", "scmag", "scmag_muon, by cluster found"),
    ]
    types = dict(zip(mdata.obs["cell_type"].cat.categories, COLOURS, strict=True))
    commonest = pd.crosstab(mdata.obs["scmag"], mdata.obs["cell_type"]).idxmax(axis=1)
    colours = {"cell_type": types, "scmag": commonest.map(types).to_dict()}
    figure, axes = plt.subplots(2, 2, figsize=(7.5, 5), layout="constrained")
    for ax, (space, column, title) in zip(axes.flat, panels, strict=True):
        sc.pp.neighbors(mdata, use_rep=space)
        sc.tl.umap(mdata, random_state=0)
        ax.scatter(*mdata.obsm["X_umap"].T, c=mdata.obs[column].map(colours[column]).astype(str), s=4, linewidths=0)
        ax.set_title(title, fontsize=11)
        ax.axis("off")
    figure.savefig(PICTURE, dpi=100, metadata={"Software": None})


if __name__ == "__main__":
    mpl.use("agg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main()
