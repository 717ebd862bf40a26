"""Batches of the model's class are those of ``tl.scmag``, whatever the type of their column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from scvi import REGISTRY_KEYS

import scmag_muon as smm
from scmag_muon import _mudata

if TYPE_CHECKING:
    from mudata import MuData

N = 24


@pytest.fixture(scope="module")
def fitted() -> MuData:
    mdata = smm.datasets.simulate_citeseq(n_obs=N, n_vars=15, n_prot=5, n_clusters=2)
    smm.pp.manifold_fit(mdata)
    return mdata


COLUMNS = {
    "mixed types": np.array([1, "b"] * 12, dtype=object),
    "nullable text": pd.array(["b", "a"] * 12, dtype="string"),
    "nullable numbers": pd.array([10, 9] * 12, dtype="Int64"),
    "numbers": np.array([10, 9] * 12),
    "decimals": np.array([1.5, 0.25] * 12),
    "boolean": np.array([True, False] * 12),
    "unused categories": pd.Categorical(["b", "a"] * 12, categories=["c", "b", "a"]),
    "one cell a batch": np.array([f"b{i}" for i in range(N)]),
}


@pytest.mark.parametrize("values", COLUMNS.values(), ids=COLUMNS.keys())
@pytest.mark.parametrize("place", ["mdata", "modality", "named by modality"])
def test_batches_are_read_as_text(fitted: MuData, values: Any, place: str) -> None:
    mdata = fitted.copy()
    target = mdata if place == "mdata" else mdata["rna"]
    target.obs["donor"] = pd.Series(values, index=mdata.obs_names)
    batch_key = "rna:donor" if place == "named by modality" else "donor"
    smm.model.SCMAG.setup_mudata(mdata, batch_key=batch_key)
    model = smm.model.SCMAG(mdata, n_clusters=2)
    batches = _mudata.get_batches(mdata, batch_key)
    assert batches is not None
    state = model.adata_manager.get_state_registry(REGISTRY_KEYS.BATCH_KEY)
    assert list(state["categorical_mapping"]) == list(batches.categories) == sorted(set(map(str, values)))
    codes = model.adata_manager.get_from_registry(REGISTRY_KEYS.BATCH_KEY)
    np.testing.assert_array_equal(np.ravel(codes), batches.codes)
    assert model.summary_stats.n_batch == len(batches.categories)


def test_a_loaded_model_numbers_them_alike(fitted: MuData, tmp_path: Any) -> None:
    mdata = fitted.copy()
    mdata.obs["donor"] = COLUMNS["mixed types"]
    smm.model.SCMAG.setup_mudata(mdata, batch_key="donor")
    model = smm.model.SCMAG(mdata, n_clusters=2)
    model.train(max_epochs_pretrain=2, max_epochs=1, progress_bar=False, accelerator="cpu")
    model.save(tmp_path / "model")
    other = fitted.copy()
    other.obs["donor"] = pd.Categorical(mdata.obs["donor"].astype(str), categories=["b", "unused", "1"])
    loaded = smm.model.SCMAG.load(tmp_path / "model", adata=other, accelerator="cpu")
    asked = [each.get_normalized_expression(modality="rna", return_numpy=True) for each in (model, loaded)]
    np.testing.assert_array_equal(*asked)
    assert np.ravel(loaded.adata_manager.get_from_registry(REGISTRY_KEYS.BATCH_KEY)).tolist() == [0, 1] * 12
    other.obs["donor"] = np.array([1, "c"] * 12, dtype=object)
    with pytest.raises(ValueError, match=r"has not seen \['c'\]"):
        smm.model.SCMAG.load(tmp_path / "model", adata=other, accelerator="cpu")


def test_missing_batches_have_a_fix_where_the_column_is(fitted: MuData) -> None:
    for place in ("mdata", "modality"):
        mdata = fitted.copy()
        target = mdata if place == "mdata" else mdata["rna"]
        target.obs["donor"] = pd.Series([None, *"ab" * 11, "a"], index=mdata.obs_names)
        with pytest.raises(ValueError, match="missing for 1 cells, the first of them 'cell_0'") as caught:
            smm.model.SCMAG.setup_mudata(mdata, batch_key="donor")
        space = {"mdata": mdata}
        exec(str(caught.value).split("them out with ")[1].removesuffix("."), space)
        smm.model.SCMAG.setup_mudata(space["mdata"], batch_key="donor")
        assert space["mdata"].n_obs == N - 1


def test_counts_of_further_cells_are_rounded_as_those_of_the_training(fitted: MuData) -> None:
    whole = fitted.copy()
    smm.model.SCMAG.setup_mudata(whole, round_counts=True)
    model = smm.model.SCMAG(whole, n_clusters=2)
    model.train(max_epochs_pretrain=2, max_epochs=1, progress_bar=False, accelerator="cpu")
    decimals = fitted.copy()
    for adata in decimals.mod.values():
        counts = adata.X.toarray()
        adata.X = (
            counts + np.where(counts > 0, np.random.default_rng(0).uniform(-0.09, 0.09, counts.shape), 0)
        ).astype("f4")
    kept = decimals["rna"].X.copy()
    assert model.get_reconstruction_error(decimals) == model.get_reconstruction_error(whole)
    observed = [
        model.get_normalized_expression(cells, library_size="observed", return_numpy=True)
        for cells in (decimals, whole)
    ]
    np.testing.assert_array_equal(*observed)
    np.testing.assert_array_equal(decimals["rna"].X, kept)
