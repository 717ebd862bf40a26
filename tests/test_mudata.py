from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from scmag_muon import _mudata

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

CELLS = [f"cell_{i}" for i in range(6)]


def adata(n_vars: int = 4, cells: list[str] = CELLS, prefix: str = "f") -> AnnData:
    counts = np.arange(len(cells) * n_vars).reshape(len(cells), n_vars).astype(np.float32)
    return AnnData(
        sp.csr_matrix(counts),
        obs=pd.DataFrame(index=cells),
        var=pd.DataFrame(index=[f"{prefix}{i}" for i in range(n_vars)]),
    )


def pair(**mods: AnnData) -> MuData:
    for name, mod in mods.items():
        mod.var_names = [f"{name}_{feature}" for feature in mod.var_names]
    return _mudata.make_mudata(mods or {"rna": adata(), "prot": adata(3, prefix="p")})


def test_modalities_are_found_with_rna_first() -> None:
    assert _mudata.modality_names(pair(prot=adata(3), rna=adata(4))) == ["rna", "prot"]
    assert _mudata.modality_names(pair(atac=adata(3), gex=adata(4))) == ["gex", "atac"]
    assert _mudata.modality_names(pair(prot=adata(3), rna=adata(4)), ("prot", "rna")) == ["prot", "rna"]
    assert _mudata.modality_names(pair(prot=adata(3), rna=adata(4)), "prot") == ["prot"]


def test_modalities_may_be_named_among_three() -> None:
    mdata = pair(rna=adata(), prot=adata(3), atac=adata(5))
    assert _mudata.modality_names(mdata) == ["rna", "prot", "atac"]
    assert _mudata.modality_names(mdata, ("rna", "atac")) == ["rna", "atac"]
    with pytest.raises(KeyError, match="No modality 'gex'"):
        _mudata.modality_names(mdata, ("gex", "atac"))
    with pytest.raises(ValueError, match="one or more different"):
        _mudata.modality_names(mdata, ("rna", "rna"))
    with pytest.raises(ValueError, match="one or more different"):
        _mudata.modality_names(mdata, ())


@pytest.mark.parametrize(
    ("name", "feature_type", "n_vars", "kind"),
    [
        ("rna", None, 4, "rna"),
        ("ADT", None, 4, "protein"),
        ("peaks", None, 4, "atac"),
        ("mine", "Antibody Capture", 600, "protein"),
        ("rna", "Peaks", 4, "atac"),
        ("mine", None, 500, "protein"),
        ("mine", None, 501, "rna"),
    ],
)
def test_kind_of_a_modality(name: str, feature_type: str | None, n_vars: int, kind: str) -> None:
    mod = adata(n_vars)
    if feature_type is not None:
        mod.var["feature_types"] = feature_type
    assert _mudata.modality_kind(name, mod) == kind


def test_cells_in_another_order_are_refused() -> None:
    # scvi-tools pairs these rows by position without a word
    mdata = pair(rna=adata(), prot=adata(3, CELLS[::-1]))
    with pytest.raises(ValueError, match=r"modality 'prot' are in another order.*mdata\[mdata.obs_names\].copy\(\)"):
        _mudata.check_paired(mdata, ("rna", "prot"))
    mended = mdata[mdata.obs_names].copy()
    _mudata.check_paired(mended, ("rna", "prot"))


def test_missing_and_foreign_cells_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'prot' lacks some cells.*4 of 6.*intersection"):
        _mudata.check_paired(pair(rna=adata(), prot=adata(3, CELLS[:4])), ("rna", "prot"))
    others = [f"other_{i}" for i in range(6)]
    with pytest.raises(ValueError, match="no cells in common"):
        _mudata.check_paired(pair(rna=adata(), prot=adata(3, others)), ("rna", "prot"))


def test_empty_modalities_and_repeated_features_are_refused() -> None:
    with pytest.raises(ValueError, match="'prot' is empty: 6 cells, 0 features"):
        _mudata.check_paired(pair(rna=adata(), prot=adata(0)), ("rna", "prot"))
    twice = adata(2)
    mdata = pair(rna=adata(), prot=twice)
    twice.var_names = ["a", "a"]
    with pytest.raises(ValueError, match=r"'prot' are not unique.*var_names_make_unique"):
        _mudata.check_paired(mdata, ("rna", "prot"))


def test_shared_features_axis_is_refused() -> None:
    with _mudata.no_pull_on_update():
        mdata = mudata.MuData({"rna": adata(), "prot": adata(4, [f"other_{i}" for i in range(6)])}, axis=1)
    with pytest.raises(ValueError, match="axis=1"):
        _mudata.check_paired(mdata, ("rna", "prot"))


@pytest.mark.parametrize(
    ("value", "message"),
    [(-1.0, "negative"), (np.nan, "NaN"), (np.inf, "infinite"), (0.5, "not integers")],
)
def test_values_that_are_no_counts_are_refused(value: float, message: str) -> None:
    mod = adata()
    mod.X[2, 3] = value
    with pytest.raises(ValueError, match=rf"mdata\['prot'\]\.X .*{message}"):
        _mudata.get_counts(mod, modality="prot")


def test_counts_from_any_storage_are_the_same_and_not_the_users_own() -> None:
    expected = adata().X.toarray()
    for make in (np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array):
        for dtype in (np.float32, np.float64, np.int64):
            mod = adata()
            mod.X = make(expected.astype(dtype))
            counts = _mudata.get_counts(mod, modality="rna")
            assert counts.dtype == np.float32
            np.testing.assert_array_equal(counts.toarray(), expected)


def test_layers_of_counts() -> None:
    mod = adata()
    mod.layers["counts"] = mod.X * 2
    np.testing.assert_array_equal(
        _mudata.get_counts(mod, modality="rna", layer="counts").toarray(), 2 * mod.X.toarray()
    )
    with pytest.raises(KeyError, match="No layer 'raw' in modality 'rna', which has"):
        _mudata.get_counts(mod, modality="rna", layer="raw")
    mod.X = mod.X * 0
    with pytest.raises(ValueError, match="no counts at all"):
        _mudata.get_counts(mod, modality="rna")
    assert _mudata.layer_of({"rna": "counts"}, "prot") is None
    assert _mudata.layer_of("counts", "prot") == "counts"


def test_names_are_the_same_in_whatever_way_they_are_stored(citeseq: MuData) -> None:
    citeseq["prot"].obs.index = citeseq["prot"].obs.index.astype("string")
    _mudata.check_paired(citeseq, ["rna", "prot"])


def test_columns_are_found_in_the_mudata_and_in_its_modalities() -> None:
    mdata = pair()
    mdata.obs["batch"] = list("aabbab")
    mdata["prot"].obs["run"] = list("xyxyxy")
    assert list(_mudata.get_batches(mdata, "batch").categories) == ["a", "b"]
    assert list(_mudata.get_batches(mdata, "run").codes) == [0, 1, 0, 1, 0, 1]
    assert _mudata.get_batches(mdata, None) is None
    with pytest.raises(KeyError, match="batch_key='plate' names no column"):
        _mudata.get_batches(mdata, "plate")
    mdata.obs["batch"] = ["a", None, "b", "b", "a", "b"]
    with pytest.raises(ValueError, match="missing for 1 cells"):
        _mudata.get_batches(mdata, "batch")
    mdata.obs["batch"] = None
    with pytest.raises(ValueError, match="batch_key='batch' is missing for all 6 cells. Fill the column"):
        _mudata.get_batches(mdata, "batch")


def test_chosen_features_go_out_and_back() -> None:
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    mask = np.array([True, False, True, False])
    spread = _mudata.expand_features(values, mask)
    assert sp.issparse(spread)
    np.testing.assert_array_equal(spread.toarray(), np.insert(values, [1, 2], 0, axis=1))
    back = _mudata.used_features(spread, mask)
    np.testing.assert_array_equal(back, values)
    assert np.shares_memory(back, spread.data)
    for other in (spread.tocsc(), sp.csr_matrix(np.eye(3, 4)), spread[[0, 1, 2], :3].tocsr(), spread[:, ::-1]):
        mask = np.array([True, False, True, False])[: other.shape[1]]
        np.testing.assert_array_equal(_mudata.used_features(other, mask), other.toarray()[:, mask])
    most = np.array([True, False, True])
    spread = _mudata.expand_features(values, most)
    assert isinstance(spread, np.ndarray)
    np.testing.assert_array_equal(spread, np.insert(values, 1, 0, axis=1))
    np.testing.assert_array_equal(_mudata.used_features(spread, most), values)
    everything = _mudata.expand_features(values, np.array([True, True]))
    assert isinstance(everything, np.ndarray)
    np.testing.assert_array_equal(_mudata.used_features(everything, np.array([True, True])), values)


def test_everything_in_uns_survives_saving(tmp_path: Path) -> None:
    params: dict[str, Any] = {
        "pair": ("rna", "prot"),
        "none": None,
        "nones": [None, "a"],
        1: "integer key",
        "a/b": "slash",
        "path": tmp_path,
        "number": np.float32(2),
        "nested": {"flag": True, "table": pd.DataFrame({"x": [1.0, 2.0]})},
    }
    mdata = pair()
    mdata.uns["scmag"] = _mudata.to_uns(params)
    with _mudata.no_pull_on_update():
        mdata.write_h5mu(tmp_path / "x.h5mu")
        back = mudata.read_h5mu(tmp_path / "x.h5mu").uns["scmag"]
    assert list(back["pair"]) == ["rna", "prot"]
    assert list(back["nones"]) == ["None", "a"]
    assert back["1"] == "integer key"
    assert back["a_b"] == "slash"
    assert back["number"] == 2
    assert back["nested"]["flag"]
    assert back["nested"]["table"]["x"].tolist() == [1, 2]


@pytest.mark.parametrize("backed", [False, True])
def test_a_copy_has_the_columns_as_they_are(backed: bool, tmp_path: Path) -> None:
    mdata = pair(rna=adata(3), prot=adata(4))
    mdata.obs["whole"] = np.arange(float(mdata.n_obs))
    mdata.obs["text"] = pd.Series("a", index=mdata.obs_names, dtype=object)
    mdata.var["whole"] = np.arange(float(mdata.n_vars))
    if backed:
        mdata.write_h5mu(tmp_path / "cells.h5mu")
        mdata = mudata.read_h5mu(tmp_path / "cells.h5mu", backed="r")
    copied = _mudata.copy_of(mdata)
    pd.testing.assert_frame_equal(copied.obs, mdata.obs)
    pd.testing.assert_frame_equal(copied.var, mdata.var)
    copied.obs["whole"] = 0.0
    assert mdata.obs["whole"].iloc[1] == 1


def test_columns_have_names_that_files_can_hold() -> None:
    names = ["CD45R/B220", "a_b", "a/b", "", ".", "..", "_index", "CD4", 5]
    stored = _mudata.column_names(names)
    assert stored == ["CD45R_B220", "a_b", "a_b_", "_", "._", ".._", "_index_", "CD4", "5"]
    assert _mudata.column_names(names[::-1]) == stored[::-1]
