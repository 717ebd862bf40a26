"""Plots of what the tools wrote."""

from __future__ import annotations

from scmag_muon.pl._training import training

__all__ = ["training"]
