"""What a row of the table of odd inputs is, and the inputs that many rows share."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

import scmag_muon as smm
from scmag_muon._mudata import make_mudata
from tests import finished as by_hand

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from mudata import MuData

SHORT: dict[str, Any] = {
    "max_epochs_pretrain": 2,
    "max_epochs": 1,
    "progress_bar": False,
    "accelerator": "cpu",
}


@dataclass(frozen=True)
class Row:
    """One input, one call and what comes of it. ``call`` and ``fix`` are run as they stand on the page."""

    given: str
    call: str
    outcome: str
    make: Callable[[], MuData]
    error: type[Exception] | None = None
    status: int = 0
    """Exit status, where the call is the command line."""
    names: tuple[str, ...] = ()
    """Patterns that the message must hold."""
    check: Callable[[Any, MuData], object] | None = None
    """Looks at what the call returned and at the MuData; false or an error says that the result is wrong."""
    fix: str = ""
    """The fix that the message names; with it the same call must work."""
    writes: Collection[str] = ()
    """Slots that were there before and that the call may write anew; all else must stay as it was."""


def refused(
    given: str,
    call: str,
    error: type[Exception],
    *names: str,
    make: Callable[[], MuData] | None = None,
    says: str,
    fix: str = "",
) -> Row:
    """A row that ends in a typed error, and leaves everything as it was."""
    return Row(given, call, says, make or citeseq, error=error, names=names, fix=fix)


def works(
    given: str,
    call: str,
    check: Callable[[Any, MuData], object],
    *,
    make: Callable[[], MuData] | None = None,
    says: str,
    writes: Collection[str] = (),
) -> Row:
    """A row that ends with the right result."""
    return Row(given, call, says, make or citeseq, check=check, writes=writes)


@functools.cache
def _citeseq(n_obs: int) -> MuData:
    return smm.datasets.simulate_citeseq(n_obs=n_obs, n_vars=20, n_prot=6, n_clusters=2, n_batches=2)


def citeseq(n_obs: int = 40) -> MuData:
    """Cells of two types in two batches, 20 genes, 6 proteins."""
    return _citeseq(n_obs).copy()


@functools.cache
def _trained() -> MuData:
    mdata = citeseq()
    smm.tl.scmag(mdata, n_clusters=2, batch_key="batch", **SHORT)
    return mdata


def trained() -> MuData:
    """The same cells as ``tl.scmag`` leaves them."""
    return _trained().copy()


@functools.cache
def _fitted() -> MuData:
    mdata = citeseq()
    smm.pp.manifold_fit(mdata)
    return mdata


def fitted() -> MuData:
    """The same cells as ``pp.manifold_fit`` leaves them."""
    return _fitted().copy()


@functools.cache
def _finished() -> MuData:
    mdata = by_hand.finished()
    smm.tl.markers(mdata)
    return mdata


def finished() -> MuData:
    """180 cells in four clear clusters, with markers."""
    return _finished().copy()


def dense(matrix: Any) -> np.ndarray:
    """The matrix as a plain array."""
    return np.asarray(matrix.toarray() if sp.issparse(matrix) else matrix)


def with_counts(change: Callable[[np.ndarray], Any], modality: str = "rna", n_obs: int = 40) -> Callable[[], MuData]:
    """The shared cells with one modality's counts, ``(n_obs, n_vars)`` as float32, replaced by what ``change`` makes of them."""

    def make() -> MuData:
        mdata = citeseq(n_obs)
        mods = dict(mdata.mod)
        old = mods[modality]
        mods[modality] = AnnData(change(dense(old.X).copy()), obs=old.obs, var=old.var)
        return make_mudata(mods, mdata.obs)

    return make


def with_entry(value: float, modality: str = "rna") -> Callable[[], MuData]:
    """The shared cells with one count replaced."""

    def change(counts: np.ndarray) -> np.ndarray:
        counts[3, 2] = value
        return counts

    return with_counts(change, modality)


def changed(change: Callable[[MuData], Any], make: Callable[[], MuData] = citeseq) -> Callable[[], MuData]:
    """The shared cells after ``change``, which may return another MuData."""

    def made() -> MuData:
        mdata = make()
        other = change(mdata)
        return mdata if other is None else other

    return made


def column(name: str, values: Any, modality: str | None = None) -> Callable[[], MuData]:
    """The shared cells with a column of ``obs``, for the MuData or a modality."""

    def change(mdata: MuData) -> None:
        target = mdata if modality is None else mdata[modality]
        target.obs[name] = pd.Series(values, index=target.obs_names, dtype=getattr(values, "dtype", object))

    return changed(change)


def sound(result: Any, mdata: MuData, key: str = "scmag") -> bool:
    """Whether what ``tl.scmag`` wrote is finite, of the right shape, and gives every cell a cluster."""
    del result
    labels = mdata.obs[key]
    numbers = [mdata.obsm[f"X_{key}"], mdata.obsm[f"X_{key}_recon"], mdata.obs[f"{key}_confidence"].to_numpy()]
    numbers += [dense(adata.layers[key]) for adata in mdata.mod.values()]
    assert labels.notna().all()
    assert all(np.isfinite(values).all() for values in numbers)
    assert all(adata.layers[key].shape == adata.shape for adata in mdata.mod.values())
    return mdata.obsm[f"X_{key}"].shape == (mdata.n_obs, 32)


def sound_fit(result: Any, mdata: MuData, key: str = "manifold") -> bool:
    """Whether what ``pp.manifold_fit`` wrote is finite and of the right shape."""
    del result
    layers = [(adata, adata.layers[key]) for adata in mdata.mod.values()]
    assert all(layer.shape == adata.shape and np.isfinite(dense(layer)).all() for adata, layer in layers)
    assert all(np.isclose(sum(adata.uns[key]["view_weights"].values()), 1) for adata in mdata.mod.values())
    return np.isfinite(mdata.obsm[f"X_{key}"]).all() and len(mdata.obsm[f"X_{key}"]) == mdata.n_obs
