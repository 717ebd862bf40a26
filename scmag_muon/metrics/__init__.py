"""Measures: agreement with known labels, mixing of batches, stability of clusters, power of markers."""

from __future__ import annotations

from scmag_muon.metrics._batches import batch_mixing
from scmag_muon.metrics._clustering import clustering_scores, type_scores
from scmag_muon.metrics._markers import marker_auroc
from scmag_muon.metrics._stability import cluster_stability

__all__ = ["batch_mixing", "cluster_stability", "clustering_scores", "marker_auroc", "type_scores"]
