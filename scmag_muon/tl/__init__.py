"""Tools: the whole run in one call, and the number of clusters."""

from __future__ import annotations

from scmag_muon.tl._n_clusters import n_clusters
from scmag_muon.tl._scmag import scmag

__all__ = ["n_clusters", "scmag"]
