"""The shared cells in other shapes, which rows about cells, features and modalities share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scmag_muon._mudata import make_mudata
from tests.odd.table import changed

if TYPE_CHECKING:
    from anndata import AnnData

FIT = "smm.pp.manifold_fit(mdata)"
RUN = "smm.tl.scmag(mdata, n_clusters=2, **short)"


def first_cells(n: int) -> Any:
    """The first n of the shared cells."""
    return changed(lambda mdata: mdata[:n].copy())


def first_genes(n: int) -> Any:
    """The shared cells with the first n genes."""
    return changed(lambda mdata: make_mudata({"rna": mdata["rna"][:, :n].copy(), "prot": mdata["prot"]}, mdata.obs))


def rebuilt(rna: Any = None, prot: Any = None) -> Any:
    """The shared cells with a modality after a change."""

    def change(mdata: Any) -> Any:
        mods = {"rna": mdata["rna"].copy(), "prot": mdata["prot"].copy()}
        for name, alter in (("rna", rna), ("prot", prot)):
            mods[name] = mods[name] if alter is None else alter(mods[name])
        return make_mudata(mods)

    return changed(change)


def named(axis: str, names: Any) -> Any:
    """A change of a modality that gives its cells or features other names."""

    def alter(adata: AnnData) -> AnnData:
        setattr(adata, f"{axis}_names", [names(i, name) for i, name in enumerate(getattr(adata, f"{axis}_names"))])
        return adata

    return alter
