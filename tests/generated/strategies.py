"""Strategies for MuData: every shape, storage, type, name and pathology that users' data come with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from hypothesis import strategies as st

from scmag_muon._mudata import make_mudata

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

DTYPES = ("float32", "float64", "int32", "int64", "uint8", "uint16", "bool")
STORAGES = ("dense", "fortran", "csr", "csc", "csr_array", "long indices", "stored zeros", "unsorted", "in parts")
FLAWS = ("none",) * 12 + ("nan", "infinite", "negative", "decimals", "all zero", "huge", "normalised", "missing")
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12)
MODALITIES = ("rna", "prot", "atac", "gex", "ADT", "peaks", "mod 1", "β", "chromatin")
TYPES = (None, None, "Gene Expression", "Antibody Capture", "Peaks")


@dataclass
class Case:
    """A MuData, made when it is asked for, since mudata draws random numbers; and the arguments that go with it."""

    mods: dict[str, AnnData]
    labels: tuple[object, ...] | None
    arguments: dict[str, Any]

    @cached_property
    def mdata(self) -> MuData:
        mdata = make_mudata(self.mods)
        if self.labels is not None:
            labels = [self.labels[j % len(self.labels)] for j in range(mdata.n_obs)]
            mdata.obs["run"] = np.array(labels, dtype=object)
        return mdata


def _stored(counts: np.ndarray, storage: str) -> Any:
    if storage == "fortran":
        return np.asfortranarray(counts)
    if storage == "dense":
        return counts
    if storage == "csc":
        return sp.csc_matrix(counts)
    if storage == "csr_array":
        return sp.csr_array(counts)
    if storage == "stored zeros":
        rows, columns = (each.ravel() for each in np.indices(counts.shape))
        return sp.csr_matrix((counts.ravel(), (rows, columns)), shape=counts.shape)
    matrix = sp.csr_matrix(counts)
    if storage == "unsorted":
        order = np.concatenate(
            [
                np.arange(stop - 1, start - 1, -1)
                for start, stop in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)
            ]
            or [np.empty(0, dtype=int)]
        ).astype(int)
        matrix.indices, matrix.data = matrix.indices[order], matrix.data[order]
        matrix.has_sorted_indices = False
    if storage == "in parts":  # each entry once more, with a count of 0
        where = np.repeat(np.arange(matrix.nnz), 2)
        data = np.where(np.arange(2 * matrix.nnz) % 2 == 0, matrix.data[where], 0).astype(counts.dtype)
        matrix = sp.csr_matrix((data, matrix.indices[where], 2 * matrix.indptr), shape=counts.shape)
        matrix.has_canonical_format = False
    if storage == "long indices":
        matrix.indices, matrix.indptr = matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
    return matrix


def _flawed(counts: np.ndarray, flaw: str) -> np.ndarray | None:
    if flaw in ("none", "missing") or not counts.size:
        return None if flaw == "missing" else counts
    whole = {"all zero": np.zeros_like(counts), "normalised": np.log1p(counts).astype(np.float32)}
    if flaw in whole:
        return whole[flaw]
    counts = counts.astype(np.float32)
    counts[-1, -1] = {"nan": np.nan, "infinite": np.inf, "negative": -2, "decimals": 1.5, "huge": 1e7}[flaw]
    return counts


@st.composite
def _counts(draw: Callable[[Any], Any], n_obs: int, largest: int) -> Any:
    n_vars = draw(st.integers(0 if draw(st.integers(0, 30)) == 0 else 1, largest))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rate = draw(st.sampled_from((0.02, 0.3, 2.0, 40.0)))
    depth = rng.lognormal(0, draw(st.sampled_from((0.0, 0.5, 3.0))), (n_obs, 1))
    feature = rng.gamma(1.0, 1.0, (1, n_vars))
    counts = rng.poisson(np.minimum(rate * depth * feature, 1e6)).astype(np.float64)
    if draw(st.booleans()) and n_obs and n_vars:
        counts[rng.integers(n_obs)] = 0
        counts[:, rng.integers(n_vars)] = draw(st.sampled_from((0, 3)))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    top = 1 if dtype.kind == "b" else np.iinfo(dtype).max if dtype.kind in "iu" else np.inf
    flawed = _flawed(np.minimum(counts, top).astype(dtype), draw(st.sampled_from(FLAWS)))
    return n_vars, None if flawed is None else _stored(flawed, draw(st.sampled_from(STORAGES)))


@st.composite
def mudatas(draw: Callable[[Any], Any], most_cells: int = 24, most_features: int = 12) -> Case:
    """MuData of one to three modalities, most of them paired, with arguments that speak of them."""
    n_obs = draw(st.sampled_from((1, 2, 3, 5, 10, most_cells)))
    cells = draw(st.lists(NAMES, min_size=n_obs, max_size=n_obs, unique=draw(st.integers(0, 15)) > 0))
    n_modalities = draw(st.sampled_from((2,) * 8 + (1, 3)))
    names = draw(st.lists(st.sampled_from(MODALITIES), min_size=n_modalities, max_size=n_modalities, unique=True))
    layer = draw(st.sampled_from((None, None, None, "counts")))
    mods = {}
    for i, name in enumerate(names):
        n_vars, counts = draw(_counts(n_obs, most_features))
        features = draw(st.lists(NAMES, min_size=n_vars, max_size=n_vars, unique=draw(st.integers(0, 15)) > 0))
        adata = AnnData(
            counts,
            obs=pd.DataFrame(index=cells),
            var=pd.DataFrame(index=features),
            shape=(n_obs, n_vars) if counts is None else None,
        )
        kind = draw(st.sampled_from(TYPES))
        if kind is not None:
            adata.var["feature_types"] = kind
        if layer is not None and counts is not None:
            adata.layers[layer] = counts.copy()
            adata.X = np.zeros(adata.shape, dtype=np.float32)
        if draw(st.integers(0, 9)) == 0:
            adata.var["highly_variable"] = np.arange(n_vars) % 2 == 0
        how = (
            draw(st.sampled_from(("same",) * 10 + ("reversed", "fewer", "others")))
            if i and len(set(cells)) == n_obs
            else "same"
        )
        if how == "reversed":
            adata = adata[::-1].copy()
        elif how == "fewer" and n_obs > 1:
            adata = adata[: n_obs - 1].copy()
        elif how == "others":
            adata.obs_names = [f"other {j}" for j in range(n_obs)]
        mods[name] = adata
    arguments: dict[str, Any] = {"layer": layer}
    labels = None
    if draw(st.integers(0, 2)) == 0:
        labels = draw(st.sampled_from((("a",), ("a", "b"), (1, "b"), ("a", None), ("x/y", "$z$"))))
        arguments["batch_key"] = "run"
    return Case(mods, labels, arguments)
