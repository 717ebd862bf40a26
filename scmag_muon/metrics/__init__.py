"""Measures: agreement of clusters with known labels, mixing of batches."""

from __future__ import annotations

from scmag_muon.metrics._batches import batch_mixing
from scmag_muon.metrics._clustering import clustering_scores

__all__ = ["batch_mixing", "clustering_scores"]
