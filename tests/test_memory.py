from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from scmag_muon._memory import give_back

MEGABYTE = 2**20


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone keeps what is free")
def test_what_is_free_goes_back_to_the_system() -> None:
    give_back()
    pieces = [np.ones(MEGABYTE // 80) for _ in range(2000)]  # below what the allocator asks the system for by itself
    del pieces[:-1]  # the last one keeps the allocator from giving back the rest
    before = resident()
    give_back()
    assert before - resident() > 100 * MEGABYTE


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    give_back()
