"""Simulated data sets with known clusters, loaders of the public sets of the paper, and a list of markers."""

from __future__ import annotations

from scmag_muon.datasets._markers import blood_markers
from scmag_muon.datasets._public import (
    hallmark_gene_sets,
    pbmc3k_multiome,
    pbmc10k_citeseq,
    pbmc10k_multiome,
    spleen_lymph,
)
from scmag_muon.datasets._simulate import simulate_citeseq, simulate_multiome, simulate_trimodal

__all__ = [
    "blood_markers",
    "hallmark_gene_sets",
    "pbmc3k_multiome",
    "pbmc10k_citeseq",
    "pbmc10k_multiome",
    "simulate_citeseq",
    "simulate_multiome",
    "simulate_trimodal",
    "spleen_lymph",
]
