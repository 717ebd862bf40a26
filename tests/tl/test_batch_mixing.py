from __future__ import annotations

from typing import TYPE_CHECKING

import mudata
import numpy as np
import pytest
import scipy.sparse as sp

import scmag_muon as smm
from scmag_muon.metrics import batch_mixing
from scmag_muon.tl import _batch_mixing

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData


@pytest.fixture(autouse=True)
def _no_umap(monkeypatch: pytest.MonkeyPatch) -> None:
    # compiling UMAP takes half a minute; the docstring's example runs it
    monkeypatch.setattr(_batch_mixing, "umap_of", lambda space, random_state: np.asarray(space)[:, :2])


def test_finds_the_batch_that_was_put_in(finished: MuData, tmp_path: Path) -> None:
    batch = (finished.obs["batch"] == "a").to_numpy()
    counts = finished["rna"].X.toarray()
    counts[batch, 30:50] += 15
    finished["rna"].X = sp.csr_matrix(counts)
    table = smm.tl.batch_mixing(finished, n_neighbors=10)
    # X_scmag was made without the batches
    assert table.at["before", "mixing"] < 0.2
    assert table.at["after", "mixing"] > 0.8
    expected = batch_mixing(finished.obsm["X_scmag"], finished.obs["batch"], n_neighbors=10)
    assert table.loc["after"].to_dict() == pytest.approx(expected)
    np.testing.assert_array_equal(finished.obsm["X_scmag_batch_mixing_after"], finished.obsm["X_scmag"][:, :2])
    finished.write_h5mu(tmp_path / "out.h5mu")
    back = mudata.read_h5mu(tmp_path / "out.h5mu").uns["scmag_batch_mixing"]
    assert back["params"]["batch_key"] == "batch"
    np.testing.assert_allclose(back["table"], table)


def test_each_modality_has_the_same_say_before(finished: MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    spaces = []
    monkeypatch.setattr(_batch_mixing, "umap_of", lambda space, random_state: spaces.append(space) or space[:, :2])
    smm.tl.batch_mixing(finished, n_pcs=5)
    before = spaces[0]
    assert before.shape == (180, 10)
    assert before[:, :5].var(axis=0).sum() == pytest.approx(1, rel=1e-3)
    assert before[:, 5:].var(axis=0).sum() == pytest.approx(1, rel=1e-3)


def test_only_features_that_took_part(finished: MuData) -> None:
    all_features = smm.tl.batch_mixing(finished).loc["before"]
    finished["rna"].var["manifold"] = np.arange(60) < 8
    assert not np.allclose(smm.tl.batch_mixing(finished).loc["before"], all_features)


def test_errors(finished: MuData) -> None:
    finished.obs["one"] = "a"
    with pytest.raises(ValueError, match="one batch only"):
        smm.tl.batch_mixing(finished, batch_key="one")
    with pytest.raises(KeyError, match="batch_key='plate' names no column"):
        smm.tl.batch_mixing(finished, batch_key="plate")
    finished.uns["scmag"]["params"]["batch_key"] = None
    with pytest.raises(KeyError, match="Name their column with batch_key="):
        smm.tl.batch_mixing(finished)
    del finished.obsm["X_scmag"]
    with pytest.raises(KeyError, match=r"No clustering space mdata.obsm\['X_scmag'\]"):
        smm.tl.batch_mixing(finished)
