"""When a fit is used again, and when it is renewed; nothing is trained."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pytest
import scipy.sparse as sp

import scmag_muon as smm
from scmag_muon import _mudata
from scmag_muon._mudata import working_copy
from scmag_muon.tl._fit import Asked, fit_or_reuse

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData

OWN = {"n_neighbors": 7, "n_pcs": 9, "random_state": 0}


def ask(mdata: MuData, **arguments: Any) -> tuple[MuData, bool]:
    names = tuple(arguments.pop("names", ("rna", "prot")))
    defaults: dict[str, Any] = {
        "names": names,
        "key": "manifold",
        "result": "scmag",
        "kinds": {"rna": "rna", "prot": "protein"},
        "layer": None,
        "mask_var": None,
        "batch_key": None,
        "random_state": 0,
        "paper": False,
        "ablated": False,
    }
    asked = Asked(**{**defaults, **arguments})
    work = working_copy(mdata, asked.names, asked.layer, asked.batch_key)
    return work, fit_or_reuse(mdata, work, asked)


@pytest.fixture
def fitted(citeseq: MuData) -> MuData:
    citeseq["rna"].var["chosen"] = np.arange(60) < 30
    citeseq.obs["batch"] = np.where(np.arange(120) % 3 == 0, "a", "b")
    smm.pp.manifold_fit(citeseq, **OWN)
    return citeseq


def test_a_fit_that_is_used_again_is_carried_whole(fitted: MuData) -> None:
    work, renewed = ask(fitted)
    assert not renewed
    for slot in ("X_manifold", "X_manifold_unfitted"):
        np.testing.assert_array_equal(work.obsm[slot], fitted.obsm[slot])
    for name, adata in fitted.mod.items():
        np.testing.assert_array_equal(work[name].layers["manifold"], adata.layers["manifold"])
        assert work[name].uns["manifold"] == adata.uns["manifold"]


def stored_otherwise(mdata: MuData) -> MuData:
    mdata["rna"].X = sp.csc_matrix(mdata["rna"].X).astype(np.float64)
    mdata["prot"].X = mdata["prot"].X.toarray() if sp.issparse(mdata["prot"].X) else sp.csr_matrix(mdata["prot"].X)
    return mdata


def cells_reordered(mdata: MuData) -> MuData:
    return mdata[np.random.default_rng(0).permutation(mdata.n_obs)].copy()


def layer_of_the_same_counts(mdata: MuData) -> MuData:
    for adata in mdata.mod.values():
        adata.layers["counts"] = adata.X.copy()
        adata.X = adata.X * 2
    return mdata


def chosen_by_words(mdata: MuData) -> MuData:
    mdata["rna"].var["highly_variable"] = np.where(np.arange(60) < 40, "True", "False")
    smm.pp.manifold_fit(mdata, **OWN)
    return mdata


def chosen_with_gaps(mdata: MuData) -> MuData:
    mdata["rna"].var["highly_variable"] = np.where(np.arange(60) < 40, True, None)
    smm.pp.manifold_fit(mdata, **OWN)
    return mdata


def genes_left_out_that_took_no_part(mdata: MuData) -> MuData:
    smm.pp.manifold_fit(mdata, mask_var="chosen", **OWN)
    kept = {"rna": mdata["rna"][:, :40].copy(), "prot": mdata["prot"].copy()}
    made = _mudata.make_mudata(kept, mdata.obs)
    for slot in ("X_manifold", "X_manifold_unfitted"):
        made.obsm[slot] = mdata.obsm[slot]
    return made


@pytest.mark.parametrize(
    ("change", "arguments"),
    [
        (lambda m: m, {}),
        (stored_otherwise, {}),
        (cells_reordered, {}),
        (genes_left_out_that_took_no_part, {}),
        (chosen_by_words, {}),
        (chosen_with_gaps, {}),
    ],
)
def test_the_same_data_take_the_fit_that_is_there(
    fitted: MuData,
    change: Callable[[MuData], MuData],
    arguments: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    changed = change(fitted)
    caplog.clear()
    work, new = ask(changed, **arguments)
    assert (new, caplog.text) == (False, "")
    assert work["rna"].layers["manifold"] is changed["rna"].layers["manifold"]


def test_another_layer_of_the_same_counts_takes_it_and_says_so(
    fitted: MuData, caplog: pytest.LogCaptureFixture
) -> None:
    changed = layer_of_the_same_counts(fitted)
    caplog.clear()
    for layer in ("counts", {"rna": "counts", "prot": "counts"}):
        assert not ask(changed, layer=layer)[1]
        (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert "made with layer={'rna': None, 'prot': None}. It is used again" in line
        assert "layer={'rna': 'counts', 'prot': 'counts'} holds the same counts" in line
        caplog.clear()


def test_a_fit_read_from_a_file_is_used(fitted: MuData, tmp_path: Path) -> None:
    fitted.write_h5mu(tmp_path / "fitted.h5mu")
    assert not ask(mudata.read_h5mu(tmp_path / "fitted.h5mu"))[1]


def subset(mdata: MuData) -> MuData:
    return mdata[:100].copy()


def other_counts(mdata: MuData) -> MuData:
    mdata["prot"].X[5, 5] += 1
    return mdata


def other_batches(mdata: MuData) -> MuData:
    smm.pp.manifold_fit(mdata, batch_key="batch", **OWN)
    mdata.obs["batch"] = np.where(np.arange(120) % 2 == 0, "a", "b")
    return mdata


def without_neighbors(mdata: MuData) -> MuData:
    del mdata.obsp["manifold_rbf"]
    return mdata


def highly_variable_since(mdata: MuData) -> MuData:
    mdata["rna"].var["highly_variable"] = np.arange(60) < 20
    return mdata


@pytest.mark.parametrize(
    ("change", "arguments", "reason"),
    [
        (subset, {}, r"it is of other cells \(120 then, 100 now\)"),
        (other_counts, {}, "the counts of 'prot' are others"),
        (other_batches, {"batch_key": "batch"}, "batch_key='batch' is asked"),
        (without_neighbors, {}, r"mdata.obsp\['manifold_rbf'\] was deleted"),
        (highly_variable_since, {}, "'highly_variable' chooses other features of 'rna'"),
        (lambda m: m, {"batch_key": "batch"}, "batch_key='batch' is asked"),
        (lambda m: m, {"mask_var": "chosen"}, "'chosen' chooses other features of 'rna'"),
        (lambda m: m, {"random_state": 4}, "random_state=4 is asked, it had 0"),
        (lambda m: m, {"paper": True}, "neighborhoods='own' is asked, it had 'shared'"),
        (lambda m: m, {"names": ("prot", "rna")}, r"modalities=\['prot', 'rna'\] is asked"),
        (lambda m: m, {"kinds": {"rna": "rna", "prot": "rna"}}, r"kinds=\['rna', 'rna'\] is asked"),
    ],
)
def test_other_data_renew_it_with_its_own_arguments(
    fitted: MuData,
    change: Callable[[MuData], MuData],
    arguments: dict[str, Any],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    changed = change(fitted)
    before = changed["rna"].layers["manifold"]
    kept = before.copy()
    work, new = ask(changed, **arguments)
    assert new
    (line,) = [record.getMessage() for record in caplog.records if "is renewed" in record.getMessage()]
    assert line.startswith("The fit 'manifold' is renewed: ")
    assert re.search(reason, line)
    params = work["rna"].uns["manifold"]["params"]
    assert (params["n_neighbors"], params["n_pcs"]) == (7, 9)
    assert params["random_state"] == arguments.get("random_state", 0)
    assert params.get("mask_var") == arguments.get("mask_var")
    assert changed["rna"].layers["manifold"] is before
    np.testing.assert_array_equal(before, kept)
    # what was put right once stays right
    _mudata.copy_fitted(work, changed, ("rna", "prot"), "manifold")
    assert not ask(changed, **arguments)[1]


def test_the_features_of_a_fit_stay_where_their_column_is_gone(fitted: MuData) -> None:
    smm.pp.manifold_fit(fitted, mask_var="chosen", **OWN)
    del fitted["rna"].var["chosen"]
    work, new = ask(fitted, random_state=1)
    assert new
    assert work["rna"].var["manifold"].tolist() == [True] * 30 + [False] * 30


def test_views_are_renewed_with_the_fit(fitted: MuData) -> None:
    smm.pp.manifold_fit(fitted, keep_views=True, **OWN)
    before = fitted["rna"].layers["manifold_log_rbf"].copy()
    work, _ = ask(fitted, random_state=1)
    assert work["rna"].layers["manifold_log_rbf"].shape == before.shape


def test_a_fit_without_a_note_of_its_counts_is_renewed(fitted: MuData, caplog: pytest.LogCaptureFixture) -> None:
    for adata in fitted.mod.values():
        for part in ("made_from", "format", "verb"):
            del adata.uns["manifold"][part]
    assert ask(fitted)[1]
    assert "an earlier release made it" in caplog.text


def test_results_that_rest_on_the_fit_are_named(fitted: MuData, caplog: pytest.LogCaptureFixture) -> None:
    fitted.uns["fine"] = {"verb": "scmag", "params": {"manifold_key": "manifold"}}
    ask(fitted, random_state=1)
    assert "Results made from it: 'fine'; another manifold_key keeps both." in caplog.text
