"""Simulated data sets with known clusters."""

from __future__ import annotations

from ._simulate import simulate_citeseq, simulate_multiome

__all__ = ["simulate_citeseq", "simulate_multiome"]
