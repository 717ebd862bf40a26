"""``mdata.scmag``: the functions of pp, tl and pl with the MuData already given."""

from __future__ import annotations

import importlib
from types import MethodType

from mudata import MuData, register_mudata_namespace  # mudata checks the annotation below when the program runs


class _Room:
    """One of the packages pp, tl and pl; its functions are made methods of the MuData when they are asked for."""

    def __init__(self, mdata: MuData, name: str) -> None:
        self._mdata = mdata
        self._name = name

    def __getattr__(self, name: str) -> MethodType:
        if name.startswith("_"):  # asked for by copy, before there is a package
            raise AttributeError(name)
        package = importlib.import_module(f"scmag_muon.{self._name}")
        if name not in package.__all__:
            raise AttributeError(
                f"mdata.scmag.{self._name} has no function {name!r}. It has {', '.join(package.__all__)}."
            )
        return MethodType(getattr(package, name), self._mdata)

    def __dir__(self) -> list[str]:
        return sorted(importlib.import_module(f"scmag_muon.{self._name}").__all__)

    def __repr__(self) -> str:
        return f"functions of scmag_muon.{self._name} for this MuData: {', '.join(dir(self))}"


@register_mudata_namespace("scmag")
class Namespace:
    """``mdata.scmag.tl.scmag(n_clusters=8)`` is ``scmag_muon.tl.scmag(mdata, n_clusters=8)``, and so on."""

    def __init__(self, mdata: MuData) -> None:
        self.pp = _Room(mdata, "pp")
        self.tl = _Room(mdata, "tl")
        self.pl = _Room(mdata, "pl")

    def __repr__(self) -> str:
        return "scmag_muon for this MuData: .pp, .tl, .pl"
