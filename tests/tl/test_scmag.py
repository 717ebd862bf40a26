from __future__ import annotations

import gc
import logging
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.metrics import adjusted_rand_score

import scmag_muon as smm
from scmag_muon._mudata import make_mudata, no_pull_on_update
from scmag_muon.model import _training
from scmag_muon.model._confidence import confidence

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData

SHORT = {
    "max_epochs_pretrain": 4,
    "max_epochs": 2,
    "progress_bar": False,
    "accelerator": "cpu",
    "plan_kwargs": {"label_tolerance": 0.0},
}


def slots(mdata: MuData) -> dict[str, list[str]]:
    found = {"obs": list(mdata.obs), "obsm": sorted(mdata.obsm), "uns": sorted(mdata.uns)}
    for name, mod in mdata.mod.items():
        # anndata 0.13 counts X among the layers, under None
        found[name] = sorted(str(key) for slot in (mod.layers, mod.obs, mod.var, mod.uns, mod.obsm) for key in slot)
    return found


def test_finds_the_simulated_types() -> None:
    mdata = smm.datasets.simulate_citeseq(n_obs=800)
    smm.pp.manifold_fit(mdata)
    scores = []
    for seed in range(3):  # with one seed in eight two types stay together, .7
        smm.tl.scmag(mdata, n_clusters=6, random_state=seed, progress_bar=False, accelerator="cpu")
        scores.append(adjusted_rand_score(mdata.obs["cell_type"], mdata.obs["scmag"]))
    assert np.median(scores) > 0.8


def test_writes_what_the_docstring_says_and_it_survives_saving(citeseq: MuData, tmp_path: Path) -> None:
    assert smm.tl.scmag(citeseq, n_clusters=3, **SHORT) is None
    sizes = citeseq.obs["scmag"].value_counts().reindex(["0", "1", "2"])
    assert sizes.sum() == 120
    assert (np.diff(sizes) <= 0).all()
    expected = confidence(citeseq.obsm["X_manifold_unfitted"], citeseq.obsm["X_scmag"], citeseq.obs["scmag"].to_numpy())
    np.testing.assert_allclose(citeseq.obs["scmag_confidence"], expected)
    assert citeseq.obs["scmag_q"].between(1 / 3, 1).all()
    assert citeseq.obsm["X_scmag"].shape == citeseq.obsm["X_scmag_recon"].shape == (120, 32)
    for name in ("rna", "prot"):
        layer = citeseq[name].layers["scmag"]
        assert layer.shape == citeseq[name].shape
        assert layer.dtype == np.float32
        assert (layer >= 0).all()
    record = citeseq.uns["scmag"]
    assert record["n_clusters"] == 3
    assert record["history"]["stage"].tolist() == [1, 1, 2, 2, 3, 3]
    assert record["versions"]["torch"]

    with no_pull_on_update():
        citeseq.write_h5mu(tmp_path / "out.h5mu")
        back = mudata.read_h5mu(tmp_path / "out.h5mu")
    assert slots(back) == slots(citeseq)
    pd.testing.assert_series_equal(back.obs["scmag"], citeseq.obs["scmag"])
    np.testing.assert_array_equal(back.obsm["X_scmag"], citeseq.obsm["X_scmag"])
    np.testing.assert_array_equal(back["prot"].layers["scmag"], citeseq["prot"].layers["scmag"])
    np.testing.assert_allclose(back.uns["scmag"]["history"], record["history"])
    np.testing.assert_allclose(back.uns["scmag"]["gate"], record["gate"])


def test_gate_and_entropy_are_those_of_the_model(citeseq: MuData) -> None:
    model = smm.tl.scmag(citeseq, n_clusters=3, return_model=True, **SHORT)
    q = model.get_cluster_assignments(soft=True).astype(float)
    by_hand = -(q * np.log(np.where(q > 0, q, 1))).sum(axis=1)
    np.testing.assert_allclose(citeseq.obs["scmag_entropy"], by_hand, atol=1e-5)
    assert (citeseq.obs["scmag_entropy"] <= np.log(3) + 1e-6).all()
    gate = citeseq.uns["scmag"]["gate"]
    assert list(gate.columns) == [f"{name} {i}" for name in ("rna", "prot") for i in range(1, 17)]
    assert list(gate.index) == list(citeseq.obs["scmag"].cat.categories)
    for cluster in gate.index:
        cells = (citeseq.obs["scmag"] == cluster).to_numpy()
        np.testing.assert_allclose(gate.loc[cluster], model.get_gate()[cells].mean(axis=0), rtol=1e-5)


def test_denoised_counts_are_at_the_median_library_size(citeseq: MuData) -> None:
    model = smm.tl.scmag(citeseq, n_clusters=3, return_model=True, **SHORT)
    np.testing.assert_array_equal(
        citeseq["rna"].layers["scmag"], model.get_normalized_expression(library_size="median", return_numpy=True)
    )
    np.testing.assert_array_equal(citeseq.obs["scmag"].astype(int), model.get_cluster_assignments())
    np.testing.assert_array_equal(citeseq.obsm["X_scmag"], model.get_latent_representation())
    np.testing.assert_array_equal(citeseq.obsm["X_scmag_recon"], model.get_latent_representation(kind="reconstruction"))


@pytest.mark.parametrize(("settings", "n_clusters"), [("default", 3), ("default", None), ("paper", 3)])
def test_communities_that_are_to_be_joined_come_with_their_expression(
    citeseq: MuData, monkeypatch: pytest.MonkeyPatch, settings: Literal["default", "paper"], n_clusters: int | None
) -> None:
    given = {}

    def remembered(model: smm.model.SCMAG, **arguments: Any) -> None:
        given.update(arguments)
        train(model, **arguments)

    train = smm.model.SCMAG.train
    monkeypatch.setattr(smm.model.SCMAG, "train", remembered)
    smm.tl.scmag(citeseq, n_clusters=n_clusters, settings=settings, **SHORT)
    if settings == "default" and n_clusters is not None:
        numbers = given["initial_labels"].max(axis=0) + 1
        assert [len(profile) for profile in given["initial_profiles"]] == numbers.tolist()
        weights = np.array([citeseq[name].uns["manifold"]["modality_weight"] for name in ("rna", "prot")])
        assert given["plan_kwargs"]["profile_weight"] == pytest.approx(2 * (weights**2).max() / (weights**2).sum())
        assert given["plan_kwargs"]["plain_labels"].shape == given["initial_labels"].shape
        assert 0 < citeseq.uns["scmag"]["network_agreement"] <= 1
    else:
        assert given["initial_profiles"] is None
        assert given["plan_kwargs"]["plain_labels"] is None
        assert "network_agreement" not in citeseq.uns["scmag"]


@pytest.mark.parametrize(("agreement", "doubted"), [(0.49, True), (0.51, False)])
def test_clusters_that_the_network_alone_finds_are_doubted(
    citeseq: MuData,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    agreement: float,
    *,
    doubted: bool,
) -> None:
    joined = _training.join_before_and_after
    monkeypatch.setattr(
        _training,
        "join_before_and_after",
        lambda *given, **named: replace(joined(*given, **named), network_agreement=agreement),
    )
    smm.tl.scmag(citeseq, n_clusters=3, **SHORT)
    assert citeseq.uns["scmag"]["network_agreement"] == pytest.approx(agreement)
    assert ("Clusters with and without the network differ" in caplog.text) == doubted


def test_same_seed_same_labels_other_seed_other_latent(citeseq: MuData) -> None:
    first = smm.tl.scmag(citeseq, n_clusters=3, copy=True, **SHORT)
    second = smm.tl.scmag(citeseq, n_clusters=3, copy=True, **SHORT)
    other = smm.tl.scmag(citeseq, n_clusters=3, copy=True, random_state=1, **SHORT)
    assert first.obs["scmag"].equals(second.obs["scmag"])
    np.testing.assert_array_equal(first.obsm["X_scmag"], second.obsm["X_scmag"])
    assert not np.allclose(first.obsm["X_scmag"], other.obsm["X_scmag"])


def test_copy_leaves_the_input_alone(citeseq: MuData) -> None:
    before = slots(citeseq)
    result, model = smm.tl.scmag(citeseq, n_clusters=3, copy=True, return_model=True, **SHORT)
    assert slots(citeseq) == before
    assert "scmag" in result.obs
    assert "manifold" in result["prot"].layers
    assert isinstance(model, smm.model.SCMAG)


def test_fitted_layers_are_used_again(citeseq: MuData, caplog: pytest.LogCaptureFixture) -> None:
    smm.pp.manifold_fit(citeseq, key_added="mine", n_neighbors=5)
    kept = citeseq["rna"].layers["mine"].copy()
    smm.tl.scmag(citeseq, n_clusters=3, manifold_key="mine", **SHORT)
    np.testing.assert_array_equal(citeseq["rna"].layers["mine"], kept)
    assert "manifold" not in citeseq["rna"].layers
    assert citeseq["rna"].uns["mine"]["params"]["n_neighbors"] == 5
    with caplog.at_level(logging.WARNING):
        smm.tl.scmag(citeseq, n_clusters=3, manifold_key="mine", settings="paper", **SHORT)
    assert "The fit 'mine' is renewed: neighborhoods='own' is asked, it had 'shared'." in caplog.text
    assert citeseq["rna"].uns["mine"]["params"]["n_neighbors"] == 5
    assert citeseq["rna"].uns["mine"]["params"]["neighborhoods"] == "own"


def test_features_that_took_no_part_are_empty(citeseq: MuData) -> None:
    chosen = np.arange(60) % 2 == 0
    citeseq["rna"].var["highly_variable"] = chosen
    model = smm.tl.scmag(citeseq, n_clusters=3, return_model=True, **SHORT)
    layer = citeseq["rna"].layers["scmag"]
    assert sp.issparse(layer)
    assert layer[:, ~chosen].nnz == 0
    assert layer[:, chosen].toarray().min() > 0
    assert list(model.adata["rna"].var_names) == list(citeseq["rna"].var_names[chosen])


def test_number_of_clusters_is_found_where_not_given() -> None:
    mdata = smm.datasets.simulate_citeseq(n_obs=300, n_vars=200, n_prot=20, n_clusters=3)
    smm.tl.scmag(mdata, **SHORT)
    assert mdata.uns["scmag"]["n_clusters"] == mdata.obs["scmag"].nunique()
    assert 2 <= mdata.uns["scmag"]["n_clusters"] <= 8


def test_paper_settings_fit_by_own_neighbours_and_run_all_epochs(citeseq: MuData) -> None:
    smm.tl.scmag(citeseq, n_clusters=3, settings="paper", **{**SHORT, "max_epochs_pretrain": 30, "max_epochs": 5})
    assert citeseq["rna"].uns["manifold"]["params"]["neighborhoods"] == "own"
    assert citeseq.uns["scmag"]["history"]["stage"].value_counts().to_dict() == {1.0: 15, 2.0: 15, 3.0: 5}


def test_layer_names_and_modalities_of_ones_own() -> None:
    made = smm.datasets.simulate_multiome(n_obs=100, n_vars=50, n_peaks=80, n_clusters=3)
    expression, peaks = made["rna"].copy(), made["atac"].copy()
    for mod in (expression, peaks):
        del mod.var["feature_types"]
        mod.layers["raw"] = mod.X.copy()
        mod.X = mod.X * 0.5
    mdata = make_mudata({"first": expression, "second": peaks}, made.obs)
    smm.tl.scmag(mdata, n_clusters=3, modalities=("first", "second"), layer="raw", **SHORT)
    same = smm.tl.scmag(made, n_clusters=3, copy=True, **SHORT)
    assert same.obs["scmag"].notna().all()
    assert mdata["second"].layers["scmag"].shape == (100, 80)


def broken(mdata: MuData, how: str) -> tuple[MuData, dict[str, object]]:
    arguments: dict[str, object] = {"n_clusters": 3}
    if how == "order":
        mdata = make_mudata({"rna": mdata["rna"], "prot": mdata["prot"][::-1].copy()})
    elif how == "negative":
        mdata["prot"].X[0, 0] = -1
    elif how == "normalised":
        mdata["rna"].X = mdata["rna"].X * 0.3
    elif how == "layer":
        arguments["layer"] = "counts"
    elif how == "batch":
        arguments["batch_key"] = "plate"
    elif how == "clusters":
        arguments["n_clusters"] = 121
    elif how == "fraction":
        arguments["n_clusters"] = 3.0
    elif how == "epochs":
        arguments["max_epochs"] = 0
    elif how == "settings":
        arguments["settings"] = "best"
    elif how == "mask":
        arguments["mask_var"] = "chosen"
    return mdata, arguments


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("order", ValueError, "'prot' are in another order"),
        ("negative", ValueError, r"mdata\['prot'\].X holds negative"),
        ("normalised", ValueError, r"mdata\['rna'\].X holds values that are not integers"),
        ("layer", KeyError, "No layer 'counts' in modality 'rna'"),
        ("batch", KeyError, "batch_key='plate' names no column"),
        ("clusters", ValueError, r"`n_clusters` must lie between 1 and the number of cells \(120\), got 121"),
        ("fraction", TypeError, r"`n_clusters` must be an integer, got 3.0"),
        ("epochs", ValueError, "`max_epochs` must be at least 1"),
        ("settings", ValueError, "`settings` must be"),
        ("mask", KeyError, "mask_var='chosen' names no column"),
    ],
)
def test_wrong_data_is_told_plainly_and_nothing_is_written(
    citeseq: MuData, how: str, error: type[Exception], message: str
) -> None:
    mdata, arguments = broken(citeseq, how)
    before = slots(mdata)
    with pytest.raises(error, match=message):
        smm.tl.scmag(mdata, **{**SHORT, **arguments})
    assert slots(mdata) == before


def test_anndata_is_told_from_mudata(citeseq: MuData) -> None:
    for function in (smm.tl.scmag, smm.pp.manifold_fit, smm.model.SCMAG.setup_mudata):
        with pytest.raises(TypeError, match="needs a MuData, got AnnData"):
            function(citeseq["rna"])


@pytest.mark.parametrize("n_obs", [3, 4])
def test_cells_too_few_to_hold_any_out(citeseq: MuData, n_obs: int) -> None:
    few = citeseq[:n_obs].copy()
    smm.tl.scmag(few, n_clusters=1, **SHORT)
    assert few.obs["scmag"].tolist() == ["0"] * n_obs
    assert (few.uns["scmag"]["history"]["stage"] < 3).sum() == SHORT["max_epochs_pretrain"]


def test_failure_while_training_leaves_the_input_alone(citeseq: MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    before = slots(citeseq)
    monkeypatch.setattr(smm.model.SCMAG, "train", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        smm.tl.scmag(citeseq, n_clusters=3, **SHORT)
    assert slots(citeseq) == before


@pytest.mark.real_data
def test_small_real_set_of_two_batches(real_data: Callable[[str], MuData]) -> None:
    mdata = real_data("tiny_pbmc_400_citeseq_2batch")
    smm.tl.scmag(mdata, n_clusters=7, batch_key="batch", progress_bar=False, accelerator="cpu")
    scores = smm.metrics.clustering_scores(mdata.obs["cell_type"], mdata.obs["scmag"])
    assert scores["ARI"] > 0.6
    assert mdata["rna"].var["manifold"].sum() == 4000


@pytest.mark.real_data
def test_set_without_labels(real_data: Callable[[str], MuData]) -> None:
    mdata = real_data("eccite_ctcl500_unlabelled")
    smm.tl.scmag(mdata, **SHORT)
    assert mdata.obs["scmag"].nunique() > 1


def test_half_precision_finds_the_same_types() -> None:
    results = []
    for precision in ("32-true", "bf16-mixed"):
        mdata = smm.datasets.simulate_citeseq(n_obs=500, n_clusters=5)
        smm.tl.scmag(mdata, n_clusters=5, precision=precision, progress_bar=False, accelerator="cpu")
        results.append(mdata)
    exact, rounded = results
    assert adjusted_rand_score(exact.obs["scmag"], rounded.obs["scmag"]) > 0.9
    assert not np.array_equal(exact.obsm["X_scmag"], rounded.obsm["X_scmag"])
    for slot in (rounded.obsm["X_scmag"], rounded["rna"].layers["scmag"]):
        assert slot.dtype == np.float32
        assert np.isfinite(slot).all()


def test_fitting_cannot_be_ablated_afterwards(citeseq: MuData) -> None:
    smm.pp.manifold_fit(citeseq)
    before = slots(citeseq)
    with pytest.raises(ValueError, match="The fit 'manifold' is there already, so nothing is left to ablate"):
        smm.tl.scmag(citeseq, n_clusters=3, ablate=("manifold",), **SHORT)
    assert slots(citeseq) == before
    smm.tl.scmag(citeseq, n_clusters=3, ablate=("manifold",), manifold_key="unfitted", **SHORT)
    assert citeseq["rna"].uns["unfitted"]["params"]["n_neighbors"] == 1


def test_working_copies_do_not_stay_in_memory(citeseq: MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    from scmag_muon import _mudata

    copies = []
    make = _mudata.complete_mudata

    def remembered(*args: object) -> MuData:
        copies.append(weakref.ref(made := make(*args)))
        return made

    monkeypatch.setattr(_mudata, "complete_mudata", remembered)
    smm.tl.scmag(citeseq, n_clusters=3, **SHORT)
    gc.collect()
    model = smm.tl.scmag(citeseq, n_clusters=3, return_model=True, **SHORT)
    gc.collect()
    assert [copy() is None for copy in copies] == [True, False]
    assert model.get_latent_representation().shape == (120, 32)


def test_drawn_seed_is_recorded_and_repeats_the_run(citeseq: MuData) -> None:
    first = smm.tl.scmag(citeseq, n_clusters=3, copy=True, **{**SHORT, "random_state": None})
    seed = first.uns["scmag"]["params"]["random_state"]
    assert first["rna"].uns["manifold"]["params"]["random_state"] == seed
    second = smm.tl.scmag(citeseq, n_clusters=3, copy=True, **{**SHORT, "random_state": int(seed)})
    np.testing.assert_array_equal(first.obsm["X_scmag"], second.obsm["X_scmag"])
