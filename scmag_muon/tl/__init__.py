"""Tools: the whole run in one call."""

from __future__ import annotations

from scmag_muon.tl._scmag import scmag

__all__ = ["scmag"]
