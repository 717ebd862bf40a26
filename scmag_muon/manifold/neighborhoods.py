"""Neighbourhoods in the joint space, and the operators that they make: the same rule for reference cells and for others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scmag_muon.manifold.fitting import fitting_operator
from scmag_muon.manifold.kernels import Kernel, poly_gamma
from scmag_muon.manifold.neighbors import candidates_for_all_kernels, nearest_neighbors, shared_neighbors_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import scipy.sparse as sp

    from scmag_muon.manifold.modality import FittedModality, Modality

Tables = dict[Kernel, np.ndarray]

KERNELS: tuple[Kernel, ...] = ("rbf", "poly")


def gammas_of(joint: np.ndarray) -> dict[Kernel, float]:
    """Scale of the inner products under each kernel."""
    return {"rbf": 1.0, "poly": poly_gamma(joint)}


def own_operator(table: np.ndarray, cells: np.ndarray, *, step: float) -> sp.csr_array:
    """Operator among the cells that have a modality, ``(n_own, n_own)``."""
    if len(cells) == len(table):
        return fitting_operator(table, step=step)
    number = np.zeros(len(table), dtype=np.int32)
    number[cells] = np.arange(len(cells))
    return fitting_operator(number[table[cells]], step=step)


def reference_neighborhoods(
    joint: np.ndarray, modalities: Sequence[Modality], *, n_neighbors: int
) -> tuple[Tables, dict[str, Tables]]:
    """Neighbour lists by kernel, and for each modality and kernel the cells over which fitting takes the mean."""
    candidates = candidates_for_all_kernels(joint, n_neighbors)
    lists = {kernel: nearest_neighbors(joint, n_neighbors, kernel=kernel, candidates=candidates) for kernel in KERNELS}
    own = np.arange(len(joint))
    return lists, neighborhoods_in(lists, joint, lists, joint, modalities, gammas=gammas_of(joint), own=own)


def neighborhoods_in(
    lists: Tables,
    x: np.ndarray,
    of_reference: Tables,
    reference: np.ndarray,
    modalities: Sequence[Modality | FittedModality],
    *,
    gammas: Mapping[Kernel, float],
    own: np.ndarray | None,
) -> dict[str, Tables]:
    """By modality and kernel; one for all modalities that every reference cell has."""
    of_all: Tables = {}
    result = {}
    for modality in modalities:
        everywhere = len(modality.cells) == len(reference)
        if everywhere and of_all:
            result[modality.name] = of_all
            continue
        result[modality.name] = {
            kernel: shared_neighbors_in(
                lists[kernel],
                x,
                of_reference[kernel],
                reference,
                kernel=kernel,
                gamma=gammas[kernel],
                among=None if everywhere else modality.cells,
                own=own,
            )
            for kernel in KERNELS
        }
        of_all = result[modality.name] if everywhere else of_all
    return result
