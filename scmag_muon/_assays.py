"""What each kind of modality is: how it is recognised, and what follows from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from anndata import AnnData


ModalityKind = Literal["rna", "protein", "atac"]

_KIND_BY_NAME: dict[str, ModalityKind] = {
    "rna": "rna",
    "gex": "rna",
    "gene_expression": "rna",
    "prot": "protein",
    "protein": "protein",
    "adt": "protein",
    "cite": "protein",
    "atac": "atac",
    "peaks": "atac",
}
_KIND_BY_FEATURE_TYPE: dict[str, ModalityKind] = {
    "Gene Expression": "rna",
    "Antibody Capture": "protein",
    "Peaks": "atac",
}
_LARGEST_PANEL = 500


def modality_kind(name: str, adata: AnnData) -> ModalityKind:
    """What a modality measures: by its 10x ``feature_types``, else its name, else the size of its panel."""
    if "feature_types" in adata.var:
        kinds = {_KIND_BY_FEATURE_TYPE.get(value) for value in adata.var["feature_types"].unique()}
        if len(kinds) == 1 and None not in kinds:
            return kinds.pop()  # type: ignore[return-value]
    by_name = _KIND_BY_NAME.get(name.lower())
    if by_name is not None:
        return by_name
    return "protein" if adata.n_vars <= _LARGEST_PANEL else "rna"
