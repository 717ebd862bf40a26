"""Each fix that a message names is executed on the object that caused it; the same call then succeeds with all cells that can be kept."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

import scmag_muon as smm
from scmag_muon._mudata import make_mudata

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData

N = 60
BARCODES = ["".join("ACGT"[int(c)] for c in np.base_repr(i + 4**8, 4)) for i in range(N)]


@pytest.fixture
def mdata() -> MuData:
    return smm.datasets.simulate_citeseq(n_obs=N, n_vars=30, n_prot=10, n_clusters=2, n_batches=2)


def named(mdata: MuData, rna: list[str], prot: list[str], order: Any = slice(None)) -> MuData:
    mods = {name: adata.copy() for name, adata in mdata.mod.items()}
    mods["rna"].obs_names, mods["prot"].obs_names = rna, prot
    return make_mudata({"rna": mods["rna"], "prot": mods["prot"][order].copy()})


def other_cells_in_a_third(mdata: MuData) -> MuData:
    cells = [*mdata.obs_names[:20], *(f"other_{i}" for i in range(5))]
    return make_mudata({**{n: a.copy() for n, a in mdata.mod.items()}, "airr": AnnData(obs=pd.DataFrame(index=cells))})


def renamed_after_joining(mdata: MuData) -> MuData:
    for adata in mdata.mod.values():
        adata.obs_names = [f"new_{name}" for name in adata.obs_names]
    return mdata


def repeated_names(mdata: MuData) -> MuData:
    for adata in mdata.mod.values():
        adata.obs_names = ["cell", "cell", *adata.obs_names[2:]]
    return mdata


def repeated_features(mdata: MuData) -> MuData:
    mdata["prot"].var_names = ["CD4", "CD4", *mdata["prot"].var_names[2:]]
    return mdata


def with_decimals(mdata: MuData) -> MuData:
    mdata["rna"].X = sp.csr_matrix(mdata["rna"].X.toarray() * 0.97)
    mdata["rna"].X.data += np.random.default_rng(0).random(mdata["rna"].X.nnz) * 0.02
    return mdata


def log_normalised(mdata: MuData) -> MuData:
    mdata["rna"].layers["counts"] = mdata["rna"].X.copy()
    mdata["rna"].X = np.log1p(mdata["rna"].X.toarray())
    return mdata


def scaled(mdata: MuData) -> MuData:
    mdata["rna"].layers["counts"] = mdata["rna"].X.copy()
    mdata["rna"].X = mdata["rna"].X.toarray() - 1
    return mdata


def counts_in_raw(mdata: MuData) -> MuData:
    everything = mdata["rna"]
    mdata = make_mudata({"rna": everything[:, :20].copy(), "prot": mdata["prot"].copy()}, mdata.obs)
    mdata["rna"].raw = everything
    mdata["rna"].X = np.log1p(mdata["rna"].X.toarray())
    return mdata


def text(mdata: MuData) -> MuData:
    mdata["prot"].layers["text"] = mdata["prot"].X.toarray().astype(int).astype(str)
    mdata["rna"].layers["text"] = mdata["rna"].X.copy()
    return mdata


def numbers_that_choose(mdata: MuData) -> MuData:
    mdata["rna"].var["highly_variable"] = np.linspace(-1, 1, 30)
    return mdata


def words_that_choose(mdata: MuData) -> MuData:
    mdata["rna"].var["highly_variable"] = ["chosen", "not"] * 15
    return mdata


def missing_batches(mdata: MuData) -> MuData:
    mdata.obs["batch"] = mdata.obs["batch"].astype(object).where(np.arange(N) > 3)
    return mdata


def two_batches_of_a_name(mdata: MuData) -> MuData:
    mdata["rna"].obs["batch"] = ["x"] * N
    return mdata


def two_columns_of_a_name(mdata: MuData) -> MuData:
    mdata.obs.insert(0, "batch", ["x"] * N, allow_duplicates=True)
    return mdata


def moved_since_joining(mdata: MuData) -> MuData:
    mdata.mod["prot"] = mdata["prot"][::-1].copy()
    return mdata


ORDER = np.random.default_rng(0).permutation(N)
FIXES: list[tuple[Callable[[MuData], MuData], dict[str, Any], str, int]] = [
    (moved_since_joining, {}, "another order.*mdata.update", N),
    (lambda m: named(m, BARCODES, BARCODES, ORDER), {}, "another order", N),
    (lambda m: named(m, [f"{b}-1" for b in BARCODES], BARCODES), {}, "no cells in common.*60 cells match", N),
    (lambda m: named(m, [f"{b}-1" for b in BARCODES], BARCODES, ORDER), {}, "Without endings 60 cells match", N),
    (
        lambda m: named(m, [f"cell_{i}" for i in range(N)], [f"cell_{i}-1" for i in range(N)]),
        {},
        "Without last endings 60 cells match",
        N,
    ),
    (
        lambda m: named(m, [f"cell_{i}" for i in range(N)], [f"cell_{i}" + "-1" * (i < 30) for i in range(N)]),
        {},
        "30 cells are shared.*Without last endings 60 cells match",
        N,
    ),
    (lambda m: named(m, [f"{b} " for b in BARCODES], BARCODES), {}, "Without spaces 60 cells match", N),
    (
        lambda m: named(m, [f"lane1#{b}-1" for b in BARCODES], BARCODES),
        {},
        "Without beginnings and endings 60 cells",
        N,
    ),
    (lambda m: named(m, [f"s_1#{b}" for b in BARCODES], BARCODES), {}, "Without beginnings 60 cells", N),
    (
        lambda m: named(
            m,
            [f"{b}-{1 + (i >= 30)}" for i, b in enumerate(BARCODES)],
            [f"{b}-1" if i < 30 else f"{b}-1_2" for i, b in enumerate(BARCODES)],
        ),
        {},
        "30 cells are shared.*-2' and .*-1_2'.*Without endings 60 cells match",
        N,
    ),
    (other_cells_in_a_third, {"modalities": ("rna", "prot")}, "5 of 65 cells have none of the modalities", N),
    (renamed_after_joining, {}, "renamed after they were joined", N),
    (repeated_names, {}, "Cell names of modality 'rna' are not unique, such as 'cell'", N),
    (repeated_features, {}, "Feature names of modality 'prot' are not unique", N),
    (with_decimals, {}, "counts with decimals", N),
    (log_normalised, {}, "normalised already", N),
    (scaled, {}, "negative values.*layer", N),
    (counts_in_raw, {}, "normalised already.*They are in .raw", N),
    (log_normalised, {"layer": "counts"}, "No layer 'counts' in modality 'prot'", N),
    (text, {"layer": "text"}, "holds values of type", N),
    (numbers_that_choose, {}, "must be boolean", N),
    (words_that_choose, {}, "must be boolean.* == 'chosen'", N),
    (missing_batches, {"batch_key": "batch"}, "missing for 4 cells, the first of them 'cell_0'", N - 4),
    (two_columns_of_a_name, {"batch_key": "batch"}, "names 2 columns of mdata.obs", N),
    (two_batches_of_a_name, {"batch_key": "batch"}, "with other content", N),
]


def apply(message: str, mdata: MuData, arguments: dict[str, Any]) -> MuData:
    """Run the code, or add the argument, that a message names."""
    taken = re.search(r"take them from there with (.*), and name that layer", message)
    if taken:
        exec(taken[1], {"mdata": mdata})
    argument = re.search(r"\b(round_counts=True|layer=\{.*?\})", message)
    if argument:
        arguments.update(eval(f"dict({argument[1]})"))
        return mdata
    start = re.search(
        r"(?:run\n|stay with |cells with |Reorder them with |them out with |of the MuData: |Leave them out: |for example |them with |Call |one of them: |of each name with )(?=mdata|for |del )",
        message,
    )
    code = message[start.end() :]
    code = code.removesuffix(".") if "\n" in code else re.split(r"\.(?: |$)|, or ", code)[0]
    space = {"mdata": mdata, "mudata": mudata}
    exec(code, space)
    return space["mdata"]


@pytest.mark.parametrize(("spoil", "arguments", "message", "n_obs"), FIXES)
@pytest.mark.filterwarnings("ignore")
def test_the_named_fix_works(
    mdata: MuData, spoil: Callable[[MuData], MuData], arguments: dict[str, Any], message: str, n_obs: int
) -> None:
    mdata, arguments = spoil(mdata), dict(arguments)
    with pytest.raises((ValueError, KeyError, TypeError), match=f"(?s){message}") as caught:
        smm.pp.manifold_fit(mdata, **arguments)
    mdata = apply(str(caught.value.args[0]), mdata, arguments)
    smm.pp.manifold_fit(mdata, **arguments)
    assert mdata.n_obs == n_obs
    assert mdata["rna"].layers["manifold"].shape[0] == n_obs
    assert mdata["rna"].obs_names.equals(mdata["prot"].obs_names)


@pytest.mark.parametrize("place", ["layers", "raw"])
def test_counts_that_were_normalised_since_the_run_are_put_back(finished: MuData, place: str) -> None:
    rna = finished["rna"]
    table = smm.tl.markers(finished)
    if place == "layers":
        rna.layers["counts"] = rna.X.copy()
    else:
        rna.raw = rna.copy()
    rna.X = np.log1p(rna.X.toarray())
    with pytest.raises(ValueError, match="normalised already") as caught:
        smm.tl.markers(finished)
    exec(re.search(r"(?:Put them back: |from there with )(.*)\.$", str(caught.value))[1], {"mdata": finished})
    pd.testing.assert_frame_equal(smm.tl.markers(finished), table)


def lacking(mdata: MuData) -> MuData:
    return named(mdata, BARCODES, BARCODES, slice(0, 50))


def hashtags_of_some_cells(mdata: MuData) -> MuData:
    tags = mdata["prot"][:50].copy()
    tags.var = pd.DataFrame(index=[f"hto_{i}" for i in range(tags.n_vars)])
    return make_mudata({**{name: adata.copy() for name, adata in mdata.mod.items()}, "hto": tags}, mdata.obs)


FIXES_OF_THE_MODEL: list[tuple[Callable[[MuData], MuData], dict[str, Any], str, int]] = [
    (lambda m: named(m, BARCODES, BARCODES, ORDER), {}, "another order", N),
    (lambda m: named(m, [f"{b}-1" for b in BARCODES], BARCODES), {}, "no cells in common.*60 cells match", N),
    (hashtags_of_some_cells, {}, "'hto' lacks some of the cells", N),
    (repeated_features, {}, "Feature names of modality 'prot' are not unique", N),
    (with_decimals, {}, "counts with decimals", N),
    (log_normalised, {}, "normalised already", N),
    (log_normalised, {"layer": "counts"}, "No layer 'counts' in modality 'prot'", N),
]


@pytest.mark.parametrize(("spoil", "arguments", "message", "n_obs"), FIXES_OF_THE_MODEL)
@pytest.mark.parametrize("backed", [False, True], ids=["in memory", "backed"])
@pytest.mark.filterwarnings("ignore")
def test_the_named_fix_works_for_the_models_class(
    mdata: MuData,
    spoil: Callable[[MuData], MuData],
    arguments: dict[str, Any],
    message: str,
    n_obs: int,
    backed: bool,
    tmp_path: Path,
) -> None:
    mdata, arguments = spoil(mdata), dict(arguments)
    if backed:
        mdata.write_h5mu(tmp_path / "cells.h5mu")
        mdata = mudata.read_h5mu(tmp_path / "cells.h5mu", backed=True)
    with pytest.raises((ValueError, KeyError), match=f"(?s){message}") as caught:
        smm.model.SCMAG.setup_mudata(mdata, **arguments)
    mdata = apply(str(caught.value.args[0]), mdata, arguments)
    smm.pp.manifold_fit(mdata, **arguments)
    smm.model.SCMAG.setup_mudata(mdata, **arguments)
    assert smm.model.SCMAG(mdata, n_clusters=2).adata.n_obs == n_obs


@pytest.mark.parametrize("arguments", [{}, {"modalities": ("prot", "rna")}])
@pytest.mark.parametrize("backed", [False, True], ids=["in memory", "backed"])
@pytest.mark.filterwarnings("ignore")
def test_the_models_class_says_how_cells_that_lack_modalities_are_filled_in(
    mdata: MuData, arguments: dict[str, Any], backed: bool, tmp_path: Path
) -> None:
    mdata = lacking(mdata)
    if backed:
        mdata.write_h5mu(tmp_path / "cells.h5mu")
        mdata = mudata.read_h5mu(tmp_path / "cells.h5mu", backed=True)
    smm.pp.manifold_fit(mdata, **arguments)
    with pytest.raises(ValueError, match=r"Some cells lack 'prot'.*present_key=\"present\"") as caught:
        smm.model.SCMAG.setup_mudata(mdata, **arguments)
    code = re.search(r"with (mdata = .*?\))", str(caught.value))[1]
    exec(code, space := {"mdata": mdata, "scmag_muon": smm})
    smm.model.SCMAG.setup_mudata(space["mdata"], present_key="present", **arguments)
    assert smm.model.SCMAG(space["mdata"], n_clusters=2).adata.n_obs == N


@pytest.mark.parametrize(
    "make",
    [
        lambda chosen: pd.array(list(chosen), dtype=object),
        lambda chosen: pd.array(chosen, dtype="boolean"),
        lambda chosen: pd.array([None, *chosen[1:]], dtype="boolean"),
        lambda chosen: np.array([np.nan, *chosen[1:]], dtype=object),
        lambda chosen: chosen.astype(np.int32),
        lambda chosen: chosen.astype(np.float64),
        lambda chosen: chosen.astype(str),
        lambda chosen: pd.Categorical(np.where(chosen, "TRUE", "FALSE")),
    ],
)
def test_what_chooses_features_is_read_as_it_is_meant(mdata: MuData, make: Callable[[np.ndarray], Any]) -> None:
    chosen = np.arange(30) % 2 == 1
    mdata["rna"].var["highly_variable"] = make(chosen)
    smm.pp.manifold_fit(mdata)
    np.testing.assert_array_equal(mdata["rna"].var["manifold"], chosen)
