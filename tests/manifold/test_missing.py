from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from scmag_muon.datasets import simulate_citeseq
from scmag_muon.manifold.joint import joint_space
from scmag_muon.manifold.missing import narrowed, restricted
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


def scores_of(modality: FittedModality, counts: sp.csr_array, measured: np.ndarray, scores: np.ndarray) -> np.ndarray:
    narrow = narrowed(modality, measured, scores.var(axis=0))
    return narrow.components.scores(narrow.recipe.main_view(counts[:, np.flatnonzero(measured)]))


def test_with_all_features_scores_are_the_plain_ones(learnt: tuple) -> None:
    modality, counts, scores = learnt
    found = scores_of(modality, counts, np.ones(counts.shape[1], bool), scores)
    np.testing.assert_allclose(found, scores, atol=1e-3 * np.abs(scores).max())


def test_half_of_the_features_give_scores_nearer_to_those_of_all_than_with_the_others_at_their_means(
    learnt: tuple,
) -> None:
    modality, counts, scores = learnt
    measured = np.arange(counts.shape[1]) % 2 == 0
    found = scores_of(modality, counts, measured, scores)
    view = modality.recipe.main_view(counts).toarray() - modality.components.center
    at_means = view[:, measured] @ modality.components.loadings[measured]
    assert np.square(found - scores).sum() < np.square(at_means - scores).sum()
    assert at_means[:, 0] @ scores[:, 0] < found[:, 0] @ scores[:, 0] < 1.2 * scores[:, 0] @ scores[:, 0]
    assert np.abs(found.mean(axis=0)).max() < 0.25 * scores[:, 0].std()


def test_scores_are_those_of_cells_whose_missing_features_are_as_expected(learnt: tuple) -> None:
    modality, counts, scores = learnt
    measured = np.arange(counts.shape[1]) % 2 == 0
    variances = scores.var(axis=0).astype(np.float64)
    narrow, loadings = narrowed(modality, measured, variances), modality.components.loadings.astype(np.float64)
    seen, unseen, center = loadings[measured], loadings[~measured], modality.components.center
    view = narrow.recipe.main_view(counts[:, np.flatnonzero(measured)]).toarray().astype(np.float64)
    used = variances > 1e-6 * variances.max()
    seen, unseen, noise = seen[:, used], unseen[:, used], variances[used].min() / 2
    missing = np.tile(center[~measured], (len(view), 1))
    for _ in range(200):  # log-ratios of the measured features follow from what the others are expected to be
        lacking = missing.sum(axis=1, keepdims=True) / measured.sum() if narrow.recipe.main == "clr" else 0
        s = np.linalg.solve(
            seen.T @ seen + noise * np.diag(1 / variances[used]), seen.T @ (view - lacking - center[measured]).T
        ).T
        missing = center[~measured] + s @ unseen.T
    expected = (view - lacking - center[measured]) @ seen + (missing - center[~measured]) @ unseen
    found = narrow.components.scores(narrow.recipe.main_view(counts[:, np.flatnonzero(measured)]))
    np.testing.assert_allclose(found[:, used], expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("known", [True, False])
def test_cells_seen_by_half_a_panel_lie_among_the_reference_whatever_the_batches_differ_by(known: bool) -> None:
    mdata = simulate_citeseq(n_obs=400, n_vars=60, n_prot=20, n_clusters=4, random_state=2)
    codes = np.arange(400) % 2
    table = mdata["prot"].X.toarray()
    table[codes == 1] *= np.where(np.arange(20) % 4 < 2, 8, 1)  # of half of the panel, the measured half among them
    counts = sp.csr_array(table.astype(np.float32))
    own, further = np.arange(300), np.arange(300, 400)
    names = np.arange(20).astype(str)
    modality = make_modality("prot", "protein", counts[own], features=names, main="clr", scales=False)
    joint = joint_space([modality], 300, n_pcs=8, batches=codes[own], n_batches=2)
    learnt, _ = fit([modality], joint, n_neighbors=8, batches=["a", "b"], codes=codes[own])
    measured = np.arange(20) % 4 % 2 == 0
    seen = restricted(learnt, {"prot": measured}, {"prot": counts[own]})
    batches = np.where(codes == 1, "b", "a") if known else np.full(400, "new")
    # a batch that is not known is one batch: here cells of the first alone
    further = further if known else further[codes[further] == 0]
    found = seen.embed({"prot": counts[further][:, np.flatnonzero(measured)]}, batches=batches[further])
    to_reference, among = (nearest_distance(of, seen.joint, skip) for of, skip in ((found, 0), (seen.joint, 1)))
    assert np.median(to_reference) < 1.3 * np.median(among)
    positions = [seen.joint[codes[own] == code].mean(axis=0) for code in (0, 1)]
    assert np.linalg.norm(positions[0] - positions[1]) < 0.3 * np.sqrt(seen.joint.var(axis=0).sum())


def nearest_distance(x: np.ndarray, reference: np.ndarray, skip: int) -> np.ndarray:
    return np.sort(np.linalg.norm(x[:, None] - reference[None], axis=2), axis=1)[:, skip]


def test_a_fit_of_all_features_is_seen_as_it_is() -> None:
    mdata = simulate_citeseq(n_obs=60, n_vars=30, n_prot=8, n_clusters=2)
    counts = sp.csr_array(mdata["rna"].X)
    modality = make_modality("rna", "rna", counts, features=np.arange(30).astype(str), main="scaled", scales=True)
    learnt, _ = fit([modality], joint_space([modality], 60, n_pcs=5), n_neighbors=8)
    seen = restricted(learnt, {"rna": np.ones(30, bool)}, {"rna": counts})
    np.testing.assert_array_equal(seen.joint, learnt.joint)
