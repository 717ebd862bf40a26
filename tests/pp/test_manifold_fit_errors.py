"""What :func:`scmag_muon.pp.manifold_fit` refuses, and that it then leaves everything as it was."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

import scmag_muon as smm
from scmag_muon._mudata import make_mudata
from scmag_muon.datasets import simulate_citeseq

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

N = 90


@pytest.fixture
def mdata() -> MuData:
    """Counts of 90 cells in two batches, with something in every kind of slot."""
    mdata = simulate_citeseq(n_obs=N, n_vars=40, n_prot=12, n_clusters=3, n_batches=2)
    mdata["rna"].layers["earlier"] = mdata["rna"].X.copy()
    mdata["rna"].uns["earlier"] = {"params": "of an earlier run"}
    mdata.obsm["X_earlier"] = np.ones((N, 2))
    return mdata


def dense(x: object) -> np.ndarray:
    return x.toarray() if sp.issparse(x) else np.asarray(x)


def with_counts(mdata: MuData, change: Callable[[np.ndarray], object], name: str) -> MuData:
    """The same cells and features, and other counts in one modality."""
    mods = {}
    for modality, adata in mdata.mod.items():
        counts = change(dense(adata.X)) if name == modality else adata.X
        mods[modality] = AnnData(counts, obs=adata.obs, var=adata.var)
    return make_mudata(mods, mdata.obs)


def permuted(mdata: MuData) -> MuData:
    return make_mudata({"rna": mdata["rna"], "prot": mdata["prot"][::-1].copy()}, mdata.obs)


def first_count(value: float) -> Callable[[MuData], MuData]:
    def change(counts: np.ndarray) -> np.ndarray:
        counts = counts.copy()
        counts[0, 0] = value
        return counts

    return lambda mdata: with_counts(mdata, change, "prot")


def no_cells_in_common(mdata: MuData) -> MuData:
    other = mdata["prot"].copy()
    other.obs_names = [f"other_{i}" for i in range(N)]
    return make_mudata({"rna": mdata["rna"], "prot": other})


def few_proteins(mdata: MuData) -> MuData:
    return make_mudata({"rna": mdata["rna"], "prot": mdata["prot"][:19].copy()})


def a_cell_of_nothing(mdata: MuData) -> MuData:
    other = AnnData(np.ones((1, 3), np.float32), obs=pd.DataFrame(index=["other"]))
    other.var_names = ["a", "b", "c"]
    rna = AnnData(mdata["rna"].X, obs=pd.DataFrame(index=mdata.obs_names), var=mdata["rna"].var)
    return make_mudata({"rna": rna, "prot": mdata["prot"], "hto": other})


def without(part: str) -> Callable[[MuData], MuData]:
    def change(mdata: MuData) -> MuData:
        prot = mdata["prot"][:0].copy() if part == "cells" else mdata["prot"][:, :0].copy()
        return make_mudata({"rna": mdata["rna"], "prot": prot})

    return change


def batch_with_gaps(mdata: MuData) -> MuData:
    mdata.obs["batch"] = mdata.obs["batch"].where(np.arange(N) > 3)
    return mdata


def masks(dtype: type, value: int) -> Callable[[MuData], MuData]:
    def change(mdata: MuData) -> MuData:
        mdata["prot"].var["highly_variable"] = pd.Series(value, mdata["prot"].var_names, dtype=dtype)
        return mdata

    return change


def as_is(mdata: MuData) -> MuData:
    return mdata


REFUSED = [
    (permuted, {}, ValueError, "modality 'prot' are in another order.*mdata = mdata[mdata.obs_names].copy()"),
    (no_cells_in_common, {}, ValueError, "'rna' and 'prot' have no cells in common"),
    (few_proteins, {}, ValueError, "Modality 'prot' holds 19 of 90 cells, too few.*modalities=['rna']"),
    (
        a_cell_of_nothing,
        {"modalities": ["rna", "prot"]},
        ValueError,
        "1 of 91 cells have none.*'other'.*Leave them out",
    ),
    (without("cells"), {}, ValueError, "'prot' is empty: 0 cells"),
    (without("features"), {}, ValueError, "'prot' is empty: 90 cells, 0 features"),
    (first_count(-1), {}, ValueError, "mdata['prot'].X holds negative values"),
    (first_count(np.nan), {}, ValueError, "mdata['prot'].X holds NaN or infinite"),
    (first_count(np.inf), {}, ValueError, "mdata['prot'].X holds NaN or infinite"),
    (first_count(1.5), {}, ValueError, "mdata['prot'].X holds values that are not integers"),
    (lambda m: with_counts(m, np.zeros_like, "prot"), {}, ValueError, "mdata['prot'].X holds no counts at all"),
    (as_is, {"modalities": []}, ValueError, "must name one or more different modalities"),
    (as_is, {"modalities": ["rna", "rna"]}, ValueError, "must name one or more different modalities"),
    (as_is, {"modalities": ["rna", "adt"]}, KeyError, "No modality 'adt'"),
    (as_is, {"layer": "raw"}, KeyError, "No layer 'raw' in modality 'rna'"),
    (as_is, {"layer": {"prot": "raw"}}, KeyError, "No layer 'raw' in modality 'prot'"),
    (as_is, {"batch_key": "donor"}, KeyError, "batch_key='donor' names no column"),
    (batch_with_gaps, {"batch_key": "batch"}, ValueError, "batch_key='batch' is missing for 4 cells"),
    (as_is, {"mask_var": "mine"}, KeyError, "mask_var='mine' names no column"),
    (masks(bool, 0), {}, ValueError, "mdata['prot'].var['highly_variable'] chooses no feature"),
    (as_is, {"n_neighbors": 0}, ValueError, "`n_neighbors` must be an integer at least 1, got 0"),
    (as_is, {"n_neighbors": 15.0}, TypeError, "`n_neighbors` must be an integer at least 1, got 15.0"),
    (as_is, {"n_neighbors": True}, TypeError, "`n_neighbors` must be an integer"),
    (as_is, {"n_pcs": 0}, ValueError, "`n_pcs` must be an integer at least 1, got 0"),
    (as_is, {"n_pcs": "30"}, TypeError, "`n_pcs` must be an integer at least 1, got '30'"),
    (as_is, {"neighborhoods": "joint"}, ValueError, "`neighborhoods` must be one of 'shared', 'own', got 'joint'"),
    (as_is, {"step": 0}, ValueError, "`step` must be a number above 0 and at most 1, got 0"),
    (as_is, {"step": 1.1}, ValueError, "`step` must be a number above 0 and at most 1, got 1.1"),
    (as_is, {"step": np.nan}, ValueError, "`step` must be a number above 0 and at most 1, got nan"),
    (as_is, {"fusion_penalty": 0}, ValueError, "penalty"),
    (as_is, {"fusion_penalty": -1}, ValueError, "penalty"),
    (
        as_is,
        {"fusion_penalty": 1e-300},
        ValueError,
        "`fusion_penalty` must be a number at least 1e-06 and at most 1e+06",
    ),
    (as_is, {"fusion_penalty": np.inf}, ValueError, "`fusion_penalty` must be a number"),
    (as_is, {"random_state": -1}, ValueError, "`random_state` must be an integer at least 0"),
    (as_is, {"random_state": 2**32}, ValueError, "`random_state` must be an integer at least 0"),
]


@pytest.mark.parametrize(("change", "arguments", "error", "message"), REFUSED)
def test_refused_and_left_untouched(
    mdata: MuData, change: Callable[[MuData], MuData], arguments: dict[str, object], error: type, message: str
) -> None:
    mdata = change(mdata)
    before = contents(mdata)
    with pytest.raises(error, match=".*".join(re.escape(part) for part in message.split(".*"))):
        smm.pp.manifold_fit(mdata, **arguments)
    after = contents(mdata)
    assert before.keys() == after.keys()
    for key, value in before.items():
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(value, after[key])
        else:
            np.testing.assert_array_equal(value, after[key])


def contents(mdata: MuData) -> dict[str, object]:
    found = {"obs": mdata.obs.copy(), "var": mdata.var.copy(), "uns": list(mdata.uns)}
    found |= {f"obsm {key}": np.array(value) for key, value in mdata.obsm.items()}
    for name, adata in mdata.mod.items():
        found |= {f"{name} X": dense(adata.X).copy(), f"{name} var": adata.var.copy(), f"{name} obs": adata.obs.copy()}
        found |= {f"{name} layer {key}": dense(value).copy() for key, value in adata.layers.items()}
        found |= {f"{name} {slot}": list(getattr(adata, slot)) for slot in ("uns", "obsm", "obsp", "varm", "varp")}
    return found


def test_the_fix_that_is_named_mends_the_order(mdata: MuData) -> None:
    other = permuted(mdata)
    mended = other[other.obs_names].copy()
    for x in (mended, mdata):
        smm.pp.manifold_fit(x)
    for name in mdata.mod:
        np.testing.assert_array_equal(mended[name].layers["manifold"], mdata[name].layers["manifold"])


def test_a_mudata_within_a_mudata(mdata: MuData) -> None:
    nested = make_mudata({"rna": mdata["rna"], "more": make_mudata({"prot": mdata["prot"]})})
    with pytest.raises(TypeError, match="'more' is a MuData itself. Join all in one: ") as caught:
        smm.pp.manifold_fit(nested)
    names = {"mdata": nested, "mudata": mudata}
    exec(str(caught.value).partition("in one: ")[2].removesuffix("."), names)
    assert list(names["mdata"].mod) == ["rna", "prot"]
