"""Which modalities take part, and which cells have them."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING

import numpy as np

from scmag_muon._assays import ASSAYS
from scmag_muon._mudata._cells import check_mudata
from scmag_muon._mudata._kinds import check_kinds, recognize
from scmag_muon._mudata._pairing import (
    any_of,
    check_modalities,
    check_none_lacks_all,
    check_not_renamed,
    check_paired,
    check_same_cells,
    read_first,
)
from scmag_muon.manifold.joint import linked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData

    from scmag_muon._assays import ModalityKind

logger = logging.getLogger(__name__)

FEWEST_CELLS = 20


def modality_names(
    mdata: MuData, modalities: Sequence[str] | None = None, kinds: Mapping[str, ModalityKind] | None = None
) -> list[str]:
    """Names of the modalities to use, in the order given; by default all whose kind is known, RNA first."""
    check_mudata(mdata)
    told = check_kinds(mdata, kinds)
    available = list(mdata.mod)
    if modalities is None:
        found = {name: told.get(name) or recognize(name, adata).kind for name, adata in mdata.mod.items()}
        known = {name: ASSAYS[kind].rank for name, kind in found.items() if kind is not None}
        if not found:
            raise ValueError("The MuData has no modalities.")
        if not known:
            raise ValueError(
                f"No modality of the MuData is known to be RNA, proteins or ATAC: {available}. If one is, tell with "
                f"kinds={{{available[0]!r}: 'protein'}}."
            )
        if len(known) < len(found):
            left_out = [name for name in available if name not in known]
            logger.info("Modalities %s are left out: what they measure does not tell types of cells.", left_out)
        return sorted(known, key=known.__getitem__)
    names = [modalities] if isinstance(modalities, str) else list(modalities)
    if not names or len(set(names)) != len(names):
        raise ValueError(f"`modalities` must name one or more different modalities, got {names}.")
    for name in names:
        if name not in mdata.mod:
            raise KeyError(f"No modality {name!r} in the MuData, which has {available}.")
    return names


def check_named(mdata: MuData, names: Sequence[str]) -> None:
    """Raise unless each modality has cells, all of them among ``mdata.obs_names``: what is read by name needs no more."""
    check_modalities(mdata, names)
    for name in names:
        _cells_of(mdata, name)


def check_cells(mdata: MuData, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Number among ``mdata.obs_names`` of each row of each modality, or an error.

    Cells may lack modalities (``mdata.obsmap``); then each needs one of ``names``, each modality at least 20 cells.
    """
    check_modalities(mdata, names)
    if all(mdata.mod[name].n_obs == mdata.n_obs for name in names):
        check_paired(mdata, names)
        return {name: np.arange(mdata.n_obs) for name in names}
    cells = {name: _cells_of(mdata, name) for name in names}
    for name, of_modality in cells.items():
        others = [other for other in names if other != name]
        if len(of_modality) < FEWEST_CELLS and others:
            raise ValueError(
                f"Modality {name!r} holds {len(of_modality)} of {mdata.n_obs} cells, too few to learn from. Choose the others with "
                f"modalities={others}."
            )
    lacking = ~np.isin(np.arange(mdata.n_obs), np.concatenate(list(cells.values())))
    check_none_lacks_all(mdata, lacking, names, names)
    for name, of_modality in cells.items():
        others = [other for other in names if other != name]
        if others and not any(np.isin(of_modality, cells[other]).any() for other in others):
            check_same_cells(mdata, *sorted((name, others[0]), key=list(names).index))
    for first, other in itertools.combinations(names, 2):
        check_not_renamed(mdata, first, other)
    _check_chain(mdata, names, cells)
    return cells


def check_complete(
    mdata: MuData, names: Sequence[str], manifold_key: str, layer: str | Mapping[str, str | None] | None = None
) -> None:
    """Raise unless every cell has every modality, in one order; ``layer``, that of the counts, is for the fix."""
    check_modalities(mdata, names)
    lacking = [name for name in names if 0 < mdata.obs_names.isin(mdata.mod[name].obs_names).sum() < mdata.n_obs]
    if lacking and all(mdata.mod[name].n_obs >= FEWEST_CELLS for name in names):
        check_cells(mdata, names)
        arguments = f"modalities={list(names)}, " + ("" if layer is None else f"layer={layer!r}, ")
        is_fitted = all(manifold_key in mdata.mod[name].layers for name in names)
        fit = "" if is_fitted else f"scmag_muon.pp.manifold_fit(mdata, {arguments}key_added={manifold_key!r}); "
        raise ValueError(
            f"Some cells lack {' and '.join(map(repr, lacking))}. Fill in what they lack with {fit}"
            f"mdata = scmag_muon.pp.complete_cells(mdata, manifold_key={manifold_key!r}); a model takes it with "
            'setup_mudata(mdata, present_key="present").'
        )
    check_paired(mdata, names)


def _check_chain(mdata: MuData, names: Sequence[str], cells: dict[str, np.ndarray]) -> None:
    present = np.zeros((mdata.n_obs, len(names)), dtype=bool)
    for i, name in enumerate(names):
        present[cells[name], i] = True
    reached = linked(present)
    if not reached.all():
        together = [name for name, link in zip(names, reached, strict=True) if link]
        apart = [name for name in names if name not in together]
        raise ValueError(
            f"The cells of modalities {apart} have none of {together}, and no cells link them. Add cells that have modalities of "
            f"both, or fit each apart, with modalities={together} of {read_first(mdata)}mdata = mdata[{any_of(together)}].copy()."
        )


def _cells_of(mdata: MuData, name: str) -> np.ndarray:
    adata = mdata.mod[name]
    cells = mdata.obs_names.get_indexer(adata.obs_names)
    if (cells < 0).any():
        unknown = str(adata.obs_names[cells < 0][0])
        raise ValueError(
            f"Cells of modality {name!r} were renamed after they were joined: {int((cells < 0).sum())} of {len(cells)}, such as "
            f"{unknown!r}, are not in mdata.obs_names. Call mdata.update()."
        )
    return cells
