from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.decomposition import PCA

from scmag_muon.manifold.components import fit_components, principal_components
from scmag_muon.manifold.transforms import View, transform
from tests.reference import manifold as reference


def view_and_dense(kind: str, shape: tuple[int, int]) -> tuple[object, np.ndarray]:
    rng = np.random.default_rng(0)
    n_obs, n_vars = shape
    rates = np.exp(rng.normal(size=(n_obs, 6)) @ rng.normal(size=(6, n_vars)) / 2)
    counts = rng.poisson(rates).astype(float)
    return transform(sp.csr_array(counts), kind), reference.TRANSFORMS[kind](counts)


@pytest.mark.parametrize("kind", ["log", "zscore", "clr"])
@pytest.mark.parametrize(
    ("shape", "n_pcs"),
    [((120, 80), 10), ((60, 200), 10), ((120, 11), 10), ((120, 12), 10), ((120, 8), 10), ((9, 40), 10)],
    ids=["cells", "features", "11", "12", "few-features", "few-cells"],
)
def test_components_equal_scikit_learn(kind: str, shape: tuple[int, int], n_pcs: int) -> None:
    view, dense = view_and_dense(kind, shape)
    found = principal_components(view, n_pcs)
    kept = min(n_pcs, *shape)
    assert found.shape == (shape[0], kept)
    assert found.dtype == np.float32
    pca = PCA(kept, svd_solver="full").fit(dense)
    expected = pca.transform(dense)
    expected *= np.sign((expected * found).sum(axis=0))
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
    np.testing.assert_allclose(found.var(axis=0, ddof=1), pca.explained_variance_, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("shape", [(120, 80), (120, 8)])
def test_sign_of_components_is_fixed(shape: tuple[int, int]) -> None:
    view, dense = view_and_dense("log", shape)
    found = principal_components(view, 5)
    loadings = found.T @ (dense - dense.mean(axis=0))
    peaks = np.take_along_axis(loadings, np.abs(loadings).argmax(axis=1)[:, None], axis=1)
    assert (peaks > 0).all()
    np.testing.assert_array_equal(found, principal_components(view, 5))
    again = principal_components(view, 5, random_state=7)
    np.testing.assert_allclose(found, again, atol=1e-2 * np.abs(found).max())


@pytest.mark.parametrize("kind", ["log", "clr", "scaled"])
@pytest.mark.parametrize("shape", [(120, 80), (120, 8)])
def test_loadings_give_the_scores(kind: str, shape: tuple[int, int]) -> None:
    view, dense = view_and_dense(kind, shape)
    scores, components = fit_components(view, 5)
    np.testing.assert_allclose(components.scores(view), scores, atol=1e-4 * np.abs(scores).max())
    np.testing.assert_allclose(components.center, dense.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(
        (dense - dense.mean(axis=0)) @ components.loadings, scores, atol=1e-4 * np.abs(scores).max()
    )


def test_what_is_no_component_gives_no_score() -> None:
    view = transform(sp.csr_array(np.ones((30, 6), np.float32)), "log")
    scores, components = fit_components(view, 5)
    other = transform(sp.csr_array(np.arange(60.0).reshape(10, 6)), "log")
    assert not scores.any()
    assert not components.scores(other).any()


@pytest.mark.parametrize("n_pcs", [3, 30], ids=["leading vectors", "all vectors"])
def test_what_is_below_rounding_is_no_component(n_pcs: int) -> None:
    noise = np.random.default_rng(0).uniform(0, 1e-6, (40, 12)).astype(np.float32)
    view = View(sp.csr_array(noise), np.zeros(40, np.float32), np.zeros(12, np.float32))
    scores = principal_components(view, n_pcs)
    assert not scores.any()
