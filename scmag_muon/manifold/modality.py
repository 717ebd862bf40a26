"""One modality: the counts that fitting starts from, and what it learns of them to treat further cells alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from scmag_muon.manifold.components import Components
from scmag_muon.manifold.fusion import Moments
from scmag_muon.manifold.transforms import (
    Standards,
    Transform,
    View,
    feature_standards,
    log2p1,
    mean_logs,
    median_total,
    row_transforms,
    scale_cells,
    scale_features,
    scale_to_median,
    size_factors,
    transform,
    transform_rows,
    transforms,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from scmag_muon.manifold.kernels import Kernel

VIEWS: dict[str, tuple[Transform, Kernel]] = {
    "log_rbf": ("log", "rbf"),
    "log_poly": ("log", "poly"),
    "zscore_poly": ("zscore", "poly"),
    "clr_rbf": ("clr", "rbf"),
}
"""The four pairs of transform and kernel of section 2.2.1."""

MANY = 2**26
"""Counts that are not zero, above which views are made of some features at a time, or by rows: quick copies would take too much."""

_OF_SECTION = 2**25
_WIDTH = 64

Views = dict[Transform, View]


def _size_factors(counts: sp.csr_array, median: float) -> np.ndarray:
    return size_factors(counts, median) if median else np.ones(counts.shape[0], dtype=np.float32)


def _at_size(counts: sp.csr_array, median: float) -> sp.csr_array:
    return scale_to_median(counts, median) if median else counts


def sized_view(
    counts: sp.csr_array, kind: Transform, median: float, *, standards: Standards | None = None, by_rows: bool
) -> View:
    """A transform of counts that are scaled to a library size first, or with 0 are not; by rows where there are many.

    ``standards`` are those of the logarithms by which ``"scaled"`` scores.
    """
    if by_rows:
        return transform_rows(counts, kind, _size_factors(counts, median), standards=standards)
    sized = _at_size(counts, median)
    return transform(sized, kind) if standards is None else scale_features(log2p1(sized), standards=standards)


@dataclass(frozen=True)
class Recipe:
    """How counts of a modality become views, the same for every cell that is ever added.

    Parameters
    ----------
    main
        Transform in which neighbours across modalities are sought.
    median
        Library size to which cells are scaled first; 0 where they are not.
    standards
        Mean and deviation of each feature by which the z-score scores.
    main_standards
        The same for the logarithms, where ``main`` is ``"scaled"``.
    """

    main: Transform
    median: float
    standards: Standards
    main_standards: Standards | None = None

    def size_factors(self, counts: sp.csr_array) -> np.ndarray:
        """By what each cell's counts are multiplied first, float32, ``(n_obs,)``."""
        return _size_factors(counts, self.median)

    def sized(self, counts: sp.csr_array) -> sp.csr_array:
        """Counts as the transforms take them, shape ``(n_obs, n_vars)``."""
        return _at_size(counts, self.median)

    def views(self, counts: sp.csr_array) -> Views:
        """The paper's three transforms of counts."""
        return transforms(self.sized(counts), standards=self.standards)

    def row_views(self, counts: sp.csr_array) -> Views:
        """The same of a few cells, by rows."""
        return row_transforms(self.sized(counts), self.standards)

    def main_view(self, counts: sp.csr_array) -> View:
        """Counts in the transform in which neighbours are sought; by rows where there are many."""
        by_rows = counts.nnz > MANY
        return sized_view(counts, self.main, self.median, standards=self.main_standards, by_rows=by_rows)


@dataclass(frozen=True)
class Modality:
    """What fitting starts from.

    Parameters
    ----------
    name, kind
        Name, and what is measured, both for messages and records.
    features
        Names of the features that take part, ``(n_vars,)``.
    cells
        Numbers of the cells that have the modality among all cells, in rising order, ``(n_own,)``.
    counts
        Raw counts of these, CSR, ``(n_own, n_vars)``.
    recipe
        How counts become views. They are made when they are asked for: all of them take more memory than the counts.
    """

    name: str
    kind: str
    features: np.ndarray
    cells: np.ndarray
    counts: sp.csr_array
    recipe: Recipe

    def views(self) -> Views:
        """The paper's three transforms of the counts."""
        return self.recipe.views(self.counts)

    def sections(self) -> list[tuple[slice, Callable[[], Views]]]:
        """Features and what makes their views: all at once, or where there are many counts some at a time."""
        n_vars = self.counts.shape[1]
        if self.counts.nnz <= MANY:
            return [(slice(0, n_vars), self.views)]
        factors = self.recipe.size_factors(self.counts)
        means = mean_logs(self.counts, factors)
        return [(columns, partial(self._views_of, columns, factors, means)) for columns in _sections(self.counts)]

    def _views_of(self, columns: slice, factors: np.ndarray, means: np.ndarray) -> Views:
        views = transforms(_sized(self.counts, columns, factors), standards=self.recipe.standards.of(columns))
        return {**views, "clr": replace(views["clr"], row_offset=-means)}

    def main_view(self) -> View:
        """The counts in the transform in which neighbours are sought."""
        return self.recipe.main_view(self.counts)


def make_modality(
    name: str,
    kind: str,
    counts: sp.csr_array,
    *,
    features: np.ndarray,
    main: Transform,
    scales: bool,
    cells: np.ndarray | None = None,
) -> Modality:
    """What the counts of the chosen features are transformed by; ``scales`` brings cells to the median library size first.

    ``cells`` are by default all, in the order of the rows.
    """
    median = median_total(counts) if scales else 0.0
    factors = size_factors(counts, median) if scales else None
    found, of_logs = [], []
    for columns in _sections(counts):
        section = sp.csc_array(_sized(counts, columns, factors))
        found.append(feature_standards(section))
        if main == "scaled":
            of_logs.append(feature_standards(log2p1(section).values))
        del section
    standards = _together(found)
    main_standards = _together(of_logs) if main == "scaled" else None
    cells = np.arange(counts.shape[0]) if cells is None else cells
    return Modality(name, kind, features, cells, counts, Recipe(main, median, standards, main_standards))


def _sections(counts: sp.csr_array) -> list[slice]:
    """All features, or where there are many counts some at a time: multiples of the features that are fused at once."""
    n_vars = counts.shape[1]
    n_sections = -(-counts.nnz // _OF_SECTION) if counts.nnz > MANY else 1
    width = -(-n_vars // n_sections)
    width += -width % _WIDTH if n_sections > 1 else 0
    return [slice(start, min(start + width, n_vars)) for start in range(0, n_vars, width)]


def _sized(counts: sp.csr_array, columns: slice, factors: np.ndarray | None) -> sp.csr_array:
    """Counts of some features times each cell's factor."""
    whole = columns.stop - columns.start == counts.shape[1]
    section = counts if whole else sp.csr_array(counts[:, columns])
    return section if factors is None else scale_cells(section, factors)


def _together(standards: Sequence[Standards]) -> Standards:
    return Standards(
        np.concatenate([each.mean for each in standards]), np.concatenate([each.deviation for each in standards])
    )


@dataclass(frozen=True)
class FittedModality:
    """What fitting learnt of one modality.

    Parameters
    ----------
    name, kind, features, cells, recipe
        As for :class:`Modality`.
    components
        Loadings by which cells are placed among the reference cells.
    centers
        Mean score of the cells of each batch, float32, ``(n_batches, n_components)``; 0 for batches that lack the modality.
    spread
        Root of the scores' total variance: in the joint space scores are divided by it and multiplied by the weight.
    replication, concordance, weight
        See :mod:`~scmag_muon.manifold.information`.
    view_weights
        α of eq. 11, ``(n_views,)``.
    moments
        What makes fused rows of fitted views.
    """

    name: str
    kind: str
    features: np.ndarray
    cells: np.ndarray
    recipe: Recipe
    components: Components
    centers: np.ndarray
    spread: float
    replication: float
    concordance: float
    weight: float
    view_weights: np.ndarray
    moments: Moments

    def to_dict(self) -> dict[str, Any]:
        """Plain arrays, numbers and strings that hold all of it (:meth:`from_dict`)."""
        recipe = self.recipe
        main = recipe.main_standards or Standards(np.empty(0), np.empty(0))
        return {
            "name": self.name,
            "kind": self.kind,
            "features": self.features,
            "cells": self.cells,
            "main": recipe.main,
            "median": recipe.median,
            "mean": recipe.standards.mean,
            "deviation": recipe.standards.deviation,
            "main_mean": main.mean,
            "main_deviation": main.deviation,
            "loadings": self.components.loadings,
            "center": self.components.center,
            "batch_centers": self.centers,
            "spread": self.spread,
            "replication": self.replication,
            "concordance": self.concordance,
            "weight": self.weight,
            "view_weights": self.view_weights,
            "slopes": self.moments.slopes,
            "intercepts": self.moments.intercepts,
        }

    @classmethod
    def from_dict(cls, of: Mapping[str, Any]) -> FittedModality:
        """What :meth:`to_dict` held, to the bit."""
        scaled = of["main"] == "scaled"
        main = Standards(np.asarray(of["main_mean"]), np.asarray(of["main_deviation"])) if scaled else None
        standards = Standards(np.asarray(of["mean"]), np.asarray(of["deviation"]))
        return cls(
            name=str(of["name"]),
            kind=str(of["kind"]),
            features=np.asarray(of["features"]),
            cells=np.asarray(of["cells"]),
            recipe=Recipe(of["main"], float(of["median"]), standards, main),
            components=Components(np.asarray(of["loadings"]), np.asarray(of["center"])),
            centers=np.asarray(of["batch_centers"]),
            spread=float(of["spread"]),
            replication=float(of["replication"]),
            concordance=float(of["concordance"]),
            weight=float(of["weight"]),
            view_weights=np.asarray(of["view_weights"]),
            moments=Moments(np.asarray(of["slopes"]), np.asarray(of["intercepts"])),
        )
