"""Preprocessing: manifold fitting."""

from __future__ import annotations

from scmag_muon.pp._complete_cells import complete_cells
from scmag_muon.pp._manifold_fit import manifold_fit

__all__ = ["complete_cells", "manifold_fit"]
