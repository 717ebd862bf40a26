"""What follows from the kind of a modality: transforms, scaling, features, widths. One table that everything else reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ModalityKind = Literal["rna", "protein", "atac"]


@dataclass(frozen=True)
class Assay:
    """Facts about one kind of modality."""

    label: str
    """In words, for messages."""
    rank: int
    """Place in the default order of modalities: the main one has the lowest."""
    main: Literal["scaled", "clr", "log"]
    """Transform in which neighbours are found (:mod:`scmag_muon.manifold.transforms`)."""
    profile: Literal["clr", "log"]
    """Transform in which the means of communities are compared."""
    scales: bool
    """Whether cells are scaled to the median library size; of a small panel the total says little."""
    max_features: int
    """How many features are used where nobody has chosen them."""
    widths: Literal["wide", "panel"]
    """Name of the widths of encoder and decoder (section 2.4)."""


ASSAYS: dict[ModalityKind, Assay] = {
    "rna": Assay("RNA", 0, "scaled", "log", scales=True, max_features=4000, widths="wide"),
    "protein": Assay("proteins", 1, "clr", "clr", scales=False, max_features=4000, widths="panel"),
    "atac": Assay("ATAC", 1, "log", "log", scales=True, max_features=10_000, widths="wide"),
}
