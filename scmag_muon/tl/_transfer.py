"""Labels and unlikeness of cells that are mapped, each compared in the modalities that it has."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from scmag_muon.model._confidence import confidence_among
from scmag_muon.transfer._neighbors import Neighbors
from scmag_muon.transfer.labels import Transferred, transfer_by
from scmag_muon.transfer.unlikeness import unlikeness_by

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scmag_muon.manifold.fit import ManifoldFit
    from scmag_muon.model._mapping import Mapped
    from scmag_muon.model._reference import Reference

UNKNOWN = "unknown"
_ON_MAP = 5


@dataclass
class Pattern:
    """Cells of the query that have the same modalities, and the cells of the reference that have these.

    Parameters
    ----------
    rows, cells
        Numbers of the query's cells, ``(n_rows,)``, and of the reference's, ``(n_cells,)``.
    neighbors
        Of the first among the second, in the components of these modalities.
    """

    rows: np.ndarray
    cells: np.ndarray
    neighbors: Neighbors
    _among: dict[bytes, Neighbors] = field(default_factory=dict)

    def among(self, chosen: np.ndarray) -> Neighbors:
        """Neighbours among some of the reference's cells, bool, ``(n_cells,)``."""
        if chosen.all():
            return self.neighbors
        key = chosen.tobytes()
        if key not in self._among:  # of two threads that come at once, both take what the first has put there
            self._among.setdefault(key, Neighbors(self.neighbors.x, self.neighbors.reference[chosen]))
        return self._among[key]


def compared(fit: ManifoldFit, found: Mapped, present: np.ndarray) -> list[Pattern]:
    """The cells of the query beside those of the reference, by the modalities that they have."""
    blocks, own = fit.blocks(found.joint), fit.blocks(found.reference_joint)
    patterns = []
    for pattern in np.unique(present, axis=0):
        rows = np.flatnonzero((present == pattern).all(axis=1))
        which = np.flatnonzero(pattern).tolist()
        cells = np.flatnonzero(fit.present[:, which].all(axis=1))
        if not len(cells):  # no cell has all of these, so what is foretold of the others must serve
            cells = np.arange(fit.n_obs)
        x, reference = np.hstack([blocks[i][rows] for i in which]), np.hstack([own[i][cells] for i in which])
        patterns.append(Pattern(rows, cells, Neighbors(x, reference)))
    return patterns


def unlikeness_of(patterns: Sequence[Pattern], groups: np.ndarray, samples: np.ndarray | None) -> np.ndarray:
    """Unlikeness of each cell, ``(n_obs,)``; 1 is the 99th percentile of the reference's own cells.

    ``groups`` are types or clusters of the reference's cells; those of which it is ``None`` or ``"unknown"`` play no part. ``samples``
    are the batches of the query.
    """
    result = np.empty(_n_obs(patterns))
    known = _is_known(groups)
    for part in patterns:
        own = known[part.cells]
        of_sample = None if samples is None else samples[part.rows]
        of_cells = groups[part.cells][own].astype(str)
        result[part.rows] = unlikeness_by(part.among(own), of_cells, samples=of_sample)
    return result


def confidence_of(reference: Reference, found: Mapped, patterns: Sequence[Pattern]) -> np.ndarray:
    """How likely each cell is in the right cluster, by the vote of the reference's cells, ``(n_obs,)``."""
    labels, clusters = found.q.argmax(axis=1), np.asarray(reference.clusters)
    result = np.empty(len(labels))
    for part in patterns:
        nearest = partial(_nearest, part.neighbors)
        result[part.rows] = confidence_among(nearest, labels[part.rows], clusters[part.cells])
    return result


def transferred(patterns: Sequence[Pattern], labels: np.ndarray) -> Transferred:
    """Class probabilities of each cell; labels that are ``None`` or ``"unknown"`` are not transferred.

    Raises
    ------
    ValueError
        Where no reference cell has a label and the modalities of some cells.
    """
    known = _is_known(labels)
    classes = np.unique(labels[known].astype(str))
    probabilities = np.zeros((_n_obs(patterns), len(classes)))
    for part in patterns:
        labelled = known[part.cells]
        if not labelled.any():
            raise ValueError("No cell of the reference that has the modalities of the query has a label.")
        of_cells = transfer_by(part.among(labelled), labels[part.cells][labelled])
        probabilities[part.rows[:, None], np.searchsorted(classes, of_cells.classes)] = of_cells.probabilities
    return Transferred(classes, probabilities)


def projected(patterns: Sequence[Pattern], places: np.ndarray) -> np.ndarray:
    """Each cell at the mean of its five nearest reference cells on a map of these, ``places``, the nearest counting most."""
    result = np.empty((_n_obs(patterns), places.shape[1]), dtype=np.float32)
    for part in patterns:
        nearest, squared = part.neighbors.nearest(min(_ON_MAP, len(part.cells)))
        weights = 1 / np.sqrt(np.maximum(squared, 1e-12))
        weights /= weights.sum(axis=1, keepdims=True)
        result[part.rows] = np.einsum("ij,ijk->ik", weights, places[part.cells][nearest])
    return result


def _nearest(neighbors: Neighbors, k: int) -> np.ndarray:
    return neighbors.nearest(k)[0]


def _n_obs(patterns: Sequence[Pattern]) -> int:
    return sum(len(part.rows) for part in patterns)


def _is_known(labels: np.ndarray) -> np.ndarray:
    return np.array([label is not None and label != UNKNOWN for label in labels])
