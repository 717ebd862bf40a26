"""What a mosaic lacks is refused before any work where it can't be fitted, and the fix that is named works."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import scmag_muon as smm
from scmag_muon import _mudata
from scmag_muon._mudata import make_mudata

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData
    from mudata import MuData

N = 90


@pytest.fixture(scope="module")
def whole() -> dict[str, AnnData]:
    mdata = smm.datasets.simulate_trimodal(n_obs=N, n_vars=30, n_prot=10, n_peaks=40)
    return {**dict(mdata.mod), "adt2": mdata["prot"].copy()}


def mosaic(whole: dict[str, AnnData], **rows: slice) -> MuData:
    return make_mudata({name: whole[name][of].copy() for name, of in rows.items()})


def only_hashtags(whole: dict[str, AnnData]) -> MuData:
    tags = whole["prot"].copy()
    tags.var = tags.var[[]]
    tags.var_names = [f"hto_{i}" for i in range(tags.n_vars)]
    return make_mudata({"hto": tags})


def renamed(whole: dict[str, AnnData]) -> MuData:
    mdata = mosaic(whole, rna=slice(0, 60), prot=slice(30, 90))
    for adata in mdata.mod.values():
        adata.obs_names = [f"new_{name}" for name in adata.obs_names]
    return mdata


REFUSED: list[tuple[Callable[[dict[str, AnnData]], MuData], dict[str, Any], str, int]] = [
    (only_hashtags, {}, "No modality of the MuData is known", N),
    (renamed, {}, "'rna' were renamed after they were joined: 60 of 60, such as 'new_cell_0'", N),
    (
        lambda w: mosaic(w, rna=slice(0, 60), prot=slice(30, 70), atac=slice(50, 90)),
        {"modalities": ["rna", "prot"]},
        "20 of 90 cells have none of the modalities \\['rna', 'prot'\\], the first is 'cell_70'",
        70,
    ),
    (
        lambda w: mosaic(w, rna=slice(0, 90), prot=slice(0, 19)),
        {},
        "'prot' holds 19 of 90 cells, too few",
        N,
    ),
    (
        lambda w: mosaic(w, rna=slice(0, 50), prot=slice(20, 50), atac=slice(50, 90), adt2=slice(55, 90)),
        {"modalities": ["rna", "prot", "atac", "adt2"]},
        "cells of modalities \\['atac', 'adt2'\\] have none of \\['rna', 'prot'\\], and no cells link them",
        50,
    ),
]


def follow(message: str, mdata: MuData, arguments: dict[str, Any]) -> MuData:
    """Add the argument and run the line that a message names."""
    argument = re.search(r"\bwith ((?:modalities|kinds)=[\[{].*?[\]}])", message)
    if argument:
        arguments.update(eval(f"dict({argument[1]})"))
    code = re.search(r"(mdata = mdata\[.*\]\.copy\(\)|mdata\.update\(\))", message)
    space = {"mdata": mdata}
    if code:
        exec(code[1], space)
    return space["mdata"]


@pytest.mark.parametrize("verb", [smm.pp.manifold_fit, smm.tl.scmag], ids=["manifold_fit", "scmag"])
@pytest.mark.parametrize(("make", "arguments", "message", "n_obs"), REFUSED)
@pytest.mark.filterwarnings("ignore:From 0.4 .update:FutureWarning")
def test_refused_before_any_work_and_mended_as_named(
    whole: dict[str, AnnData],
    make: Callable[[dict[str, AnnData]], MuData],
    arguments: dict[str, Any],
    message: str,
    n_obs: int,
    verb: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mdata, arguments = make(whole), dict(arguments)
    slots = {name: [*adata.layers, *adata.var, *adata.uns] for name, adata in mdata.mod.items()}
    for work in ("get_counts", "working_copy"):
        monkeypatch.setattr(_mudata, work, lambda *_, **__: pytest.fail("counts were read"))
    with pytest.raises(ValueError, match=message) as caught:
        verb(mdata, **arguments)
    monkeypatch.undo()
    assert {name: [*adata.layers, *adata.var, *adata.uns] for name, adata in mdata.mod.items()} == slots
    assert not any("manifold" in key for key in [*mdata.obsm, *mdata.uns, *mdata.obsp])
    if verb is smm.tl.scmag:
        return
    mdata = follow(str(caught.value), mdata, arguments)
    smm.pp.manifold_fit(mdata, **arguments)
    assert mdata.obsm["X_manifold"].shape[0] == mdata.n_obs == n_obs


def test_one_modality_apart_is_named(whole: dict[str, AnnData]) -> None:
    mdata = mosaic(whole, rna=slice(0, 50), prot=slice(20, 50), atac=slice(50, 90))
    with pytest.raises(ValueError, match="Modalities 'rna' and 'atac' have no cells in common"):
        smm.pp.manifold_fit(mdata)


def test_modalities_linked_in_two_steps_are_taken(whole: dict[str, AnnData]) -> None:
    mdata = mosaic(whole, rna=slice(0, 50), prot=slice(25, 75), atac=slice(50, 90))
    smm.pp.manifold_fit(mdata)
    assert np.isfinite(mdata.obsm["X_manifold"]).all()
    assert mdata.obsm["X_manifold"].shape[0] == N
