"""What the name of a feature says: isotype controls, ribosomal and mitochondrial genes, one name for an antibody's many."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

# IgD, IgM and IgE, and "IgG Fc", are proteins of cells; IgG1, IgG2a and the like stand for controls
_ISOTYPE = re.compile(r"isotype|\bcontrol\b|\bctrl\b|igg\s?\d?\s?[abc]?(?![a-z])", re.IGNORECASE)
_NO_ISOTYPE = re.compile(r"\bfc\b|\banti\b", re.IGNORECASE)
# RPS6KA1 and its like are kinases
_RIBOSOMAL = re.compile(r"^(rp[sl]\d+([axyl]\d*)?l?\d*|rplp[012]|rpsa)$", re.IGNORECASE)
_MITOCHONDRIAL = re.compile(r"^mt[-.]", re.IGNORECASE)
_KIT = re.compile(
    r"^(adt|prot|protein|ab|hu|human|anti[-_. ]?human|totalseq[a-c]?)[-_. ]+|[-_. ]+(totalseq[a-c]?|ab|adt|prot)$",
    re.IGNORECASE,
)
_CLONE = re.compile(r"[-_.\s]\d$")
_BRACKETS = re.compile(r"\((.*?)\)")
_GENOME = re.compile(r"^(hg19|hg38|mm10|mm39|grch3[78]|grcm3[89])_+", re.IGNORECASE)


def is_isotype_control(names: Iterable[object]) -> np.ndarray:
    """Which antibodies are isotype controls, as ``"IgG1"``, ``"Mouse-IgG2a"`` or ``"Isotype_MOPC.21"``."""
    texts = [re.sub(r"[_\-.]", " ", str(name)) for name in names]
    return np.array([bool(_ISOTYPE.search(text)) and not _NO_ISOTYPE.search(text) for text in texts], dtype=bool)


def gene_symbol(name: object) -> str:
    """The symbol without the genome's name, which Cell Ranger puts before it where there are two."""
    return _GENOME.sub("", str(name))


def is_mitochondrial(names: Iterable[object]) -> np.ndarray:
    """Which genes lie on the mitochondrial genome, by their symbols, of human or mouse."""
    return np.array([bool(_MITOCHONDRIAL.match(gene_symbol(name))) for name in names], dtype=bool)


def is_housekeeping(names: Iterable[object]) -> np.ndarray:
    """Which genes are of ribosomal proteins or mitochondrial, by their symbols, of human or mouse."""
    symbols = [gene_symbol(name) for name in names]
    return is_mitochondrial(symbols) | np.array([bool(_RIBOSOMAL.match(name)) for name in symbols], dtype=bool)


def antibody_names(name: object) -> list[str]:
    """What an antibody may be called, in lower case without signs: its name, parts in brackets, without kit or clone.

    ``"MHCII (HLA-DR)"`` is ``"mhciihladr"``, ``"mhcii"`` and ``"hladr"``. ``"ADT_CD3-1"`` is ``"cd3"`` and ``"cd31"``: the likeliest
    comes first, so that CD31 keeps its name.
    """
    text = _KIT.sub("", str(name))
    parts = [text, _BRACKETS.sub("", text), *_BRACKETS.findall(text)]
    parts = [spelling for part in parts for spelling in (_CLONE.sub("", part), part)]
    return [plain for plain in dict.fromkeys(map(plain_name, parts)) if plain]


def plain_name(name: object) -> str:
    """A name in lower case without signs."""
    return re.sub(r"[^a-z0-9]", "", str(name).lower())
