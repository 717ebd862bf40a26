"""scMAG for MuData: manifold fitting and a gated variational autoencoder for two kinds of measurement of the same cells."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from scmag_muon._versions import version_of

if TYPE_CHECKING:
    from scmag_muon import datasets, metrics, model, pl, pp, tl
    from scmag_muon._mudata import read_lazy
    from scmag_muon._report import report

__all__ = ["__version__", "datasets", "metrics", "model", "pl", "pp", "read_lazy", "report", "tl"]

_FUNCTIONS = {"read_lazy": "_mudata", "report": "_report"}

__version__ = version_of("scmag-muon")


if "OMP_WAIT_POLICY" not in os.environ:
    # GNU OpenMP's threads, which torch computes with, wait busily for ten milliseconds after each operation, on cores that
    # the likelihood needs: one millisecond is enough. Read once, when torch is loaded; in vain where that came first.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")


def __getattr__(name: str) -> Any:
    if name in __all__:
        importlib.import_module("scmag_muon._namespace")
        if name in _FUNCTIONS:
            return getattr(importlib.import_module(f"scmag_muon.{_FUNCTIONS[name]}"), name)
        return importlib.import_module(f"scmag_muon.{name}")
    raise AttributeError(f"module 'scmag_muon' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


if (
    "mudata" in sys.modules
):  # else `mdata.scmag` comes with the first use of a module, since importing mudata takes a while
    importlib.import_module("scmag_muon._namespace")
