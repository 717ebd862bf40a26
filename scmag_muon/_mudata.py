"""The only file that knows MuData's quirks: pairing, counts, columns, write-back, values that survive saving."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import mudata
import numpy as np
import pandas as pd
import scipy.sparse as sp

from scmag_muon import _namespace  # noqa: F401 - `mdata.scmag` is there with the first function that takes a MuData
from scmag_muon._keys import Keys

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

logger = logging.getLogger(__name__)

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


@contextlib.contextmanager
def no_pull_on_update() -> Iterator[None]:
    """Keep mudata from copying modality columns upwards, the same way on mudata 0.3 and 0.4."""
    settings = getattr(mudata, "settings", None)
    if settings is not None and hasattr(settings, "override"):
        with settings.override(pull_on_update=False):
            yield
    else:
        with mudata.set_options(pull_on_update=False):
            yield


def make_mudata(mods: Mapping[str, AnnData], obs: pd.DataFrame | None = None) -> MuData:
    """A MuData of the given modalities with its own ``obs`` columns and none pulled up."""
    with no_pull_on_update(), warnings.catch_warnings():
        # a protein and its gene often share a name; within a modality names are unique, which check_paired makes sure of
        warnings.filterwarnings("ignore", message="var_names are not unique")
        mdata = mudata.MuData(dict(mods))
        if obs is not None:
            for column in obs.columns:
                mdata.obs[column] = obs[column].reindex(mdata.obs_names)
    return mdata


def copy_of(mdata: MuData) -> MuData:
    """A full copy, without mudata 0.3's warning."""
    with no_pull_on_update():
        return mdata.copy()


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


def modality_pair(mdata: MuData, modalities: Sequence[str] | None = None) -> tuple[str, str]:
    """Names of the two modalities to use, the main one (RNA where there is one) first."""
    if not isinstance(mdata, mudata.MuData):
        raise TypeError(
            f"scMAG needs a MuData of two modalities, got {type(mdata).__name__}. "
            'Join two AnnData of the same cells with mudata.MuData({"rna": adata, "prot": adata_of_proteins}).'
        )
    available = list(mdata.mod)
    if modalities is None:
        if len(available) != 2:
            raise ValueError(
                f"scMAG joins two modalities, but the MuData has {len(available)}: {available}. "
                'Name the two to use, for example modalities=("rna", "prot").'
            )
        order: dict[ModalityKind, int] = {"rna": 0, "atac": 1, "protein": 1}
        first, second = sorted(available, key=lambda name: order[modality_kind(name, mdata.mod[name])])
        return first, second
    names = list(modalities)
    if len(names) != 2 or len(set(names)) != 2:
        raise ValueError(f"`modalities` must name two different modalities, got {names}.")
    for name in names:
        if name not in mdata.mod:
            raise KeyError(f"No modality {name!r} in the MuData, which has {available}.")
    return names[0], names[1]


def check_n_clusters(n_clusters: object, n_obs: int) -> None:
    """Raise unless K is a whole number of clusters that so many cells can fill."""
    if not isinstance(n_clusters, (int, np.integer)) or isinstance(n_clusters, bool):
        raise TypeError(f"`n_clusters` must be an integer, got {n_clusters!r}.")
    if not 1 <= n_clusters <= n_obs:
        raise ValueError(f"`n_clusters` must lie between 1 and the number of cells ({n_obs}), got {n_clusters}.")


def check_paired(mdata: MuData, modalities: Sequence[str]) -> None:
    """Raise unless every modality holds the same cells in the same order.

    scvi-tools pairs rows by position and does not look at the names, so this must be certain before it sees the data.
    """
    if getattr(mdata, "axis", 0) != 0:
        raise ValueError(f"The MuData must share its cells (axis=0), but it was made with axis={mdata.axis}.")
    if mdata.n_obs == 0:
        raise ValueError("The MuData has no cells.")
    for name in modalities:
        names = mdata.mod[name].obs_names
        if mdata.mod[name].n_obs == 0 or mdata.mod[name].n_vars == 0:
            raise ValueError(
                f"Modality {name!r} is empty: {mdata.mod[name].n_obs} cells, {mdata.mod[name].n_vars} features."
            )
        if not names.is_unique:
            raise ValueError(
                f"Cell names of modality {name!r} are not unique. Call mdata[{name!r}].obs_names_make_unique()."
            )
        if not mdata.mod[name].var_names.is_unique:
            raise ValueError(
                f"Feature names of modality {name!r} are not unique. Call mdata[{name!r}].var_names_make_unique()."
            )
    reference = mdata.mod[modalities[0]].obs_names
    for name in modalities:
        names = mdata.mod[name].obs_names
        if not names.isin(reference).any():
            raise ValueError(
                f"Modalities {modalities[0]!r} and {name!r} have no cells in common. "
                "Give both the same cell names (barcodes) before joining them in a MuData."
            )
    for name in modalities:
        names = mdata.mod[name].obs_names
        shared = names.isin(reference).sum()
        if shared < len(names) or shared < len(reference) or len(names) != mdata.n_obs:
            raise ValueError(
                f"Modality {name!r} lacks some cells of the MuData ({len(names)} of {mdata.n_obs}, "
                f"{shared} shared with {modalities[0]!r}). Keep the common cells with muon.pp.intersect_obs(mdata)."
            )
        if not names.equals(mdata.obs_names):
            raise ValueError(
                f"The cells of modality {name!r} are in another order than mdata.obs_names, so rows do not pair up. "
                "Reorder them with mdata = mdata[mdata.obs_names].copy()."
            )


def layer_of(layer: str | Mapping[str, str | None] | None, modality: str) -> str | None:
    """The layer asked for one modality, where ``layer`` may be one name for all or a mapping."""
    if layer is None or isinstance(layer, str):
        return layer
    return layer.get(modality)


def get_counts(adata: AnnData, *, modality: str, layer: str | None = None) -> sp.csr_array:
    """Validated raw counts of a modality, shape ``(n_obs, n_vars)``, CSR float32; never the user's own buffer changed."""
    if layer is not None and layer not in adata.layers:
        raise KeyError(
            f"No layer {layer!r} in modality {modality!r}, which has {sorted(map(str, adata.layers.keys()))}."
        )
    matrix = adata.X if layer is None else adata.layers[layer]
    where = f"mdata[{modality!r}]" + (".X" if layer is None else f".layers[{layer!r}]")
    if matrix is None:
        raise ValueError(f"{where} is missing; raw counts are needed there, or name their layer with layer=.")
    if hasattr(matrix, "to_memory"):
        matrix = matrix.to_memory()
    counts = sp.csr_array(matrix) if not sp.issparse(matrix) else sp.csr_array(matrix.tocsr())
    values = counts.data
    if not np.isfinite(values).all():
        raise ValueError(f"{where} holds NaN or infinite values; raw counts are needed.")
    if values.size and values.min() < 0:
        raise ValueError(f"{where} holds negative values; raw counts are needed. Name their layer with layer=.")
    if not np.array_equal(values, np.rint(values)):
        raise ValueError(
            f"{where} holds values that are not integers, so it seems to be normalised already; "
            "raw counts are needed. Name their layer with layer=."
        )
    if not values.any():
        raise ValueError(f"{where} holds no counts at all: every value is zero.")
    return counts.astype(np.float32, copy=False)


def get_obs_column(mdata: MuData, column: str, *, argument: str) -> pd.Series:
    """A column of ``mdata.obs``, or of a modality's ``obs`` where only that has it."""
    candidates = [(mdata.obs, column)]
    for name, adata in mdata.mod.items():
        candidates += [(adata.obs, column), (mdata.obs, f"{name}:{column}")]
    for frame, key in candidates:
        if key in frame:
            return frame[key].reindex(mdata.obs_names)
    raise KeyError(
        f"{argument}={column!r} names no column of mdata.obs or of a modality's obs. "
        f"mdata.obs has {sorted(map(str, mdata.obs.columns))}."
    )


def get_batches(mdata: MuData, batch_key: str | None) -> pd.Categorical | None:
    """The batch of each cell, or ``None`` where there is no ``batch_key``."""
    if batch_key is None:
        return None
    column = get_obs_column(mdata, batch_key, argument="batch_key")
    if column.isna().any():
        raise ValueError(f"batch_key={batch_key!r} is missing for {int(column.isna().sum())} cells.")
    return pd.Categorical(column.astype(str))


def expand_features(values: np.ndarray, mask: np.ndarray) -> np.ndarray | sp.csr_matrix:
    """Put the columns of ``values`` where ``mask`` is True among all features; a sparse matrix unless all are used."""
    if mask.all():
        return np.asarray(values, dtype=np.float32)
    n_obs, n_used = values.shape
    columns = np.flatnonzero(mask).astype(np.int32)
    indices = np.broadcast_to(columns, (n_obs, n_used)).ravel()
    indptr = np.arange(0, n_obs * n_used + 1, n_used, dtype=np.int64)
    data = np.ascontiguousarray(values, dtype=np.float32).ravel()
    return sp.csr_matrix((data, indices, indptr), shape=(n_obs, mask.size))


def used_features(layer: np.ndarray | sp.csr_matrix, mask: np.ndarray) -> np.ndarray:
    """Undo :func:`expand_features`: the columns that ``mask`` chooses, dense and contiguous."""
    if mask.all() and isinstance(layer, np.ndarray):
        return np.ascontiguousarray(layer, dtype=np.float32)
    chosen: Any = layer[:, np.flatnonzero(mask)]
    return np.ascontiguousarray(chosen.toarray() if sp.issparse(chosen) else chosen, dtype=np.float32)


def with_features(mdata: MuData, features: Mapping[str, np.ndarray]) -> MuData:
    """The MuData itself where its modalities have just these features in this order, else one that has them."""
    if all(np.array_equal(mdata.mod[name].var_names, names) for name, names in features.items()):
        return mdata
    mods = {}
    for name, names in features.items():
        missing = pd.Index(names).difference(mdata.mod[name].var_names)
        if len(missing):
            raise ValueError(
                f"Modality {name!r} lacks {len(missing)} of the model's {len(names)} features, among them {missing[0]!r}."
            )
        mods[name] = mdata.mod[name][:, names].copy()
    return make_mudata(mods, mdata.obs)


def copy_fitted(source: MuData, target: MuData, modalities: Sequence[str], key: str) -> None:
    """Carry what manifold fitting wrote under ``key`` from one MuData to another with the same cells and features."""
    for name in modalities:
        target.mod[name].layers[key] = source.mod[name].layers[key]
        target.mod[name].var[key] = source.mod[name].var[key].to_numpy()
        target.mod[name].uns[key] = source.mod[name].uns[key]
    for slot in (Keys.joint_embedding(key), Keys.fitted_embedding(key)):
        target.obsm[slot] = source.obsm[slot]


def to_uns(value: Any) -> Any:
    """A copy of ``value`` that survives ``write_h5mu``: no tuples, no ``None`` in lists, no keys but strings."""
    if isinstance(value, Mapping):
        return {str(key).replace("/", "_"): to_uns(item) for key, item in value.items()}
    if isinstance(value, (tuple, list, set, frozenset)):
        items = [to_uns(item) for item in value]
        return ["None" if item is None else item for item in items]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str, np.ndarray, pd.DataFrame)):
        return value
    return str(value)
