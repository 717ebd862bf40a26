"""One page that says what was done, what came out and what to doubt."""

from __future__ import annotations

from scmag_muon._report._report import report

__all__ = ["report"]
