"""Fitting by neighbourhoods that the modalities share, or by those that each view of each finds for itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scmag_muon.manifold.alignment import batch_positions
from scmag_muon.manifold.components import principal_components
from scmag_muon.manifold.fitting import fitting_operator
from scmag_muon.manifold.fusion import fused
from scmag_muon.manifold.modality import VIEWS, Modality
from scmag_muon.manifold.neighborhoods import own_operator
from scmag_muon.manifold.neighbors import nearest_neighbors, shared_neighbors
from scmag_muon.manifold.reference import fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    import scipy.sparse as sp

    from scmag_muon.manifold.fit import ManifoldFit
    from scmag_muon.manifold.joint import Joint


@dataclass
class Results:
    """What fitting gives, by modality: fused data, weights of the views and their operators; the joint space after fitting."""

    layers: dict[str, np.ndarray]
    view_weights: dict[str, np.ndarray]
    operators: dict[str, list[sp.csr_array]]
    joint: np.ndarray
    fit: ManifoldFit | None = None


def by_shared(
    modalities: Sequence[Modality],
    joint: Joint,
    *,
    batches: Sequence[str],
    codes: np.ndarray | None,
    n_neighbors: int,
    step: float,
    fusion_penalty: float,
    keep_data: bool = True,
) -> Results:
    """Fit all modalities by the neighbourhoods of their joint space; without ``keep_data`` nothing dense is kept."""
    learnt, layers = fit(
        modalities,
        joint,
        n_neighbors=n_neighbors,
        step=step,
        fusion_penalty=fusion_penalty,
        batches=batches,
        codes=codes,
        keep_data=keep_data,
    )
    operators = {}
    for modality in learnt.modalities:
        tables = learnt.neighborhoods[modality.name]
        operators[modality.name] = [
            own_operator(tables[kernel], modality.cells, step=step) for _, kernel in VIEWS.values()
        ]
    view_weights = {modality.name: modality.view_weights for modality in learnt.modalities}
    return Results(layers, view_weights, operators, learnt.fitted_joint(), learnt)


def by_own(
    modalities: Sequence[Modality],
    joint: Joint,
    *,
    codes: np.ndarray | None,
    n_neighbors: int,
    n_pcs: int,
    step: float,
    fusion_penalty: float,
    random_state: int | None,
) -> Results:
    """Fit each view of each modality by its own neighbourhoods, as in the paper; no other cell can be fitted so."""
    lists = nearest_neighbors(joint.values, n_neighbors)
    moved = np.asarray(fitting_operator(shared_neighbors(lists, joint.values), step=step) @ joint.values)
    results = Results({}, {}, {}, moved)
    for modality in modalities:
        own = None if codes is None else codes[modality.cells]
        operators = own_operators(
            modality, n_neighbors=n_neighbors, n_pcs=n_pcs, step=step, codes=own, random_state=random_state
        )
        views = modality.views()
        layer, weights, _ = fused(
            [views[kind] for kind, _ in VIEWS.values()], operators, penalty=fusion_penalty, batches=own
        )
        results.view_weights[modality.name] = weights
        if layer is not None:
            results.layers[modality.name] = layer
        results.operators[modality.name] = operators
    return results


def own_operators(
    modality: Modality,
    *,
    n_neighbors: int,
    n_pcs: int,
    step: float,
    codes: np.ndarray | None,
    random_state: int | None,
) -> list[sp.csr_array]:
    """One operator for each view of a modality, from its own components under its own kernel, each ``(n_own, n_own)``.

    ``codes`` are the batches of the modality's own cells, whose positions are taken off the components.
    """
    scores = {}
    views = modality.views()
    for kind in {kind for kind, _ in VIEWS.values()}:
        x = principal_components(views[kind], n_pcs, random_state=random_state)
        scores[kind] = (
            x
            if codes is None
            else x - batch_positions(x, codes, int(codes.max()) + 1, random_state=random_state or 0)[codes]
        )
    operators = []
    for kind, kernel in VIEWS.values():
        x = scores[kind]
        neighbors = nearest_neighbors(x, n_neighbors, kernel=kernel)
        operators.append(fitting_operator(shared_neighbors(neighbors, x, kernel=kernel), step=step))
    return operators
