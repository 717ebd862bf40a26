"""What a saved model holds of its cells, and that another process maps by it to the bit."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

import scmag_muon as smm
from scmag_muon._mudata import make_mudata, no_pull_on_update
from scmag_muon.model import SCMAG
from scmag_muon.model._reference import Reference

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

_ELSEWHERE = """
import sys, mudata, numpy as np, scmag_muon as smm
query = mudata.read_h5mu(sys.argv[2])
smm.tl.map_query(query, sys.argv[1], labels="cell_type", accelerator="cpu")
np.savez(sys.argv[3], latent=query.obsm["X_scmag"], labels=query.obs["scmag_cell_type"].astype(str).to_numpy(str),
         unlikeness=query.obs["scmag_unlikeness"])
"""


@pytest.fixture(scope="module", params=["complete", "mosaic"])
def trained(request: pytest.FixtureRequest) -> tuple[MuData, MuData, SCMAG]:
    """A reference, a query of its types, and a model; cells of the mosaic lack modalities and are of two batches."""
    whole = smm.datasets.simulate_citeseq(n_obs=170, n_vars=40, n_prot=10, n_clusters=3, n_batches=2)
    mosaic = request.param == "mosaic"
    with no_pull_on_update():
        reference, query = whole[:120].copy(), whole[120:].copy()
        if mosaic:
            mods = {"rna": reference["rna"][:90].copy(), "prot": reference["prot"][20:].copy()}
            reference = make_mudata(mods, reference.obs)
    reference.obs.loc[reference.obs_names[:5], "cell_type"] = None
    model = smm.tl.scmag(
        reference,
        n_clusters=3,
        batch_key="batch" if mosaic else None,
        max_epochs_pretrain=3,
        max_epochs=1,
        progress_bar=False,
        accelerator="cpu",
        return_model=True,
    )
    assert isinstance(model, SCMAG)
    return reference, query, model


def test_round_trip_keeps_every_bit(trained: tuple[MuData, MuData, SCMAG]) -> None:
    reference, _, model = trained
    found = model.reference
    assert found is not None
    again = Reference.from_dict(found.to_dict())
    pd.testing.assert_frame_equal(again.obs, found.obs)
    assert list(again.labels("cell_type")[:6]) == [None] * 5 + [str(reference.obs["cell_type"].iloc[5])]
    for name in ("rna", "prot"):
        np.testing.assert_array_equal(again.counts[name].toarray(), found.counts[name].toarray())
        cells = np.arange(30)
        np.testing.assert_array_equal(
            again.fit.rows(name, cells, counts=again.counts[name]),
            found.fit.rows(name, cells, counts=found.counts[name]),
        )
    tables = again.fit.neighborhoods
    assert (tables["rna"] is tables["prot"]) == (found.fit.neighborhoods["rna"] is found.fit.neighborhoods["prot"])


def test_another_process_maps_to_the_same_bits(trained: tuple[MuData, MuData, SCMAG], tmp_path: Path) -> None:
    _, query, model = trained
    model.save(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["model.json", "model.safetensors"]
    query.write_h5mu(tmp_path / "query.h5mu")
    found = tmp_path / "found.npz"
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _ELSEWHERE, tmp_path / "model", tmp_path / "query.h5mu", found],
        check=True,
    )
    here = smm.tl.map_query(query, model, labels="cell_type", copy=True)
    assert here is not None
    there = np.load(found)
    np.testing.assert_array_equal(there["latent"], here.obsm["X_scmag"])
    np.testing.assert_array_equal(there["labels"], here.obs["scmag_cell_type"].astype(str))
    np.testing.assert_array_equal(there["unlikeness"], here.obs["scmag_unlikeness"])


def test_without_reference_a_folder_holds_no_counts_and_no_names(
    trained: tuple[MuData, MuData, SCMAG], tmp_path: Path
) -> None:
    reference, query, model = trained
    model.save(tmp_path / "bare", reference=False)
    text = (tmp_path / "bare" / "model.json").read_text()
    assert reference.obs_names[0] not in text
    assert "reference" not in json.loads(text)["state"]
    with pytest.raises(ValueError, match="holds no fit that can place other cells"):
        smm.tl.map_query(query, tmp_path / "bare", accelerator="cpu")
    with pytest.raises(ValueError, match="saved with the reference"):
        model.save(tmp_path / "other", reference=False, labels=reference.obs["cell_type"])
    assert not (tmp_path / "other").exists()


def test_a_model_of_some_of_the_cells_that_were_fitted_is_saved_without_reference(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with no_pull_on_update():
        whole = smm.datasets.simulate_citeseq(n_obs=60, n_vars=40, n_prot=10, n_clusters=3)
        smm.pp.manifold_fit(whole)
        part = whole[:40].copy()
    SCMAG.setup_mudata(part)
    model = SCMAG(part, n_clusters=2)
    model.train(max_epochs_pretrain=2, max_epochs=1, progress_bar=False, accelerator="cpu")
    model.save(tmp_path / "model")
    assert (
        "can't place other cells. The fit 'manifold' is of other cells of modality 'rna' (60 then, 40 now)"
        in caplog.text
    )
    loaded = SCMAG.load(tmp_path / "model", adata=part, accelerator="cpu")
    np.testing.assert_array_equal(loaded.get_latent_representation(), model.get_latent_representation())
    with pytest.raises(ValueError, match="holds no fit that can place other cells"):
        smm.tl.map_query(whole, loaded)


def test_cells_that_were_normalised_after_training_are_told_from_the_query(tmp_path: Path) -> None:
    with no_pull_on_update():
        whole = smm.datasets.simulate_citeseq(n_obs=70, n_vars=40, n_prot=10, n_clusters=3)
        own, query = whole[:40].copy(), whole[40:].copy()
    smm.pp.manifold_fit(own)
    SCMAG.setup_mudata(own)
    model = SCMAG(own, n_clusters=2)
    model.train(max_epochs_pretrain=2, max_epochs=1, progress_bar=False, accelerator="cpu")
    counts = own["rna"].X.copy()
    own["rna"].X = np.log1p(counts)
    with pytest.raises(ValueError, match="normalised already.* These are the cells that the model was trained on"):
        smm.tl.map_query(query, model)
    model.save(tmp_path / "model", reference=False)
    own["rna"].X = counts
    smm.tl.map_query(query, model)


def test_labels_are_saved_by_the_names_of_the_cells(trained: tuple[MuData, MuData, SCMAG], tmp_path: Path) -> None:
    reference, _, model = trained
    annotation = pd.Series([f"type {i % 4}" for i in range(120)], index=reference.obs_names, name="annotation")
    model.save(tmp_path / "model", labels=annotation.iloc[::-1])
    found = SCMAG.load(tmp_path / "model", adata=False, accelerator="cpu").reference
    assert found is not None
    np.testing.assert_array_equal(found.labels("annotation"), annotation.to_numpy(dtype=object))
    for labels, says in (
        (annotation.iloc[:-1], "lack 1 of the model's 120 cells"),
        (pd.Series(np.arange(120.0), index=reference.obs_names, name="score"), "'score' are none"),
    ):
        with pytest.raises(ValueError, match=says):
            model.save(tmp_path / "wrong", labels=labels)
