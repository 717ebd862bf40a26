"""The fit as a thing: what fitting learnt, which places and fits any cell, whichever modalities it has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from scmag_muon.manifold.fitting import fitting_operator
from scmag_muon.manifold.joint import foretell
from scmag_muon.manifold.kernels import Kernel
from scmag_muon.manifold.modality import FittedModality
from scmag_muon.manifold.neighborhoods import (
    KERNELS,
    Tables,
    gammas_of,
    neighborhoods_in,
)
from scmag_muon.manifold.neighbors import nearest_in, shared_neighbors
from scmag_muon.manifold.placing import Placed, measured_blocks
from scmag_muon.manifold.rows import Counts, fused_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Operators = dict[Kernel, sp.csr_array]


@dataclass(frozen=True)
class ManifoldFit:
    """What manifold fitting learnt of its reference cells.

    Parameters
    ----------
    modalities
        What it learnt of each modality.
    joint
        Joint space of the reference cells, float32, ``(n_obs, n_components)``.
    lists
        For each kernel the p nearest reference cells of each, itself first, int32, ``(n_obs, p)``.
    neighborhoods
        For each modality and kernel the cells over which fitting takes the mean, int32, ``(n_obs, p)``: the p cells that have
        the modality and share most neighbours with the cell, which itself, if it has it, comes first. Modalities that every
        cell has share them.
    batches
        Names of the batches within which components were centred; empty where there were none.
    codes
        Number of each reference cell's batch, ``(n_obs,)``; zeros where there are none.
    step
        How far a cell moves to the mean of its neighbourhood.
    """

    modalities: tuple[FittedModality, ...]
    joint: np.ndarray
    lists: Tables
    neighborhoods: dict[str, Tables]
    batches: tuple[str, ...]
    codes: np.ndarray
    step: float

    @property
    def n_obs(self) -> int:
        """Number of reference cells."""
        return len(self.joint)

    @property
    def n_neighbors(self) -> int:
        """p, the length of the neighbour lists, the cell included."""
        return self.lists["rbf"].shape[1]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the modalities in their order, which is that of their blocks in the joint space."""
        return tuple(modality.name for modality in self.modalities)

    @cached_property
    def present(self) -> np.ndarray:
        """Which reference cells have which modality, bool, ``(n_obs, n_modalities)``."""
        present = np.zeros((self.n_obs, len(self.modalities)), dtype=bool)
        for i, modality in enumerate(self.modalities):
            present[modality.cells, i] = True
        return present

    @cached_property
    def _gammas(self) -> dict[Kernel, float]:
        return gammas_of(self.joint)

    def modality(self, name: str) -> FittedModality:
        """What was learnt of one modality."""
        for modality in self.modalities:
            if modality.name == name:
                return modality
        raise KeyError(f"No modality {name!r} in the fit, which has {list(self.names)}.")

    def blocks(self, joint: np.ndarray) -> list[np.ndarray]:
        """The columns of a joint space that belong to each modality, each ``(n_obs, n_components)``."""
        widths = [modality.components.loadings.shape[1] for modality in self.modalities]
        return np.split(joint, np.cumsum(widths)[:-1], axis=1)

    def embed(
        self,
        counts: Mapping[str, sp.csr_array],
        *,
        present: Mapping[str, np.ndarray] | None = None,
        batches: Sequence[str] | np.ndarray | None = None,
        spread: bool = True,
    ) -> np.ndarray:
        """Coordinates of further cells in the joint space, float32, shape ``(n_new, n_components)``.

        Parameters
        ----------
        counts
            For each modality that some of the cells have, raw counts of its features in the order of ``features``, CSR,
            ``(n_with_it, n_vars)``.
        present
            For each of these which cells have it, bool, ``(n_new,)``; by default all.
        batches
            Batch of each cell, ``(n_new,)``. Cells of a batch of the reference are centred as that was. Cells of another are
            moved among the reference's cells (:func:`~scmag_muon.manifold.alignment.batch_shift`), where there are at least 20 of
            them; their own mean plays no part, since it tells which types they hold. Without ``batches`` no cell is moved.
        spread
            As in :func:`~scmag_muon.manifold.joint.foretell`, which fills the blocks of modalities that a cell lacks.
        """
        if not counts:
            raise ValueError(f"No counts to embed. Give those of one or more of the modalities {list(self.names)}.")
        for name in counts:
            self.modality(name)
        masks = {name: np.ones(x.shape[0], bool) if present is None else present[name] for name, x in counts.items()}
        own = self.blocks(self.joint)
        reference = Placed(own, self.present, self.batches, self.codes)
        have, blocks = measured_blocks(self.modalities, reference, counts, masks, batches)
        if not have.any(axis=1).all():
            raise ValueError(f"{int((~have.any(axis=1)).sum())} cells have none of the modalities {list(self.names)}.")
        weights = np.array([modality.weight for modality in self.modalities])
        return np.hstack(foretell(blocks, have, own, self.present, weights, spread=spread))

    def operators(self, joint: np.ndarray) -> dict[str, Operators]:
        """For each modality and kernel the operator rows of cells at these coordinates, ``(n_new, n_obs)``, rows sum to 1.

        The rule is the reference's: the p nearest under the kernel, then the p cells whose lists have most in common with that.
        A cell at the coordinates of a reference cell gets the row of that. Where ``step`` is below 1 the reference cell that
        comes first stands for the cell itself.
        """
        joint = np.asarray(joint, dtype=np.float32)
        lists = {
            kernel: nearest_in(joint, self.joint, self.n_neighbors, kernel=kernel, gamma=self._gammas[kernel])
            for kernel in KERNELS
        }
        tables = neighborhoods_in(lists, joint, self.lists, self.joint, self.modalities, gammas=self._gammas, own=None)
        return {name: self._operators(of_kernel) for name, of_kernel in tables.items()}

    def operator_rows(self, name: str, cells: np.ndarray) -> Operators:
        """Operator rows of reference cells for one modality, by kernel, each ``(n_cells, n_obs)``."""
        self.modality(name)
        return self._operators({kernel: table[cells] for kernel, table in self.neighborhoods[name].items()})

    def _operators(self, tables: Tables) -> Operators:
        return {
            kernel: fitting_operator(table, step=self.step, n_columns=self.n_obs) for kernel, table in tables.items()
        }

    def rows(self, name: str, cells: np.ndarray, *, counts: Counts) -> np.ndarray:
        """Fused fitted rows of reference cells, float32, shape ``(n_cells, n_vars)``, foretold where a cell lacks the modality.

        Parameters
        ----------
        name
            Modality.
        cells
            Numbers of reference cells.
        counts
            Raw counts of the cells that have the modality, in their order, and of its features, CSR, ``(n_own, n_vars)``; or
            what gives such rows for numbers of own cells in rising order.
        """
        cells = np.asarray(cells)
        codes = self.codes[cells] if self.batches else None
        return self.fitted(name, self.operator_rows(name, cells), counts=counts, codes=codes)

    def fitted(
        self,
        name: str,
        operators: Operators,
        *,
        counts: Counts,
        codes: np.ndarray | None = None,
    ) -> np.ndarray:
        """Fused fitted rows that operator rows give, float32, shape ``(n_rows, n_vars)``.

        Parameters
        ----------
        name, counts
            As for :meth:`rows`.
        operators
            Of that modality, as :meth:`operators` gives them.
        codes
            Numbers of the rows' batches in the reference, by whose moments they are standardised; by default, and for -1, by
            the mean of all.
        """
        return fused_rows(self.modality(name), operators, counts, codes)

    def fitted_joint(self) -> np.ndarray:
        """The joint space after fitting, float32, shape ``(n_obs, n_components)``."""
        everywhere = [modality.name for modality in self.modalities if len(modality.cells) == self.n_obs]
        table = (
            self.neighborhoods[everywhere[0]]["rbf"] if everywhere else shared_neighbors(self.lists["rbf"], self.joint)
        )
        return np.asarray(fitting_operator(table, step=self.step) @ self.joint)

    def to_dict(self) -> dict[str, Any]:
        """Plain arrays, numbers and strings, in dictionaries, that hold all of it (:meth:`from_dict`)."""
        return {
            "modalities": {modality.name: modality.to_dict() for modality in self.modalities},
            "names": list(self.names),
            "joint": self.joint,
            "lists": dict(self.lists),
            "neighborhoods": {name: dict(tables) for name, tables in self.neighborhoods.items()},
            "batches": list(self.batches),
            "codes": self.codes,
            "step": self.step,
        }

    @classmethod
    def from_dict(cls, of: Mapping[str, Any]) -> ManifoldFit:
        """What :meth:`to_dict` held, to the bit."""
        return cls(
            modalities=tuple(FittedModality.from_dict(of["modalities"][name]) for name in of["names"]),
            joint=np.asarray(of["joint"]),
            lists={kernel: np.asarray(of["lists"][kernel]) for kernel in KERNELS},
            neighborhoods={
                name: {kernel: np.asarray(tables[kernel]) for kernel in KERNELS}
                for name, tables in of["neighborhoods"].items()
            },
            batches=tuple(str(name) for name in of["batches"]),
            codes=np.asarray(of["codes"]),
            step=float(of["step"]),
        )
