"""Counts of one or more modalities from the files that people have: .h5mu, .zarr, 10x .h5 and matrix folders, .h5ad."""

from __future__ import annotations

import errno
import logging
import re
import warnings
from typing import TYPE_CHECKING, Any

import anndata
import h5py
import mudata
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scmag_muon._mudata import make_mudata, no_pull_on_update, read_lazy, recognize, stored_raw, stored_values

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

logger = logging.getLogger(__name__)

MANY = 2**26
"""Values above which a MuData is not read whole."""
_KNOWN = "a MuData (.h5mu or .zarr), a 10x matrix (.h5, or the folder of matrix.mtx), or an AnnData (.h5ad)"
_PROTEINS = re.compile(r"prot|adt|antibod|cite", re.IGNORECASE)
_NAMES = {"rna": "rna", "protein": "prot", "atac": "atac"}
_BEGINNINGS = {
    b"": "it is empty",
    b"\x1f\x8b": "it is packed with gzip; unpack it with gunzip",
    b"PK": "it is a zip archive; unpack it with unzip",
    b"<": "it is a web page or XML, perhaps a download that failed",
}


def read(path: Path) -> MuData:
    """The modalities of a file, by what it holds and not by its name.

    Raises
    ------
    FileNotFoundError, PermissionError
        Where there is no such file, or it may not be read.
    ValueError
        Where it is cut short, being written, or of a kind that does not tell its modalities.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    with no_pull_on_update(), warnings.catch_warnings():
        # a name may belong to a gene and a protein; within a modality names are made unique below
        for message in (".*names are not unique", "Duplicated var_names should not"):
            warnings.filterwarnings("ignore", message=message)
        try:
            return _read_folder(path) if path.is_dir() else _read_file(path)
        except (FileNotFoundError, PermissionError, ImportError, MemoryError, _Unsuitable):
            raise
        except Exception as error:
            raise ValueError(f"{path} can't be read: {error}") from error


def _read_lazy(path: Path) -> MuData | None:
    """A MuData of many values, which stay in its file; ``None`` where there are not so many."""
    count = stored_values(path)
    if count <= MANY:
        return None
    logger.info("%s holds %.3g values. They stay there and are read by blocks of cells.", path, count)
    return read_lazy(path)


class _Unsuitable(ValueError):
    """The file was understood and does not serve."""


def _read_folder(path: Path) -> MuData:
    if not any((path / name).is_file() for name in (".zgroup", "zarr.json")):
        matrices = [found.name for found in sorted(path.glob("*matrix.mtx*"))]
        if not matrices:
            raise _Unsuitable(f"{path} is a folder and no zarr store. The input must be {_KNOWN}.")
        if len(matrices) > 1:
            raise _Unsuitable(f"{path} holds {len(matrices)} matrices: {matrices[:3]}. Give each a folder of its own.")
        return _read_10x_folder(path, prefix=matrices[0].partition("matrix.mtx")[0])
    if (path / "mod").is_dir() and (lazy := _read_lazy(path)) is not None:
        return lazy
    try:
        data = mudata.read_zarr(path)
    except ImportError as error:
        raise ImportError("Reading .zarr needs zarr. Install it with: pip install zarr") from error
    if not isinstance(data, mudata.MuData):
        return _split(data, path)
    for name, raw in stored_raw(path).items():  # which mudata leaves out
        data.mod[name].raw = raw
    return data


def _read_file(path: Path) -> MuData:
    if not h5py.is_hdf5(path):
        with path.open("rb") as file:
            start = file.read(512)
        # a MuData's own words stand before the HDF5 part
        why = next((why for begin, why in _BEGINNINGS.items() if start.startswith(begin) and (begin or not start)), "")
        raise _Unsuitable(f"{path} is no HDF5 file{': ' + why if why else ''}. The input must be {_KNOWN}.")
    groups = _groups(path)
    if "mod" in groups:
        lazy = _read_lazy(path)
        return mudata.read_h5mu(path) if lazy is None else lazy
    if {"obs", "var"} <= set(groups):
        return _split(anndata.read_h5ad(path), path)
    if any("barcodes" in inside for inside in groups.values()):  # "matrix", or in old files the genome
        return _read_10x(path)
    raise _Unsuitable(f"{path} is an HDF5 file of another kind, with {sorted(groups)[:5]}. The input must be {_KNOWN}.")


def _groups(path: Path) -> dict[str, set[str]]:
    """What an HDF5 file holds, and what each of its groups does."""
    try:
        with h5py.File(path, "r") as file:
            return {name: set(item) if isinstance(item, h5py.Group) else set() for name, item in file.items()}
    except PermissionError:
        raise
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES) or "unable to lock" in str(error):
            raise _Unsuitable(f"{path} is being written by another program. Wait until that has ended.") from error
        if "truncated" in str(error):
            raise _Unsuitable(f"{path} is cut short. Copy or download it again.") from error
        raise


def _read_10x(path: Path) -> MuData:
    import scanpy as sc  # slow to import

    # what muon.read_10x_h5 does, without its search for fragment files and its print
    return _split_10x(sc.read_10x_h5(path, gex_only=False), path)


def _read_10x_folder(path: Path, *, prefix: str) -> MuData:
    import scanpy as sc  # slow to import

    return _split_10x(sc.read_10x_mtx(path, gex_only=False, prefix=prefix), path)


def _split_10x(adata: AnnData, path: Path) -> MuData:
    if "feature_types" not in adata.var:
        adata.var["feature_types"] = "Gene Expression"  # Cell Ranger 2 counted nothing else
    return _split(adata, path)


def _split(adata: AnnData, path: Path) -> MuData:
    """Modalities of an AnnData, by ``var["feature_types"]``, from proteins in ``obsm``, or the only one."""
    twice = adata.obs_names.duplicated()
    if twice.any():
        raise _Unsuitable(
            f"{path} has {twice.sum()} cells whose names others have, the first {str(adata.obs_names[twice][0])!r}. Make them unique with "
            "adata.obs_names_make_unique(), or by sample with index_unique= of anndata.concat, and write it again."
        )
    if "feature_types" in adata.var and adata.var["feature_types"].nunique() > 1:
        without = adata.var["feature_types"].isna()
        if without.any():
            raise _Unsuitable(
                f"{path} has {without.sum()} features without a type in var['feature_types'], the first "
                f"{str(adata.var_names[without][0])!r}. Give them one, or leave them out: "
                "adata = adata[:, adata.var['feature_types'].notna()].copy()."
            )
        adata.var["feature_types"] = adata.var["feature_types"].astype(str).str.replace("/", "_")  # names of modalities
        mods = dict(mudata.MuData(adata).mod)
        for mod in mods.values():
            mod.obs = mod.obs[[]]
        return _unique(mods, adata.obs)
    named = [slot for slot in adata.obsm if _PROTEINS.search(slot)]
    slots = [slot for slot in named if _are_counts(adata.obsm[slot])]
    if named and not slots:
        logger.warning("obsm%s of %s holds no counts, and is left out.", named, path)
    if len(slots) > 1:
        raise _Unsuitable(
            f"{path} is an AnnData in which these may be proteins: {slots}. Delete all but one from obsm, or join two AnnData with "
            "mudata.MuData({'rna': rna, 'prot': prot}) and write that as .h5mu."
        )
    found = recognize("", adata)
    if not slots:
        if found.kind is None:
            raise _Unsuitable(f"{path} holds {found} alone, which does not tell types of cells.")
        logger.info("%s holds one modality. It is taken as %s.", path, found)
        return _unique({_NAMES[found.kind]: _without_obs(adata)}, adata.obs)
    values = adata.obsm[slots[0]]
    proteins = AnnData(
        sp.csr_matrix(values if sp.issparse(values) else np.asarray(values), dtype="float32"),
        obs=pd.DataFrame(index=adata.obs_names),
        var=pd.DataFrame(index=_protein_names(adata, slots[0])),
    )
    rna = _without_obs(adata)
    del rna.obsm[slots[0]]
    logger.info("obsm[%r] of %s is taken as %d proteins.", slots[0], path, proteins.n_vars)
    return _unique({"rna": rna, "prot": proteins}, adata.obs)


def _without_obs(adata: AnnData) -> AnnData:
    alone = adata.copy()
    alone.obs = alone.obs[[]]
    return alone


def _are_counts(values: Any) -> bool:
    values = values.to_numpy() if isinstance(values, pd.DataFrame) else values
    values = values.data if sp.issparse(values) else np.asarray(values)
    return values.dtype.kind in "iuf" and bool((values >= 0).all() and np.array_equal(values, np.rint(values)))


def _protein_names(adata: AnnData, slot: str) -> pd.Index:
    values = adata.obsm[slot]
    if isinstance(values, pd.DataFrame):
        return values.columns.astype(str)
    named = [key for key in adata.uns if _PROTEINS.search(key) and np.size(adata.uns[key]) == values.shape[1]]
    if named:
        return pd.Index(np.asarray(adata.uns[named[0]]).ravel().astype(str))
    logger.warning("The proteins in obsm[%r] have no names: they are called protein_1, protein_2, ...", slot)
    return pd.Index([f"protein_{number + 1}" for number in range(values.shape[1])])


def _unique(mods: Any, obs: pd.DataFrame | None = None) -> MuData:
    for adata in mods.values():
        adata.var_names_make_unique()
    return make_mudata(mods, obs)
