"""Verbs that repeat the run: tl.stability and tl.held_out_markers, on one training that both share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pandas as pd
import pytest

import scmag_muon as smm
from scmag_muon._mudata import no_pull_on_update
from scmag_muon.metrics import cluster_stability
from scmag_muon.tl import _stability
from scmag_muon.tl._again import recorded_run

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

SHORT: dict[str, Any] = {"max_epochs_pretrain": 6, "max_epochs": 3, "progress_bar": False, "accelerator": "cpu"}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    mdata = smm.datasets.simulate_citeseq(n_obs=200, n_vars=80, n_prot=12, n_clusters=3, n_batches=2)
    mdata["rna"].var["chosen"] = np.arange(80) < 60
    smm.tl.scmag(mdata, n_clusters=3, batch_key="batch", mask_var="chosen", **SHORT)
    path = tmp_path_factory.mktemp("run") / "run.h5mu"
    with no_pull_on_update():
        mdata.write_h5mu(path)
    return path


@pytest.fixture
def run(file: Path) -> MuData:
    return mudata.read_h5mu(file)


def test_the_same_seed_brings_the_same_clusters(run: MuData, tmp_path: Path) -> None:
    before = run.obs["scmag"].copy()
    table = smm.tl.stability(run, random_states=(0, 1), accelerator="cpu", progress_bar=False)
    assert list(table.index) == list(before.cat.categories)
    assert (table["0"] == 1).all()
    assert table["1"].between(0, 1).all()
    pd.testing.assert_series_equal(run.obs["scmag"], before)
    record = run.uns["scmag_stability"]
    assert record["ari"].at["0", "ari"] == 1
    run.write_h5mu(tmp_path / "out.h5mu")
    pd.testing.assert_frame_equal(mudata.read_h5mu(tmp_path / "out.h5mu").uns["scmag_stability"]["table"], table)


def test_repeats_the_recorded_run(run: MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []

    def instead(work: MuData, **arguments: Any) -> None:
        calls.append(arguments)
        assert work["rna"].var["manifold"].tolist() == run["rna"].var["manifold"].tolist()
        work.obs["scmag"] = pd.Categorical(["0"] * 100 + ["1"] * 100)

    monkeypatch.setattr(_stability, "scmag", instead)
    run.uns["scmag"]["params"]["precision"] = "bf16-mixed"
    table = smm.tl.stability(run, random_states=[5])
    expected = cluster_stability(run.obs["scmag"], [["0"] * 100 + ["1"] * 100])
    np.testing.assert_array_equal(table, expected)
    (arguments,) = calls
    assert arguments["random_state"] == 5
    assert arguments["n_clusters"] == 3
    assert arguments["batch_key"] == "batch"
    assert arguments["max_epochs_pretrain"] == 6
    assert arguments["precision"] == "bf16-mixed"
    assert list(arguments["modalities"]) == ["rna", "prot"]


def test_held_out_cells(run: MuData, tmp_path: Path) -> None:
    table = smm.tl.held_out_markers(run, labels="cell_type", n_markers=3, accelerator="cpu", progress_bar=False)
    assert set(table["label"]) == set(run.obs["cell_type"])
    assert table.groupby(["label", "modality"]).size().eq(3).all()
    rna = table.loc[table["modality"] == "rna", "feature"]
    assert run["rna"].var.loc[rna, "chosen"].all()
    assert table[["raw", "reconstructed"]].to_numpy().min() >= 0
    np.testing.assert_allclose(table["gain"], table["reconstructed"] - table["raw"])
    # the best marker of a simulated type tells held-out cells apart: it was not chosen by chance
    best = table.groupby(["label", "modality"]).head(1)
    assert best["raw"].mean() > 0.6
    run.write_h5mu(tmp_path / "out.h5mu")
    assert mudata.read_h5mu(tmp_path / "out.h5mu").uns["scmag_held_out"]["params"]["n_test"] == 40


def test_features_without_a_count_among_the_held_out(run: MuData) -> None:
    held_out = np.random.default_rng(0).permutation(200)[:40]
    counts = run["rna"].X.tolil()
    counts[held_out, 3] = 0
    run["rna"].X = counts.tocsr()
    smm.tl.scmag(run, n_clusters=3, batch_key="batch", mask_var="chosen", **SHORT)
    table = smm.tl.held_out_markers(run, labels="cell_type", n_markers=60, accelerator="cpu", progress_bar=False)
    rows = table[(table["modality"] == "rna") & (table["feature"] == run["rna"].var_names[3])]
    assert len(rows) == 3
    assert (rows["raw"] == 0.5).all()


def test_labels_by_chance_gain_nothing(run: MuData) -> None:
    run.obs["chance"] = np.random.default_rng(0).permutation(run.obs["cell_type"].astype(str))
    table = smm.tl.held_out_markers(run, labels="chance", n_markers=3, accelerator="cpu", progress_bar=False)
    assert abs(table["raw"].mean() - 0.5) < 0.12
    assert abs(table["reconstructed"].mean() - 0.5) < 0.12


def test_errors(run: MuData) -> None:
    with pytest.raises(ValueError, match="`random_states` is empty"):
        smm.tl.stability(run, random_states=[])
    with pytest.raises(KeyError, match=r"No run in mdata.uns\['other'\].*key_added='other'"):
        smm.tl.stability(run, key="other")
    with pytest.raises(ValueError, match="`test_size` must lie between 0 and 1"):
        smm.tl.held_out_markers(run, labels="cell_type", test_size=1)
    with pytest.raises(KeyError, match="labels='types' names no column"):
        smm.tl.held_out_markers(run, labels="types")
    run.obs["one"] = "same"
    with pytest.raises(ValueError, match="are of 1 known type"):
        smm.tl.held_out_markers(run, labels="one")


def test_records_of_the_first_release_are_read(finished: MuData, tmp_path: Path) -> None:
    """They have no format number, no verb and no fingerprints, and settings as mappings."""
    record = finished.uns["scmag"]
    record["params"] |= {"model_kwargs": {"kl_weight": 0.5}, "plan_kwargs": {"lr": 0.001}}
    assert not {"format", "verb", "key", "made_from"} & set(record)
    finished.write_h5mu(tmp_path / "old.h5mu")
    mdata = mudata.read_h5mu(tmp_path / "old.h5mu")
    assert recorded_run(mdata, "scmag")["model_kwargs"] == {"kl_weight": 0.5}
    assert len(smm.tl.markers(mdata)) == 4 * 70
    assert smm.report(mdata, tmp_path / "page.html").stat().st_size > 10_000
    table = smm.tl.stability(mdata, random_states=(1,), progress_bar=False, accelerator="cpu")
    assert table.shape == (4, 1)
    assert table.min().min() > 0.5
    smm.tl.scmag(mdata, n_clusters=4, max_epochs_pretrain=2, max_epochs=1, progress_bar=False, accelerator="cpu")
    assert mdata.uns["scmag"]["format"] == 1
