"""Memory that was let go, back to the system."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Have glibc give back what is free: it keeps pieces of up to 32 MB, as blocks of rows are, a third of all after a large fit."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
        if trim is not None:
            trim(0)
