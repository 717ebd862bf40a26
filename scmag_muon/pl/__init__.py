"""Plots of what the tools wrote."""

from __future__ import annotations

from scmag_muon.pl._n_clusters import n_clusters
from scmag_muon.pl._training import training

__all__ = ["n_clusters", "training"]
