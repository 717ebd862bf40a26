"""The network: scMAG on scvi-tools."""

from __future__ import annotations

from scmag_muon.model._health import TrainingDivergedError
from scmag_muon.model._scmag import SCMAG

__all__ = ["SCMAG", "TrainingDivergedError"]
