"""Fused fitted rows by request: a few rows of the operators times rows of counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import scipy.sparse as sp

from scmag_muon.manifold.modality import VIEWS, FittedModality

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scmag_muon.manifold.kernels import Kernel

Counts: TypeAlias = "sp.csr_array | Callable[[np.ndarray], sp.csr_array]"
"""Counts of the cells that have a modality, or what gives them for numbers of such cells in rising order."""


def fused_rows(
    modality: FittedModality, operators: Mapping[Kernel, sp.csr_array], counts: Counts, codes: np.ndarray | None
) -> np.ndarray:
    """Rows as in :meth:`scmag_muon.manifold.fit.ManifoldFit.fitted`."""
    needed = np.unique(np.concatenate([operator.indices for operator in operators.values()]))
    own = np.searchsorted(modality.cells, needed)
    views = modality.recipe.views(counts(own) if callable(counts) else counts[own])
    products: dict[tuple[Kernel, int], np.ndarray] = {}
    codes = np.full(next(iter(operators.values())).shape[0], -1) if codes is None else codes
    result = modality.moments.intercepts[codes].astype(np.float64)
    for i, (kind, kernel) in enumerate(VIEWS.values()):
        view, of_all = views[kind], operators[kernel]
        columns = np.searchsorted(needed, of_all.indices)
        operator = sp.csr_array((of_all.data, columns, of_all.indptr), shape=(of_all.shape[0], len(needed)))
        key = kernel, id(view.values)
        if key not in products:
            products[key] = (operator @ view.values.tocsr()).toarray()
        moved = view.scale * products[key] + (operator @ view.row_offset)[:, None]
        result += moved * modality.moments.slopes[codes, i]
    return result.astype(np.float32)
