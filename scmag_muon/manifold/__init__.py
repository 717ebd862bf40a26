"""Manifold fitting in NumPy and SciPy: numbers in, numbers out (paper, section 2.2)."""

from __future__ import annotations
