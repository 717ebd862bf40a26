from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData
from sklearn.metrics import roc_auc_score

from scmag_muon._mudata import make_mudata
from scmag_muon.tl._doublets import LIKELY, _probability, doublet_scores

if TYPE_CHECKING:
    from mudata import MuData

PROTEINS = ("CD3_TotalSeqB", "CD4", "CD8a", "CD19", "CD14", "CD16")
HAVE = {"CD4 T": (0, 1), "CD8 T": (0, 2), "B": (3,), "monocyte": (4,)}


def blood_with_doublets(n_doublets: int = 30) -> tuple[MuData, np.ndarray]:
    """100 cells of each of four types, and pairs of cells of different ones."""
    rng = np.random.default_rng(0)
    types = np.repeat(np.arange(4), 100)
    genes = np.full((4, 120), 0.4)
    for k in range(4):
        genes[k, 30 * k : 30 * (k + 1)] = 3.0
    proteins = np.full((4, len(PROTEINS)), 6.0)
    for k, own in enumerate(HAVE.values()):
        proteins[k, list(own)] = 150.0
    proteins[3, 1] = 25.0  # monocytes have some CD4
    counts = {"rna": rng.poisson(genes[types]), "prot": rng.poisson(proteins[types] * rng.gamma(8, 1 / 8, (400, 1)))}
    one = rng.integers(400, size=n_doublets)
    other = (one + 100 * rng.integers(1, 4, n_doublets)) % 400
    mods = {}
    for name, x in counts.items():
        both = np.vstack([x, x[one] + x[other]]).astype(np.float32)
        names = list(PROTEINS) if name == "prot" else [f"g{i}" for i in range(120)]
        mods[name] = AnnData(sp.csr_matrix(both), var=pd.DataFrame(index=names))
    return make_mudata(mods, None), np.arange(400 + n_doublets) >= 400


def test_pairs_of_cells_are_told_from_cells_in_each_modality() -> None:
    mdata, doublet = blood_with_doublets()
    scores = doublet_scores(mdata, ["rna", "prot"], None, key="scmag", random_state=0)
    for column in ("rna", "protein", "score"):
        assert scores[column].between(0, 1).all()
        assert roc_auc_score(doublet, scores[column]) > 0.9, column
    assert (scores.loc[~doublet, "score"] >= LIKELY).mean() < 0.02
    assert (scores.loc[doublet, "score"] >= LIKELY).mean() > 0.8
    np.testing.assert_allclose(scores["score"], 1 - (1 - scores["rna"]) * (1 - scores["protein"]))


def test_one_modality_alone_and_neither() -> None:
    mdata, doublet = blood_with_doublets()
    alone = doublet_scores(mdata, ["prot"], None, key="scmag", random_state=0)
    assert alone["rna"].isna().all()
    assert roc_auc_score(doublet, alone["score"]) > 0.9
    mdata["prot"].var_names = [f"X{i}" for i in range(len(PROTEINS))]
    assert doublet_scores(mdata, ["prot"], None, key="scmag", random_state=0)["score"].isna().all()


def test_batches_are_looked_at_apart_and_small_ones_not_at_all() -> None:
    mdata, _ = blood_with_doublets()
    batches = pd.Categorical(np.where(np.arange(430) % 10 == 0, "small", "large"))
    scores = doublet_scores(mdata, ["rna"], batches, key="scmag", random_state=0)
    assert scores.loc[batches == "small", "rna"].isna().all()
    alone = doublet_scores(mdata[batches == "large"].copy(), ["rna"], None, key="scmag", random_state=0)
    np.testing.assert_allclose(scores.loc[batches == "large", "rna"], alone["rna"])


def test_cells_that_lack_a_modality() -> None:
    mdata, _ = blood_with_doublets()
    part = make_mudata({"rna": mdata["rna"][:200].copy(), "prot": mdata["prot"]}, None)
    scores = doublet_scores(part, ["rna", "prot"], None, key="scmag", random_state=0).loc[part.obs_names]
    measured = part.obs_names.isin(part["rna"].obs_names)
    assert (scores["rna"].notna() == measured).all()
    np.testing.assert_allclose(scores.loc[~measured, "score"], scores.loc[~measured, "protein"], atol=1e-12)


@pytest.mark.parametrize("scale", [0, 3, 200])
def test_a_protein_of_one_mode_says_nothing(scale: float) -> None:
    counts = np.random.default_rng(0).poisson(scale, 2000).astype(float)
    assert _probability(counts).max() < 0.01


def test_a_protein_of_two_modes_tells_cells_apart() -> None:
    rng = np.random.default_rng(0)
    counts = np.concatenate([rng.poisson(5, 1800), rng.poisson(200, 200)]).astype(float)
    found = _probability(counts)
    assert found[:1800].max() < 0.1
    assert found[1800:].min() > 0.9
    assert found[counts.argmax()] == 1
