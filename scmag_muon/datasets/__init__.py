"""Simulated data sets with known clusters, and loaders of the public sets of the paper."""

from __future__ import annotations

from scmag_muon.datasets._public import (
    hallmark_gene_sets,
    pbmc3k_multiome,
    pbmc10k_citeseq,
    pbmc10k_multiome,
    spleen_lymph,
)
from scmag_muon.datasets._simulate import simulate_citeseq, simulate_multiome, simulate_trimodal

__all__ = [
    "hallmark_gene_sets",
    "pbmc3k_multiome",
    "pbmc10k_citeseq",
    "pbmc10k_multiome",
    "simulate_citeseq",
    "simulate_multiome",
    "simulate_trimodal",
    "spleen_lymph",
]
