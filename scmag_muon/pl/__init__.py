"""Pictures of what the tools wrote; each returns its axes, computes no result and writes nothing."""

from __future__ import annotations

from scmag_muon.pl._annotation import annotation
from scmag_muon.pl._batch_mixing import batch_mixing
from scmag_muon.pl._cluster_tree import cluster_tree
from scmag_muon.pl._enrichment import enrichment
from scmag_muon.pl._entropy import entropy
from scmag_muon.pl._gate import gate
from scmag_muon.pl._heatmap import heatmap
from scmag_muon.pl._held_out_markers import held_out_markers
from scmag_muon.pl._marker_comparison import marker_comparison
from scmag_muon.pl._markers import markers
from scmag_muon.pl._n_clusters import n_clusters
from scmag_muon.pl._overview import overview
from scmag_muon.pl._query import query
from scmag_muon.pl._stability import stability
from scmag_muon.pl._training import training
from scmag_muon.pl._trajectory import trajectory
from scmag_muon.pl._view_weights import view_weights
from scmag_muon.pl._volcano import volcano

__all__ = [
    "annotation",
    "batch_mixing",
    "cluster_tree",
    "enrichment",
    "entropy",
    "gate",
    "heatmap",
    "held_out_markers",
    "marker_comparison",
    "markers",
    "n_clusters",
    "overview",
    "query",
    "stability",
    "training",
    "trajectory",
    "view_weights",
    "volcano",
]
