"""Agreement of clusters with known labels."""

from __future__ import annotations

from ._clustering import clustering_scores

__all__ = ["clustering_scores"]
