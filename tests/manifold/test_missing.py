from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from scmag_muon.datasets import simulate_citeseq
from scmag_muon.manifold.joint import joint_space
from scmag_muon.manifold.missing import expected_scores
from scmag_muon.manifold.modality import FittedModality, make_modality
from scmag_muon.manifold.reference import fit

KINDS = {"rna": ("scaled", True), "prot": ("clr", False), "peaks": ("log", True)}


@pytest.fixture(scope="module", params=list(KINDS))
def learnt(request: pytest.FixtureRequest) -> tuple[FittedModality, sp.csr_array, np.ndarray]:
    mdata = simulate_citeseq(n_obs=200, n_vars=60, n_prot=30, n_clusters=4, random_state=2)
    counts = sp.csr_array(mdata["prot" if request.param == "prot" else "rna"].X)
    main, scales = KINDS[request.param]
    names = np.arange(counts.shape[1]).astype(str)
    modality = make_modality("it", "rna", counts, features=names, main=main, scales=scales)
    found, _ = fit([modality], joint_space([modality], 200, n_pcs=8), n_neighbors=8)
    one = found.modalities[0]
    return one, counts, one.components.scores(one.recipe.main_view(counts))


def test_with_all_features_scores_are_the_plain_ones(learnt: tuple) -> None:
    modality, counts, scores = learnt
    found = expected_scores(modality, counts, np.ones(counts.shape[1], bool), scores.var(axis=0))
    np.testing.assert_allclose(found, scores, atol=1e-3 * np.abs(scores).max())


def test_half_of_the_features_give_scores_nearer_to_those_of_all_than_with_the_others_at_their_means(
    learnt: tuple,
) -> None:
    modality, counts, scores = learnt
    measured = np.arange(counts.shape[1]) % 2 == 0
    found = expected_scores(modality, counts, measured, scores.var(axis=0))
    view = modality.recipe.main_view(counts).toarray() - modality.components.center
    at_means = view[:, measured] @ modality.components.loadings[measured]
    assert np.square(found - scores).sum() < np.square(at_means - scores).sum()
    assert at_means[:, 0] @ scores[:, 0] < found[:, 0] @ scores[:, 0] < 1.2 * scores[:, 0] @ scores[:, 0]
    assert np.abs(found.mean(axis=0)).max() < 0.25 * scores[:, 0].std()


def test_counts_of_missing_features_play_no_part(learnt: tuple) -> None:
    modality, counts, scores = learnt
    measured = np.arange(counts.shape[1]) % 3 > 0
    other = sp.csr_array(np.where(measured, counts.toarray(), 99).astype(np.float32))
    a, b = (expected_scores(modality, x, measured, scores.var(axis=0)) for x in (counts, other))
    np.testing.assert_array_equal(a, b)
