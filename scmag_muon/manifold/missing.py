"""The fit as cells see it in which some features were not measured."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from scmag_muon.manifold.alignment import batch_positions
from scmag_muon.manifold.components import Components
from scmag_muon.manifold.fusion import Moments
from scmag_muon.manifold.joint import foretell
from scmag_muon.manifold.transforms import Standards

if TYPE_CHECKING:
    from collections.abc import Mapping

    import scipy.sparse as sp

    from scmag_muon.manifold.fit import ManifoldFit
    from scmag_muon.manifold.modality import FittedModality, Recipe


def restricted(fit: ManifoldFit, measured: Mapping[str, np.ndarray], counts: Mapping[str, sp.csr_array]) -> ManifoldFit:
    """The fit as cells see it of which features were not measured: of the others alone, the reference's cells among them.

    Missing features are taken to be what the others let expect (:func:`narrowed`), in the
    reference's cells too. So further cells are compared with cells that are seen alike, and batches lie where they do as
    seen by these features.

    Parameters
    ----------
    measured
        For some of the modalities which of the features were measured, bool, ``(n_vars,)``.
    counts
        For each of these, raw counts of the reference's cells that have it, of all features, CSR, ``(n_own, n_vars)``.
    """
    blocks, modalities = fit.blocks(fit.joint), list(fit.modalities)
    for i, modality in enumerate(fit.modalities):
        mask = measured.get(modality.name)
        if mask is None or mask.all():
            continue
        scale = modality.weight / max(modality.spread, 1e-12)
        variances = (blocks[i][modality.cells] / max(scale, 1e-12)).var(axis=0, dtype=np.float64)
        narrow = narrowed(modality, mask, variances)
        scores = narrow.components.scores(narrow.recipe.main_view(counts[modality.name][:, np.flatnonzero(mask)]))
        codes = fit.codes[modality.cells] if fit.batches else None
        centers = batch_positions(scores, codes, len(modality.centers))
        blocks[i] = np.zeros_like(blocks[i])
        blocks[i][modality.cells] = (scores if codes is None else scores - centers[codes]) * np.float32(scale)
        modalities[i] = replace(narrow, centers=centers)
    weights = np.array([modality.weight for modality in modalities])
    joint = np.hstack(foretell(blocks, fit.present, blocks, fit.present, weights))
    return replace(fit, modalities=tuple(modalities), joint=joint)


def narrowed(modality: FittedModality, measured: np.ndarray, variances: np.ndarray) -> FittedModality:
    r"""The modality with the measured features alone, whose components take the others to be what these let expect.

    The expectation is that of probabilistic principal components (Tipping and Bishop, 1999): with :math:`x_o` the measured
    features less their means and :math:`W_o` their loadings, the other features lie at :math:`W_m \hat s` where
    :math:`\hat s = (W_o^T W_o + σ^2 Λ^{-1})^{-1} W_o^T x_o`. The scores :math:`W_o^T x_o + W_m^T W_m \hat s` are linear in
    :math:`x_o`, so they are components of the measured features. With all features measured they are the plain scores. A cell whose
    measured features are at their means keeps the missing ones at theirs.

    Centred log-ratios are relative to the mean of all logarithms, of which only the measured ones are known: the others
    are put at their expectation there too.

    Parameters
    ----------
    modality
        Of the reference.
    measured
        Which features were measured, bool, ``(n_vars,)``.
    variances
        Λ, variances of the reference's scores, ``(k,)``.
    """
    recipe = _restricted(modality.recipe, measured)
    loadings, center = modality.components.loadings.astype(np.float64), modality.components.center
    seen, unseen, own_center = loadings[measured], loadings[~measured], center[measured]
    used = variances > 1e-6 * variances.max(initial=0)
    of_seen = seen
    if used.any():
        noise = variances[used].min() / 2
        gram = seen.T @ seen
        whole = np.diag(np.where(np.square(loadings).sum(axis=0) > 0.5, 1.0, 0.0))
        precision = np.where(used, noise / np.where(used, variances, 1), 1)
        estimate = np.linalg.inv(gram + np.diag(precision)).T
        if recipe.main == "clr":
            expected, n_measured = estimate @ unseen.sum(axis=0), measured.sum()
            of_seen = seen - np.multiply.outer(seen @ expected, seen.sum(axis=0)) / (
                n_measured + seen.sum(axis=0) @ expected
            )
            own_center = own_center + center[~measured].sum() / n_measured
        of_seen = of_seen + of_seen @ estimate @ (whole - gram).T
    moments = modality.moments
    return replace(
        modality,
        features=modality.features[measured],
        recipe=recipe,
        components=Components(of_seen.astype(np.float32), own_center),
        moments=Moments(moments.slopes[..., measured], moments.intercepts[..., measured]),
    )


def _restricted(recipe: Recipe, measured: np.ndarray) -> Recipe:
    """The recipe for the measured features alone; cells are scaled to the total that these have in the mean."""

    def of(standards: Standards) -> Standards:
        return Standards(standards.mean[measured], standards.deviation[measured])

    return type(recipe)(
        main=recipe.main,
        median=float(recipe.standards.mean[measured].sum()) if recipe.median else 0.0,
        standards=of(recipe.standards),
        main_standards=None if recipe.main_standards is None else of(recipe.main_standards),
    )
