"""Learning a :class:`~scmag_muon.manifold.fit.ManifoldFit` from reference cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scmag_muon.manifold.fit import ManifoldFit
from scmag_muon.manifold.fusion import Section, fused_sections
from scmag_muon.manifold.modality import VIEWS, FittedModality, Modality
from scmag_muon.manifold.neighborhoods import own_operator, reference_neighborhoods

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import scipy.sparse as sp

    from scmag_muon.manifold.joint import Joint
    from scmag_muon.manifold.modality import Views
    from scmag_muon.manifold.transforms import View


def fit(
    modalities: Sequence[Modality],
    joint: Joint,
    *,
    n_neighbors: int = 15,
    step: float = 1.0,
    fusion_penalty: float = 1.0,
    batches: Sequence[str] = (),
    codes: np.ndarray | None = None,
    keep_data: bool = True,
) -> tuple[ManifoldFit, dict[str, np.ndarray]]:
    """What fitting learns, and the fused fitted data of each modality's own cells, each ``(n_own, n_vars)``.

    Parameters
    ----------
    modalities, joint
        Prepared modalities, and their joint space (:func:`~scmag_muon.manifold.joint.joint_space`).
    n_neighbors, step, fusion_penalty
        p, how far cells move, and λ of eq. 12.
    batches, codes
        Names of the batches, and the number of each cell's, ``(n_obs,)``; without these there are none.
    keep_data
        Give the fused data, which are dense; else none.
    """
    lists, neighborhoods = reference_neighborhoods(joint.values, modalities, n_neighbors=n_neighbors)
    fitted, layers = [], {}
    built: dict[int, sp.csr_array] = {}
    for i, modality in enumerate(modalities):
        applied = []
        for _, kernel in VIEWS.values():
            table = neighborhoods[modality.name][kernel]
            if id(table) not in built:
                built[id(table)] = own_operator(table, modality.cells, step=step)
            applied.append(built[id(table)])
        values, view_weights, moments = fused_sections(
            [_section(*section) for section in modality.sections()],
            applied,
            penalty=fusion_penalty,
            batches=None if codes is None else codes[modality.cells],
            n_batches=len(batches),
            keep=keep_data,
        )
        if values is not None:
            layers[modality.name] = values
        fitted.append(
            FittedModality(
                name=modality.name,
                kind=modality.kind,
                features=modality.features,
                cells=modality.cells,
                recipe=modality.recipe,
                components=joint.components[i],
                centers=joint.centers[i],
                spread=joint.spreads[i],
                replication=float(joint.replications[i]),
                concordance=float(joint.concordances[i]),
                weight=float(joint.weights[i]),
                view_weights=view_weights,
                moments=moments,
            )
        )
    codes = np.zeros(len(joint.values), dtype=np.int64) if codes is None else np.asarray(codes, dtype=np.int64)
    result = ManifoldFit(tuple(fitted), joint.values, lists, neighborhoods, tuple(batches), codes, step)
    return result, layers


def _section(columns: slice, make: Callable[[], Views]) -> Section:
    def of_pairs() -> list[View]:
        views = make()
        return [views[kind] for kind, _ in VIEWS.values()]

    return columns, of_pairs
