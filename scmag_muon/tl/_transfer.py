"""Labels and unlikeness of cells that are mapped, each compared in the modalities that it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scmag_muon.model._confidence import confidence_among
from scmag_muon.transfer._neighbors import nearest_with_distance
from scmag_muon.transfer.labels import Transferred, transfer_labels
from scmag_muon.transfer.unlikeness import unlikeness

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scmag_muon.manifold.fit import ManifoldFit
    from scmag_muon.model._mapping import Mapped
    from scmag_muon.model._reference import Reference

UNKNOWN = "unknown"
_ON_MAP = 5


def unlikeness_of(
    fit: ManifoldFit, found: Mapped, present: np.ndarray, groups: np.ndarray, samples: np.ndarray | None
) -> np.ndarray:
    """Unlikeness of each cell, ``(n_obs,)``; 1 is the 99th percentile of the reference's own cells.

    ``groups`` are types or clusters of the reference's cells; those of which it is ``None`` or ``"unknown"`` play no part. ``samples``
    are the batches of the query.
    """
    result = np.empty(len(found.joint))
    known = _is_known(groups)
    for rows, x, cells, reference in _by_pattern(fit, found, present):
        own = known[cells]
        of_sample = None if samples is None else samples[rows]
        result[rows] = unlikeness(x, reference[own], groups[cells][own].astype(str), samples=of_sample)
    return result


def confidence_of(reference: Reference, found: Mapped, present: np.ndarray) -> np.ndarray:
    """How likely each cell is in the right cluster, by the vote of the reference's cells, ``(n_obs,)``."""
    labels, clusters = found.q.argmax(axis=1), np.asarray(reference.clusters)
    result = np.empty(len(labels))
    for rows, x, cells, coordinates in _by_pattern(reference.fit, found, present):
        result[rows] = confidence_among(x, labels[rows], coordinates, clusters[cells])
    return result


def transferred(fit: ManifoldFit, found: Mapped, present: np.ndarray, labels: np.ndarray) -> Transferred:
    """Class probabilities of each cell; labels that are ``None`` or ``"unknown"`` are not transferred.

    Raises
    ------
    ValueError
        Where no reference cell has a label and the modalities of some cells.
    """
    known = _is_known(labels)
    classes = np.unique(labels[known].astype(str))
    probabilities = np.zeros((len(found.joint), len(classes)))
    for rows, x, cells, reference in _by_pattern(fit, found, present):
        labelled = known[cells]
        if not labelled.any():
            raise ValueError("No cell of the reference that has the modalities of the query has a label.")
        of_cells = transfer_labels(x, reference[labelled], labels[cells][labelled])
        probabilities[rows[:, None], np.searchsorted(classes, of_cells.classes)] = of_cells.probabilities
    return Transferred(classes, probabilities)


def _is_known(labels: np.ndarray) -> np.ndarray:
    return np.array([label is not None and label != UNKNOWN for label in labels])


def projected(fit: ManifoldFit, found: Mapped, present: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Each cell at the mean of its five nearest reference cells on a map of these, ``places``, the nearest counting most."""
    result = np.empty((len(found.joint), places.shape[1]), dtype=np.float32)
    for rows, x, cells, reference in _by_pattern(fit, found, present):
        nearest, squared = nearest_with_distance(x, reference, min(_ON_MAP, len(reference)))
        weights = 1 / np.sqrt(np.maximum(squared, 1e-12))
        weights /= weights.sum(axis=1, keepdims=True)
        result[rows] = np.einsum("ij,ijk->ik", weights, places[cells][nearest])
    return result


def _by_pattern(
    fit: ManifoldFit, found: Mapped, present: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """For cells that have the same modalities: which they are, their coordinates there, reference cells that have these, theirs."""
    blocks, own = fit.blocks(found.joint), fit.blocks(found.reference_joint)
    for pattern in np.unique(present, axis=0):
        rows = np.flatnonzero((present == pattern).all(axis=1))
        which = np.flatnonzero(pattern).tolist()
        cells = np.flatnonzero(fit.present[:, which].all(axis=1))
        if not len(cells):  # no cell has all of these, so what is foretold of the others must serve
            cells = np.arange(fit.n_obs)
        yield (
            rows,
            np.hstack([blocks[i][rows] for i in which]),
            cells,
            np.hstack([own[i][cells] for i in which]),
        )
