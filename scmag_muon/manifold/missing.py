"""Scores of cells in which some features of a modality were not measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scmag_muon.manifold.transforms import Standards

if TYPE_CHECKING:
    import scipy.sparse as sp

    from scmag_muon.manifold.modality import FittedModality, Recipe

_ROUNDS = 4


def expected_scores(
    modality: FittedModality, counts: sp.csr_array, measured: np.ndarray, variances: np.ndarray
) -> np.ndarray:
    r"""Scores on the components, features that were not measured at the values expected from the others, ``(n_obs, k)``.

    The expectation is that of probabilistic principal components (Tipping and Bishop, 1999): with :math:`x_o` the measured
    features less their means and :math:`W_o` their loadings, the other features lie at :math:`W_m \hat s` where
    :math:`\hat s = (W_o^T W_o + σ^2 Λ^{-1})^{-1} W_o^T x_o`. With all features measured these are the plain scores. A cell whose
    measured features are at their means keeps the missing ones at theirs.

    Parameters
    ----------
    modality
        Of the reference.
    counts
        Raw counts, ``(n_obs, n_vars)``, with anything in the columns of missing features.
    measured
        Which features were measured, bool, ``(n_vars,)``.
    variances
        Λ, variances of the reference's scores, ``(k,)``.
    """
    recipe = _restricted(modality.recipe, measured)
    view = recipe.main_view(counts[:, np.flatnonzero(measured)])
    loadings = modality.components.loadings.astype(np.float64)
    center = modality.components.center
    seen, unseen = loadings[measured], loadings[~measured]
    scores = view.scale * (view.values.tocsr() @ seen)
    scores += np.multiply.outer(view.row_offset, seen.sum(axis=0)) + (view.column_offset - center[measured]) @ seen
    used = variances > 1e-6 * variances.max(initial=0)
    if not used.any():
        return scores.astype(np.float32)
    noise = variances[used].min() / 2
    gram = seen.T @ seen
    whole = np.diag(np.where(np.square(loadings).sum(axis=0) > 0.5, 1.0, 0.0))
    precision = np.where(used, noise / np.where(used, variances, 1), 1)
    solve = np.linalg.inv(gram + np.diag(precision))
    estimate = scores @ solve.T
    if recipe.main == "clr":  # the mean of all logarithms is needed, and only that of the measured ones is known
        of_ones = seen.sum(axis=0)
        plain = scores
        for _ in range(_ROUNDS):
            lacking = (center[~measured].sum() + estimate @ unseen.sum(axis=0)) / measured.sum()
            scores = plain - np.multiply.outer(lacking, of_ones)
            estimate = scores @ solve.T
    return (scores + estimate @ (whole - gram).T).astype(np.float32)


def _restricted(recipe: Recipe, measured: np.ndarray) -> Recipe:
    """The recipe for the measured features alone: to the library size that they are expected to have."""

    def of(standards: Standards) -> Standards:
        return Standards(standards.mean[measured], standards.deviation[measured])

    return type(recipe)(
        main=recipe.main,
        median=float(recipe.standards.mean[measured].sum()) if recipe.median else 0.0,
        standards=of(recipe.standards),
        main_standards=None if recipe.main_standards is None else of(recipe.main_standards),
    )
