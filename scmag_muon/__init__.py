"""scMAG for MuData: manifold fitting and a gated variational autoencoder for two kinds of measurement of the same cells."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scmag_muon import datasets, metrics, model, pl, pp, tl
    from scmag_muon._report import report

__all__ = ["__version__", "datasets", "metrics", "model", "pl", "pp", "report", "tl"]

try:
    __version__ = version("scmag-muon")
except PackageNotFoundError:
    __version__ = "unknown"


def __getattr__(name: str) -> Any:
    if name == "report":
        return importlib.import_module("scmag_muon._report").report
    if name in __all__:
        return importlib.import_module(f"scmag_muon.{name}")
    raise AttributeError(f"module 'scmag_muon' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
