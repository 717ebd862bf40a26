"""Preprocessing: manifold fitting."""

from __future__ import annotations

from scmag_muon.pp._manifold_fit import manifold_fit

__all__ = ["manifold_fit"]
