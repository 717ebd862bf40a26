"""A small MuData as ``tl.scmag`` leaves it, made by hand so that no training, no library's random numbers change it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData

from scmag_muon import _fingerprint
from scmag_muon._mudata import make_mudata, to_uns
from scmag_muon.tl._levels import grow_levels, to_record
from scmag_muon.tl._start import Start

if TYPE_CHECKING:
    from mudata import MuData

SIZES = (70, 50, 40, 20)
TYPES = ("T cells", "monocytes", "B cells", "NK cells")
N_GENES, N_PROTEINS, OWN = 60, 10, 8
VIEWS = ("clr_rbf", "log_poly", "log_rbf", "zscore_poly")


def finished() -> MuData:
    """180 cells in 4 clusters; genes ``g8k`` to ``g8k+7`` and proteins ``p2k``, ``p2k+1`` are high in cluster k; ``p9`` is rare."""
    rng = np.random.default_rng(7)
    labels = np.repeat(np.arange(4), SIZES)
    n = len(labels)
    depth = rng.gamma(8, 1 / 8, size=(n, 1))
    rates = {"rna": np.full((n, N_GENES), 0.6), "prot": np.full((n, N_PROTEINS), 4.0)}
    for k in range(4):
        rates["rna"][labels == k, OWN * k : OWN * (k + 1)] = 3.5
        rates["prot"][labels == k, 2 * k : 2 * k + 2] = 40.0
    rates["prot"][:, 9] = 0.02
    cells = [f"cell{i}" for i in range(n)]
    mods = {}
    for name, prefix in (("rna", "g"), ("prot", "p")):
        counts = rng.poisson(rates[name] * depth)
        smooth = np.stack([counts[labels == k].mean(axis=0) for k in range(4)])[labels] + 0.01
        adata = AnnData(
            sp.csr_matrix(counts.astype(np.float32)),
            obs=pd.DataFrame(index=cells),
            var=pd.DataFrame({"manifold": True}, index=[f"{prefix}{i}" for i in range(counts.shape[1])]),
            layers={"scmag": smooth.astype(np.float32)},
        )
        weights = dict(zip(VIEWS, (0.2, 0.3, 0.35, 0.15), strict=True))
        adata.uns["manifold"] = to_uns(
            {
                "params": {"n_neighbors": 15},
                "view_weights": weights,
                "replication": 0.3 if name == "rna" else 0.05,
                "modality_weight": 0.8 if name == "rna" else 0.6,
            }
        )
        mods[name] = adata
    known = np.array(TYPES, dtype=object)[labels]
    known[::20] = "unknown"
    batch = np.where(np.arange(n) % 3 == 0, "a", "b")
    mdata = make_mudata(mods, pd.DataFrame({"cell_type": pd.Categorical(known), "batch": batch}, index=cells))
    mdata.obs["scmag"] = pd.Categorical(labels.astype(str))
    mdata.obs["scmag_confidence"] = rng.uniform(0.85, 1, n)
    mdata.obs["scmag_q"] = 0.99
    mdata.obs["scmag_entropy"] = rng.uniform(0, 0.5, n) * (labels + 1)
    centers = np.zeros((4, 32))
    centers[[0, 1, 2, 3], [0, 1, 2, 2]] = [3, 3, 3, 5]
    mdata.obsm["X_scmag"] = (centers[labels] + rng.normal(0, 0.6, (n, 32))).astype(np.float32)
    places = np.array([[0, 0], [6, 1], [3, 6], [7, 6]])
    mdata.obsm["X_umap"] = places[labels] + rng.normal(0, 0.8, (n, 2))
    stage = np.repeat([1.0, 2.0, 3.0], [4, 3, 3])
    loss = np.linspace(9, 5, 10)
    gate = pd.DataFrame(
        0.9 - 0.1 * np.arange(4)[:, None] * (np.arange(32) > 15)[None, :] + np.linspace(0, 0.02, 32),
        index=pd.Index(list("0123"), name="cluster"),
        columns=[f"{name} {i + 1}" for name in ("rna", "prot") for i in range(16)],
    )
    mdata.uns["scmag"] = to_uns(
        {
            "params": {
                "modalities": ["rna", "prot"],
                "batch_key": "batch",
                "layer": None,
                "manifold_key": "manifold",
                "ablate": [],
                "settings": "default",
                "max_epochs_pretrain": 4,
                "max_epochs": 2,
                "batch_size": 64,
                "model_kwargs": {},
                "plan_kwargs": {},
            },
            "n_clusters": 4,
            "history": pd.DataFrame({"stage": stage, "reconstruction_rna": loss, "kl": loss / 3, "loss": loss}),
            "gate": gate,
            "converged": True,
            "versions": {"scmag-muon": "0.1.0"},
        }
    )
    # UMAP's weights would be compiled for half a minute
    sc.pp.neighbors(mdata, use_rep="X_scmag", transformer="sklearn", method="gauss")
    sc.tl.dendrogram(mdata, groupby="scmag", use_rep="X_scmag")
    return mdata


def add_tree(mdata: MuData) -> None:
    """Add a tree of clusters: the two largest of the 4 clusters fall apart in two leaves each."""
    codes = mdata.obs["scmag"].cat.codes.to_numpy().astype(int)
    half = np.arange(mdata.n_obs) % 2
    communities = np.where(codes < 2, 2 * codes + half, codes + 2)
    space = 4.0 * np.eye(6)[communities] + 3.0 * np.eye(6)[2 * codes.clip(max=2)]
    space[:, 0] += 3 * (codes == 3)
    space += np.random.default_rng(3).normal(scale=0.8, size=space.shape)
    mdata.obsm["X_manifold_unfitted"] = space.astype(np.float32)
    start = Start(communities[:, None], [np.eye(6)])
    latent = np.asarray(mdata.obsm["X_scmag"])
    levels = grow_levels(codes, start, space=space, latent=latent, random_state=0)
    mdata.obs["scmag_leaf"] = levels.leaves
    made_from = {"cells": _fingerprint.of_cells(mdata.obs_names)}
    mdata.uns["scmag"] = {
        **mdata.uns["scmag"],
        "tree": to_uns(to_record(levels, mdata.obs_names)),
        "made_from": made_from,
    }
