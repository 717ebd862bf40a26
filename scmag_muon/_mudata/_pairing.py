"""Whether rows of the modalities are the same cells, and what to do where they are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from mudata import MuData


def check_modalities(mdata: MuData, modalities: Sequence[str]) -> None:
    """Raise unless the MuData shares its cells, and each modality has cells and features of unique names."""
    if getattr(mdata, "axis", 0) != 0:
        raise ValueError(f"The MuData must share its cells (axis=0), but it was made with axis={mdata.axis}.")
    if mdata.n_obs == 0:
        raise ValueError("The MuData has no cells.")
    for name in modalities:
        names = mdata.mod[name].obs_names
        if hasattr(mdata.mod[name], "mod"):
            raise TypeError(
                f"Modality {name!r} is a MuData itself. Join all in one: mdata = mudata.MuData({{**{{name: adata for name, adata in "
                f"mdata.mod.items() if name != {name!r}}}, **mdata[{name!r}].mod}})."
            )
        if not name or "/" in name:
            other = name.replace("/", "_") or "unnamed"
            raise ValueError(
                f"A modality is called {name!r}: a file can't hold a MuData with a modality whose name is empty or has a slash. Give it "
                f"another: mdata.mod[{other!r}] = mdata.mod.pop({name!r}); mdata.update()"
            )
        if mdata.mod[name].n_obs == 0 or mdata.mod[name].n_vars == 0:
            rest = f" Take it out: del mdata.mod[{name!r}]; mdata.update()" if len(mdata.mod) > 1 else ""
            raise ValueError(
                f"Modality {name!r} is empty: {mdata.mod[name].n_obs} cells, {mdata.mod[name].n_vars} features.{rest}"
            )
        if not names.is_unique:
            twice = str(names[names.duplicated()][0])
            if len({mdata.mod[each].n_obs for each in modalities}) > 1:
                raise ValueError(
                    f"Cell names of modality {name!r} are not unique, such as {twice!r}, so that cells can't be told apart. Name "
                    "the cells of each sample before joining, for example with "
                    "anndata.concat(samples, index_unique='-', keys=names_of_samples) in each modality."
                )
            raise ValueError(
                f"Cell names of modality {name!r} are not unique, such as {twice!r}. While all modalities have their cells in "
                f"the same order, run\n"
                f"{read_first(mdata)}for name in {tuple(modalities)}: mdata[name].obs_names_make_unique()\n"
                f"mdata.update()\nmdata = mdata[mdata[{name!r}].obs_names].copy()"
            )
        if not mdata.mod[name].var_names.is_unique:
            raise ValueError(
                f"Feature names of modality {name!r} are not unique. Call mdata[{name!r}].var_names_make_unique()."
            )


def read_first(mdata: MuData) -> str:
    """What a fix begins with where the MuData is a file, which can't be copied, or does not know of changes in its modalities."""
    if mdata.isbacked:
        return "mdata = mudata.read_h5mu(mdata.filename)\n"
    cells = {name: adata.obs_names for name, adata in mdata.mod.items() if adata.obs_names.is_unique}
    known = all(
        np.array_equal(np.ravel(mdata.obsmap[name]), own.get_indexer(mdata.obs_names) + 1)
        for name, own in cells.items()
    )
    return "" if known else "mdata.update()\n"


def any_of(names: Sequence[str]) -> str:
    """The cells that have any of the modalities, as an index of ``mdata``."""
    return " | ".join(f"(mdata.obsmap[{name!r}] > 0)" for name in names)


def check_none_lacks_all(mdata: MuData, lacking: np.ndarray, wanted: Sequence[str], there: Sequence[str]) -> None:
    """Raise where cells have none of the modalities that are wanted, of which ``there`` are in the MuData."""
    if lacking.any():
        raise ValueError(
            f"{int(lacking.sum())} of {mdata.n_obs} cells have none of the modalities {list(wanted)}, the first is "
            f"{mdata.obs_names[lacking][0]!r}. Leave them out: {read_first(mdata)}mdata = mdata[{any_of(there)}].copy()."
        )


def check_paired(mdata: MuData, modalities: Sequence[str]) -> None:
    """Raise unless every modality holds the same cells in the same order.

    scvi-tools pairs rows by position and does not look at the names, so this must be certain before it sees the data.
    """
    check_modalities(mdata, modalities)
    for name in modalities[1:]:
        check_same_cells(mdata, modalities[0], name)
    first = mdata.mod[modalities[0]].obs_names
    if not first.isin(mdata.obs_names).all():
        raise ValueError("Cells were renamed after they were joined: mdata.obs_names are others. Call mdata.update().")
    if len(first) < mdata.n_obs:
        raise ValueError(
            f"The MuData has {mdata.n_obs - len(first)} cells that none of the modalities {list(modalities)} has. Their "
            f"{len(first)} cells stay with {read_first(mdata)}mdata = mdata[mdata[{modalities[0]!r}].obs_names].copy()."
        )
    for name in modalities:
        # pandas takes names for others where they are stored in another way, as strings that may be missing
        if (mdata.mod[name].obs_names.astype(object) != mdata.obs_names.astype(object)).any():
            raise ValueError(
                f"The cells of modality {name!r} are in another order than mdata.obs_names, so rows do not pair up. "
                f"Reorder them with {read_first(mdata)}mdata = mdata[mdata.obs_names].copy()."
            )


_ENDINGS = {
    "spaces": r"^\s+|\s+$",
    "endings": r"[-_.]\d+([-_.]\d+)*$",
    "last endings": r"-\d+$",
    "beginnings": r"^.*[#_:](?=[ACGTN]{8,})",
    "beginnings and endings": r"^.*[#_:](?=[ACGTN]{8,})|[-_.]\d+([-_.]\d+)*$",
}


def check_same_cells(mdata: MuData, first: str, other: str) -> None:
    """Raise unless two modalities have the same cells, in any order."""
    left, right = mdata.mod[first].obs_names, mdata.mod[other].obs_names
    shared = int(right.isin(left).sum())
    if shared == len(left) == len(right):
        return
    alone = [
        str(names[0])
        for names in (left.difference(right, sort=False), right.difference(left, sort=False))
        if len(names)
    ]
    examples = " and ".join(map(repr, alone))
    if shared:
        lacking = other if len(right) <= len(left) else first
        what = (
            f"Modality {lacking!r} lacks some cells of the MuData ({mdata.mod[lacking].n_obs} of {mdata.n_obs}): {shared} "
            f"cells are shared by {first!r} and {other!r}, the others are not, such as {examples}."
        )
    else:
        what = f"Modalities {first!r} and {other!r} have no cells in common: their names are such as {examples}."
    _tell_endings(mdata, left, right, shared, (first, other), what)
    if not shared:
        raise ValueError(f"{what} Give both the same cell names (barcodes) before joining them in a MuData.")
    raise ValueError(
        f"{what} Keep the common cells with "
        f"{read_first(mdata)}mdata = mdata[mdata[{first!r}].obs_names.intersection(mdata[{other!r}].obs_names)].copy()."
    )


def check_not_renamed(mdata: MuData, first: str, other: str) -> None:
    """Raise where most cells that one of two modalities lacks are in both, but for endings or beginnings of their names."""
    left, right = mdata.mod[first].obs_names, mdata.mod[other].obs_names
    alone = left.difference(right, sort=False), right.difference(left, sort=False)
    if not min(map(len, alone)):
        return
    examples = " and ".join(repr(str(names[0])) for names in alone)
    shared = len(left) - len(alone[0])
    what = f"{shared} cells are shared by {first!r} and {other!r}, {len(alone[0])} and {len(alone[1])} are not, such as {examples}."
    _tell_endings(mdata, left, right, shared + min(map(len, alone)) // 2, (first, other), what)


def _tell_endings(
    mdata: MuData, left: pd.Index, right: pd.Index, fewest: int, names: tuple[str, str], what: str
) -> None:
    """Raise where more than ``fewest`` cells have the same names in both modalities without endings or beginnings."""
    first, other = names
    for part, pattern in _ENDINGS.items():
        short = [cells.astype(str).str.replace(pattern, "", regex=True) for cells in (left, right)]
        matching = int(short[1].isin(short[0]).sum())
        if matching > fewest and all(cells.is_unique for cells in short):
            raise ValueError(
                f"{what} Without {part} {matching} cells match. If these are the same cells, run\n"
                f"{read_first(mdata)}for name in {(first, other)}: mdata[name].obs_names = mdata[name].obs_names.str.replace(r'{pattern}', '', regex=True)\n"
                f"mdata = mudata.MuData({{name: mdata[name] for name in {(first, other)}}})\n"
                f"mdata = mdata[mdata[{first!r}].obs_names.intersection(mdata[{other!r}].obs_names)].copy()"
            )
