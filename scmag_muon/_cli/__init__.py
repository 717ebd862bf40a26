"""Command line: ``python -m scmag_muon demo`` and ``python -m scmag_muon run IN -o OUT.h5mu``."""

from __future__ import annotations

from scmag_muon._cli._main import main

__all__ = ["main"]
