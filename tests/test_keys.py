from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import scmag_muon as smm
from scmag_muon._keys import check_key

if TYPE_CHECKING:
    from mudata import MuData

SHORT: dict[str, Any] = {"n_clusters": 2, "max_epochs_pretrain": 2, "max_epochs": 1, "progress_bar": False}


@pytest.mark.parametrize(
    "key", ["", "  ", "run/1", "a\0b", "a\nb", "_run", "X_run", ".", "..", " run", "run ", "r" * 151]
)
def test_names_that_cannot_be_read_back(key: str) -> None:
    with pytest.raises(ValueError, match=r"^`key_added` must .* Give another name, for example key_added='run_1'\.$"):
        check_key(key, argument="key_added")


@pytest.mark.parametrize("key", [None, 3, b"run", ("run",)])
def test_names_that_are_no_text(key: Any) -> None:
    with pytest.raises(TypeError, match="`manifold_key` must be a string, got "):
        check_key(key, argument="manifold_key")


@pytest.mark.parametrize("key", ["scmag", "run_1", "Läufe 2", "a.b", "x" * 150, "клетки"])
def test_good_names(key: str) -> None:
    check_key(key, argument="key_added")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"key_added": "manifold"}, "key_added='manifold' and manifold_key='manifold' would both be written"),
        ({"key_added": "a", "manifold_key": "a_recon"}, r"would both be written to obsm['X_a_recon']"),
        ({"key_added": "manifold_unfitted"}, "obsm['X_manifold_unfitted']"),
        ({"key_added": "batch", "batch_key": "batch"}, "batch_key='batch' would be overwritten by key_added='batch'"),
        ({"key_added": "cell_type"}, "mdata.obs['cell_type'] is there already and not from an earlier scmag"),
        ({"key_added": "counts", "layer": "counts"}, "layer='counts' would be overwritten by key_added='counts'"),
        ({"manifold_key": "counts", "layer": {"rna": "counts"}}, "overwritten by manifold_key='counts'"),
        ({"key_added": "counts"}, "mdata['rna'].layers['counts'] is there already"),
        (
            {"manifold_key": "chosen"},
            "mdata['rna'].var['chosen'] is there already and not from an earlier manifold_fit",
        ),
        ({"key_added": "settings"}, "mdata.uns['settings'] is there already"),
        ({"key_added": "pca"}, "mdata.obsm['X_pca'] is there already"),
    ],
)
def test_nothing_of_the_user_is_overwritten(citeseq: MuData, arguments: dict[str, Any], message: str) -> None:
    citeseq.obs["batch"] = np.where(np.arange(120) < 60, "a", "b")
    citeseq["rna"].layers["counts"] = citeseq["rna"].X.copy()
    citeseq["rna"].var["chosen"] = np.arange(60) < 30
    citeseq.uns["settings"] = {"params": {"color": "red"}}
    citeseq.obsm["X_pca"] = np.ones((120, 2))
    with pytest.raises(ValueError, match=re.escape(message)):
        smm.tl.scmag(citeseq, **{**SHORT, **arguments})
    assert "scmag" not in citeseq.uns


@pytest.mark.parametrize("key", ["chosen", "counts"])
def test_a_fit_overwrites_nothing_of_the_user(citeseq: MuData, key: str) -> None:
    citeseq["prot"].layers["counts"] = citeseq["prot"].X.copy()
    citeseq["rna"].var["chosen"] = True
    with pytest.raises(ValueError, match="is there already and not from an earlier manifold_fit"):
        smm.pp.manifold_fit(citeseq, key_added=key)


def test_a_fit_takes_the_place_of_an_earlier_one(citeseq: MuData) -> None:
    smm.pp.manifold_fit(citeseq, n_neighbors=5, keep_views=True)
    smm.pp.manifold_fit(citeseq, n_neighbors=8, keep_views=True)
    assert citeseq["prot"].uns["manifold"]["params"]["n_neighbors"] == 8
