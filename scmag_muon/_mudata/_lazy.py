"""A MuData of which counts and layers stay in the file, read by anndata's own readers."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata
import h5py
from anndata import AnnData

from scmag_muon._mudata._cells import make_mudata

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

_OF_MODALITIES = ("obs", "var", "uns", "obsm", "varm", "obsp", "varp")
_OF_ALL = ("obsm", "varm", "obsp", "varp")
_SPARSE = ("csr_matrix", "csc_matrix")


def read_lazy(path: str | os.PathLike[str]) -> MuData:
    """Open a MuData and leave the counts and layers of its modalities in the file.

    Verbs read them by blocks of cells. The file is not written to, and must stay as it is while the MuData is used. Results are in
    memory.

    Parameters
    ----------
    path
        A ``.zarr`` store or an ``.h5mu`` file. Of the latter :func:`mudata.read_h5mu` with ``backed="r"`` leaves ``.X`` alone in the file.

    Returns
    -------
    Matrices in ``.X`` and ``.layers`` give rows when they are asked for: sparse ones as :func:`anndata.io.sparse_dataset` makes them,
    dense ones as arrays of zarr or h5py. So do those of ``.raw``. Everything else is in memory.

    Raises
    ------
    FileNotFoundError
        Where nothing is at ``path``.
    ImportError
        Where zarr is needed and not there.
    ValueError
        Where it holds no MuData.

    Examples
    --------
    ::

        mdata = smm.read_lazy("cells.zarr")
        smm.tl.scmag(mdata, mask_var="highly_variable", write_layers="none")
        mdata.obs["scmag"].to_csv("clusters.csv")
    """
    root = _opened(Path(path))
    if "mod" not in root:
        raise ValueError(
            f"{os.fspath(path)} holds no MuData, which has modalities under 'mod'. It has {sorted(root)[:5]}."
        )
    names = root["mod"].attrs.get("mod-order", list(root["mod"]))
    mdata = make_mudata({str(name): _modality(root["mod"][name]) for name in names}, _read(root["obs"]))
    if "uns" in root:
        mdata.uns = _read(root["uns"])
    for slot in _OF_ALL:
        for key, values in _read(root[slot]).items() if slot in root else ():
            if key not in mdata.mod:  # mudata keeps a mask of each modality's cells there
                getattr(mdata, slot)[key] = values
    return mdata


def stored_raw(path: str | os.PathLike[str]) -> dict[str, AnnData]:
    """``.raw`` of the modalities that have one, in memory."""
    modalities = _opened(Path(path))["mod"]
    found = {str(name): _raw(modalities[name], _read) for name in modalities if "raw" in modalities[name]}
    return {name: AnnData(**raw) for name, raw in found.items()}


def stored_values(path: str | os.PathLike[str]) -> int:
    """How many values the counts, layers and ``.raw`` of a MuData's file hold; of sparse ones those that are stored."""
    count, modalities = 0, _opened(Path(path))["mod"]
    for group in (modalities[name] for name in modalities):
        layers = [f"layers/{name}" for name in group["layers"]] if "layers" in group else []
        for element in (group[slot] for slot in ("X", "raw/X", *layers) if slot in group):
            values = element if hasattr(element, "shape") else element.get("data")
            count += 0 if values is None else math.prod(values.shape)
    return count


def _opened(path: Path) -> Any:
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    if path.is_file():
        try:
            return h5py.File(path, "r")
        except OSError as error:
            raise ValueError(f"{path} can't be opened as .h5mu: {error}") from error
    try:
        import zarr
    except ImportError as error:
        raise ImportError("Reading .zarr needs zarr. Install it with: pip install zarr") from error
    try:
        return zarr.open_group(str(path), mode="r")
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"{path} is a folder and no zarr store.") from error


def _modality(group: Any) -> AnnData:
    layers = {str(name): _matrix(group["layers"][name]) for name in group["layers"]} if "layers" in group else {}
    return AnnData(
        _matrix(group["X"]) if "X" in group else None,
        layers=layers,
        raw=_raw(group, _matrix) if "raw" in group else None,
        **{slot: _read(group[slot]) for slot in _OF_MODALITIES if slot in group},
    )


def _raw(modality: Any, matrix: Callable[[Any], Any]) -> dict[str, Any]:
    raw = modality["raw"]
    return {"X": matrix(raw["X"]), **{slot: _read(raw[slot]) for slot in ("var", "varm") if slot in raw}}


def _matrix(element: Any) -> Any:
    kind = element.attrs.get("encoding-type")
    if kind in _SPARSE:
        return anndata.io.sparse_dataset(element)
    return element if kind == "array" else _read(element)


def _read(element: Any) -> Any:
    return anndata.io.read_elem(element)
