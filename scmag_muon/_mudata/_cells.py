"""Cells and modalities: which there are, whether they pair up, columns about them."""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Hashable
from copy import deepcopy
from typing import TYPE_CHECKING

import mudata
import numpy as np
import pandas as pd

from scmag_muon._mudata._pairing import read_first
from scmag_muon.manifold.threads import shared_by_threads

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from anndata import AnnData
    from mudata import MuData


@shared_by_threads
@contextlib.contextmanager
def no_pull_on_update() -> Iterator[None]:
    """Keep mudata from copying modality columns upwards, the same way on mudata 0.3 and 0.4."""
    settings = getattr(mudata, "settings", None)
    if settings is not None and hasattr(settings, "override"):
        with settings.override(pull_on_update=False):
            yield
    else:
        # as a context manager it would log to the root logger, which sets that up and makes the user's own set-up void
        options = mudata.set_options(pull_on_update=False)
        try:
            yield
        finally:
            mudata.set_options(**options.opts)


@contextlib.contextmanager
def _random_state_kept() -> Iterator[None]:
    """Keep Python's random state, from which mudata draws names for columns."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


def make_mudata(mods: Mapping[str, AnnData], obs: pd.DataFrame | None = None) -> MuData:
    """A MuData of the given modalities with its own ``obs`` columns, none pulled up, and the cells in the order of ``obs``."""
    with no_pull_on_update(), _random_state_kept(), warnings.catch_warnings():
        # a protein and its gene often share a name; within a modality names are unique, which check_paired makes sure of
        warnings.filterwarnings("ignore", message="var_names are not unique")
        mdata = mudata.MuData(dict(mods))
        if obs is not None:
            for column in obs.columns:
                mdata.obs[column] = obs[column].reindex(mdata.obs_names)
    if obs is None or mdata.obs_names.equals(obs.index) or set(mdata.obs_names) != set(obs.index):
        return mdata
    # mudata orders the union of several modalities' cells by itself
    return copy_of(mdata[obs.index])


def copy_of(mdata: MuData) -> MuData:
    """A full copy in memory, also of a file that was opened backed; without mudata 0.3's warning."""
    if not mdata.isbacked:
        with no_pull_on_update(), _random_state_kept():
            copied = mdata.copy()
        for slot in ("obs", "var"):
            # mudata takes whole numbers that are stored as decimals for integers
            setattr(copied, slot, getattr(mdata, slot).copy())
        return copied
    copied = make_mudata({name: adata.to_memory() for name, adata in mdata.mod.items()})
    copied.obs, copied.var, copied.uns = mdata.obs.copy(), mdata.var.copy(), deepcopy(dict(mdata.uns))
    for slot in ("obsm", "varm", "obsp", "varp"):
        target = getattr(copied, slot)
        for key, value in getattr(mdata, slot).items():
            if key not in mdata.mod:  # mudata keeps a mask of each modality's cells there
                target[key] = value.copy()
    return copied


def unview(mdata: MuData) -> None:
    """Make a view, or modalities that are views, objects of their own, as writing to them would do with a warning."""
    with no_pull_on_update(), _random_state_kept():
        if mdata.is_view:
            mdata.obs, mdata.var = mdata.obs.copy(), mdata.var.copy()
        for adata in mdata.mod.values():
            if adata.is_view:
                adata.obs = adata.obs.copy()


def check_mudata(mdata: object) -> None:
    """Raise unless it is a MuData."""
    if not isinstance(mdata, mudata.MuData):
        raise TypeError(
            f"scMAG needs a MuData, got {type(mdata).__name__}. "
            'Make one with mudata.MuData({"rna": adata}), or join several AnnData: {"rna": adata, "prot": adata_of_proteins}.'
        )


def check_n_clusters(n_clusters: object, n_obs: int) -> None:
    """Raise unless K is a whole number of clusters that so many cells can fill."""
    if not isinstance(n_clusters, (int, np.integer)) or isinstance(n_clusters, bool):
        raise TypeError(f"`n_clusters` must be an integer, got {n_clusters!r}.")
    if not 1 <= n_clusters <= n_obs:
        raise ValueError(f"`n_clusters` must lie between 1 and the number of cells ({n_obs}), got {n_clusters}.")


def get_obs_column(mdata: MuData, column: str, *, argument: str) -> pd.Series:
    """A column of ``mdata.obs``, or of a modality's ``obs`` where only that has it; ``"rna:donor"`` may name it there."""
    check_mudata(mdata)
    if not isinstance(column, Hashable):
        raise TypeError(f"`{argument}` must be the name of a column, got {column!r}.")
    of_all, candidates = ("mdata.obs", mdata.obs), [("mdata.obs", mdata.obs, column)]
    for name, adata in mdata.mod.items():
        of_modality = (f"mdata[{name!r}].obs", adata.obs)
        candidates += [(*of_modality, column), (*of_all, f"{name}:{column}")]
        if str(column).startswith(f"{name}:"):
            candidates.append((*of_modality, column.removeprefix(f"{name}:")))
    for where, frame, key in candidates:
        if key in frame:
            if isinstance(frame[key], pd.DataFrame):
                raise ValueError(
                    f"{argument}={column!r} names {frame[key].shape[1]} columns of {where}. Keep the first of each name with "
                    f"{where} = {where}.loc[:, ~{where}.columns.duplicated()]."
                )
            return frame[key].reindex(mdata.obs_names)
    raise KeyError(
        f"{argument}={column!r} names no column of mdata.obs or of a modality's obs. "
        f"mdata.obs has {sorted(map(str, mdata.obs.columns))}."
    )


def get_batches(mdata: MuData, batch_key: str | None, *, argument: str = "batch_key") -> pd.Categorical | None:
    """The batch of each cell, or ``None`` where there is no ``batch_key``."""
    if batch_key is None:
        return None
    column = get_obs_column(mdata, batch_key, argument=argument)
    if column.isna().all() and mdata.n_obs:
        raise ValueError(
            f"{argument}={batch_key!r} is missing for all {mdata.n_obs} cells. Fill the column. Where cells were renamed in their "
            "modalities, name them with mdata.obs_names = names instead, which keeps the columns of mdata.obs."
        )
    if column.isna().any():
        first = str(column.index[column.isna()][0])
        known = f"mdata.obs[{batch_key!r}].notna().to_numpy()"
        if batch_key not in mdata.obs:
            name, own = next(
                (name, own)
                for own in (batch_key, batch_key.partition(":")[2])
                for name, adata in mdata.mod.items()
                if own in adata.obs
            )
            known = f"mdata.obs_names.isin(mdata[{name!r}].obs[{own!r}].dropna().index)"
        raise ValueError(
            f"{argument}={batch_key!r} is missing for {int(column.isna().sum())} cells, the first of them {first!r}. Leave "
            f"them out with {read_first(mdata)}mdata = mdata[{known}].copy()."
        )
    text = column.astype(str)
    for name, adata in mdata.mod.items():
        if batch_key in mdata.obs and batch_key in adata.obs:
            own = adata.obs[batch_key].dropna().astype(str)
            wrong = own.index[(own != text.reindex(own.index)).to_numpy()]
            if len(wrong):
                raise ValueError(
                    f"{argument}={batch_key!r} is in mdata.obs and in mdata[{name!r}].obs with other content, for example in "
                    f"cell {str(wrong[0])!r}. Drop one of them: del mdata[{name!r}].obs[{batch_key!r}]."
                )
    return pd.Categorical(text)
