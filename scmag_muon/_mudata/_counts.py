"""Raw counts of a modality: found, checked, rounded where they may be."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from scmag_muon._mudata._blocks import in_file, only_features, read_rows, row_blocks
from scmag_muon._mudata._raw import as_integers, check_range
from scmag_muon._mudata._storage import read_csr
from scmag_muon.manifold.scratch import is_mapped, stacked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData

logger = logging.getLogger(__name__)


def layer_of(layer: str | Mapping[str, str | None] | None, modality: str) -> str | None:
    """The layer asked for one modality, where ``layer`` may be one name for all or a mapping."""
    if layer is None or isinstance(layer, str):
        return layer
    return layer.get(modality)


def check_layer(
    mdata: MuData, layer: str | Mapping[str, str | None] | None, modalities: Sequence[str] | None = None
) -> None:
    """Raise unless ``layer`` names layers of modalities that are there; the message has the mapping that works."""
    if layer is None:
        return
    if not isinstance(layer, str) and not hasattr(layer, "items"):
        raise TypeError(
            f"`layer` must be a name, or map modalities to names, got {layer!r} of type {type(layer).__name__}."
        )
    if not isinstance(layer, str):
        for name in layer:
            if name not in mdata.mod:
                raise KeyError(f"layer names the modality {name!r}, but the modalities are {list(mdata.mod)}.")
    names = list(mdata.mod) if modalities is None else list(modalities)
    for name in names:
        wanted = layer_of(layer, name)
        if wanted is not None and wanted not in mdata.mod[name].layers:
            have = sorted(str(known) for known in mdata.mod[name].layers if known is not None)
            raise KeyError(
                f"No layer {wanted!r} in modality {name!r}, which has {have}.{_mapping(mdata, names, layer)}"
            )


def _mapping(mdata: MuData, names: Sequence[str], layer: Any) -> str:
    """The mapping that names the layer where it is, ``.X`` elsewhere."""
    works = {name: found if (found := layer_of(layer, name)) in mdata.mod[name].layers else None for name in names}
    if not any(works.values()):
        return ""
    return f" To read it where it is, and .X of the other, give layer={works}."


_ROUND = "Round them with round_counts=True."


def get_counts(
    adata: AnnData,
    *,
    modality: str,
    layer: str | None = None,
    round_counts: bool = False,
    may_be_empty: bool = False,
    rounding: str = _ROUND,
    put_back: bool = False,
    features: np.ndarray | None = None,
) -> sp.csr_array:
    """Validated raw counts of a modality, shape ``(n_obs, n_vars)``: canonical CSR, float32.

    The arrays are the user's own where they need no change: never write to them. A matrix in a file is read by blocks of rows, and
    where it has many entries they go to a scratch file.

    Parameters
    ----------
    adata
        The modality.
    modality
        Its name, for messages.
    layer
        Layer of the counts; ``None`` is ``.X``.
    round_counts
        Round decimals, as ambient correction and expectation maximisation leave them.
    may_be_empty
        Take counts that are all zero, as of cells that were not measured.
    rounding
        How to round them, for messages.
    put_back
        Whether counts that lie elsewhere must be put there, for messages; else their layer is named.
    features
        Features whose counts are needed, bool, ``(n_vars,)``: of a matrix in a file no others are kept. By default all.

    Raises
    ------
    KeyError
        If the layer is not there.
    TypeError
        If the values are no numbers.
    ValueError
        If they are missing, negative, not finite, not integers, larger than 2**24 or all zero.
    OSError
        If they lie in a file that can't be read.
    """
    chosen = features if in_file(_slot(adata, modality, layer)[0]) else None
    blocks = (
        counts if chosen is None else only_features(counts, chosen)
        for _, counts in count_blocks(
            adata,
            modality=modality,
            layer=layer,
            round_counts=round_counts,
            may_be_empty=may_be_empty,
            rounding=rounding,
            put_back=put_back,
        )
    )
    return stacked(blocks)


def count_blocks(
    adata: AnnData,
    *,
    modality: str,
    layer: str | None = None,
    round_counts: bool = False,
    may_be_empty: bool = False,
    rounding: str = _ROUND,
    put_back: bool = False,
) -> Iterator[tuple[slice, sp.csr_array]]:
    """Rows and their counts as of :func:`get_counts`, block by block, or all at once where they are in memory."""
    matrix, where = _slot(adata, modality, layer)
    # nothing lies in a scratch file but counts that were checked
    if sp.issparse(matrix) and matrix.format == "csr" and is_mapped(matrix.data):
        yield slice(0, matrix.shape[0]), matrix
        return
    stored = kept = rounded = 0
    for rows in row_blocks(matrix):
        counts = read_csr(read_rows(matrix, rows, where=where), where=where)
        stored += counts.nnz
        if counts.nnz:
            part = adata if counts.shape == matrix.shape else adata[rows]
            check_range(counts, part, where, modality=modality, put_back=put_back)
            if counts.dtype.kind == "f":
                counts, changed = as_integers(
                    counts,
                    part,
                    where,
                    modality=modality,
                    rounding=None if round_counts else rounding,
                    put_back=put_back,
                )
                rounded += changed
        kept += counts.nnz
        yield rows, counts.astype(np.float32, copy=False)
    if not kept and (stored or not may_be_empty):
        raise ValueError(f"{where} holds no counts at all: every value {'rounds to' if stored else 'is'} zero.")
    if rounded:
        logger.info("%s: %d of %d counts have decimals and are rounded.", where, rounded, stored)


def counts_in_file(adata: AnnData, *, modality: str, layer: str | None = None) -> bool:
    """Whether counts lie in a file from which they are read by blocks of cells."""
    return in_file(_slot(adata, modality, layer)[0])


def _slot(adata: AnnData, modality: str, layer: str | None) -> tuple[Any, str]:
    """The matrix of the counts, and what it is called in messages."""
    if layer is not None and layer not in adata.layers:
        have = sorted(str(known) for known in adata.layers if known is not None)
        raise KeyError(f"No layer {layer!r} in modality {modality!r}, which has {have}.")
    matrix = adata.X if layer is None else adata.layers[layer]
    where = f"mdata[{modality!r}]" + (".X" if layer is None else f".layers[{layer!r}]")
    if matrix is None:
        raise ValueError(f"{where} is missing; raw counts are needed there, or name their layer with layer=.")
    return matrix, where
