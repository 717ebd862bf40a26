"""Tools: the whole run in one call, the number of clusters, and what comes after clustering."""

from __future__ import annotations

from scmag_muon.tl._annotate import annotate
from scmag_muon.tl._batch_mixing import batch_mixing
from scmag_muon.tl._cluster_qc import cluster_qc
from scmag_muon.tl._cluster_tree import cluster_tree
from scmag_muon.tl._cut import cut
from scmag_muon.tl._enrichment import enrichment
from scmag_muon.tl._held_out_markers import held_out_markers
from scmag_muon.tl._map_query import map_query
from scmag_muon.tl._markers import markers
from scmag_muon.tl._n_clusters import n_clusters
from scmag_muon.tl._pseudobulk_markers import pseudobulk_markers
from scmag_muon.tl._scmag import scmag
from scmag_muon.tl._stability import stability
from scmag_muon.tl._subcluster import subcluster
from scmag_muon.tl._trajectory import trajectory

__all__ = [
    "annotate",
    "batch_mixing",
    "cluster_tree",
    "cut",
    "cluster_qc",
    "enrichment",
    "held_out_markers",
    "map_query",
    "markers",
    "n_clusters",
    "pseudobulk_markers",
    "scmag",
    "stability",
    "subcluster",
    "trajectory",
]
