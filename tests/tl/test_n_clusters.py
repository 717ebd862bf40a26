from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_blobs

import scmag_muon as smm

if TYPE_CHECKING:
    from mudata import MuData


@pytest.fixture
def fitted() -> MuData:
    mdata = smm.datasets.simulate_citeseq(n_obs=300, n_vars=100, n_prot=10, n_clusters=3)
    smm.pp.manifold_fit(mdata)
    return mdata


def with_space(mdata: MuData, x: np.ndarray) -> MuData:
    mdata.obsm["X_manifold_unfitted"] = x.astype(np.float32)
    return mdata


def test_separate_groups_are_sure(fitted: MuData) -> None:
    x, _ = make_blobs([60] * 5, n_features=6, cluster_std=0.3, center_box=(-9, 9), random_state=0)
    table = smm.tl.n_clusters(with_space(fitted, x), resolutions=(0.5, 1.0))
    assert (table[["n_clusters", "fewest", "most"]] == 5).all(axis=None)
    assert (table["stability"] == 1).all()
    assert {k: fitted.uns["n_clusters"][k] for k in ("estimate", "fewest", "most")} == {
        "estimate": 5,
        "fewest": 5,
        "most": 5,
    }


def test_noise_is_not_sure(fitted: MuData) -> None:
    table = smm.tl.n_clusters(with_space(fitted, np.random.default_rng(0).normal(size=(300, 6))))
    assert (table["fewest"] <= table["n_clusters"]).mean() > 0.5
    assert table.loc[table["resolution"] >= 1, "stability"].max() < 0.7
    assert fitted.uns["n_clusters"]["most"] > fitted.uns["n_clusters"]["fewest"]
    assert table["n_clusters"].is_monotonic_increasing


def test_estimate_is_what_the_run_takes(fitted: MuData) -> None:
    smm.tl.n_clusters(fitted, resolutions=(0.25,), n_replicates=1)  # those that are compared are added
    smm.tl.scmag(fitted, max_epochs_pretrain=2, max_epochs=1, progress_bar=False, accelerator="cpu")
    assert fitted.uns["scmag"]["n_clusters"] == fitted.uns["n_clusters"]["estimate"]


def test_communities_of_batches_that_are_one_in_the_latent_space_are_joined(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mdata = smm.datasets.simulate_citeseq(n_obs=600, n_vars=200, n_prot=20, n_clusters=3)
    batch = np.arange(600) % 2
    mdata.obs["batch"] = pd.Categorical(batch.astype(str))
    types = mdata.obs["cell_type"].cat.codes.to_numpy()
    by_batch = np.where((types == 0) & (batch == 1), 3, types)
    monkeypatch.setattr("scmag_muon.tl._start.communities", lambda *_args, **_kwargs: [by_batch])
    for batch_key, n_clusters in (("batch", 3), (None, 4)):
        smm.tl.scmag(
            mdata, batch_key=batch_key, manifold_key=f"fit_{n_clusters}", progress_bar=False, accelerator="cpu"
        )
        assert mdata.uns["scmag"]["n_clusters"] == mdata.obs["scmag"].nunique() == n_clusters
    assert "hold any cell" not in caplog.text


def test_clusters_that_ran_empty_are_warned_of_where_none_are_joined(
    fitted: MuData, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original = smm.model.SCMAG.of_run

    def without_last(self: smm.model.SCMAG) -> tuple[np.ndarray, ...]:
        q, *others = original(self)
        q[:, -1] = 0
        return q, *others

    monkeypatch.setattr(smm.model.SCMAG, "of_run", without_last)
    x, _ = make_blobs([60] * 5, n_features=6, cluster_std=0.3, center_box=(-9, 9), random_state=0)
    smm.tl.scmag(with_space(fitted, x), max_epochs_pretrain=2, max_epochs=1, progress_bar=False, accelerator="cpu")
    assert "n_clusters=5 clusters hold any cell" in caplog.text
    assert fitted.uns["scmag"]["n_clusters"] == 5


def test_picture_shows_the_table(fitted: MuData) -> None:
    table = smm.tl.n_clusters(fitted, n_replicates=2)
    ax = smm.pl.n_clusters(fitted)
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), table["resolution"])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), table["n_clusters"])
    assert [text.get_text() for text in ax.texts] == [f"{value:.2f}" for value in table["stability"]]
    assert ax.get_title(loc="left").startswith(f"{fitted.uns['n_clusters']['estimate']} clusters")


def test_what_is_missing_is_named(fitted: MuData) -> None:
    with pytest.raises(KeyError, match="No table"):
        smm.pl.n_clusters(fitted)
    with pytest.raises(KeyError, match=r"No joint space mdata.obsm\['X_other_unfitted'\].*manifold_fit"):
        smm.tl.n_clusters(fitted, manifold_key="other")
    with pytest.raises(ValueError, match="`n_replicates`"):
        smm.tl.n_clusters(fitted, n_replicates=0)
