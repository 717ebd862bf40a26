from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.special import softmax

import scmag_muon as smm
from scmag_muon._mudata import make_mudata
from scmag_muon.model import SCMAG

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

SHORT = {
    "max_epochs_pretrain": 4,
    "max_epochs": 2,
    "progress_bar": False,
    "accelerator": "cpu",
    "plan_kwargs": {"label_tolerance": 0.0},
}


@pytest.fixture
def fitted(citeseq: MuData) -> MuData:
    smm.pp.manifold_fit(citeseq)
    SCMAG.setup_mudata(citeseq)
    return citeseq


@pytest.fixture
def model(fitted: MuData) -> SCMAG:
    model = SCMAG(fitted, n_clusters=3)
    model.train(**SHORT)
    return model


def test_spaces_are_the_papers(model: SCMAG) -> None:
    z1, z2 = (model.get_latent_representation(kind=kind) for kind in ("fused", "variational"))
    zr, zc = (model.get_latent_representation(kind=kind) for kind in ("reconstruction", "clustering"))
    assert z1.shape == (120, 32)
    np.testing.assert_allclose(zr, z2 + 0.3 * z1, rtol=1e-5, atol=1e-6)
    gate = zc / z1
    assert ((gate > 0) & (gate < 1)).all()
    with pytest.raises(ValueError, match="`kind` must be one of"):
        model.get_latent_representation(kind="zc")


def test_median_totals_are_of_cells_that_have_counts(citeseq: MuData) -> None:
    for name, n_empty in (("rna", 50), ("prot", 0)):
        counts = citeseq[name].X.toarray()
        counts[:n_empty] = 0
        citeseq.mod[name].X = sp.csr_matrix(counts)
    smm.pp.manifold_fit(citeseq)
    SCMAG.setup_mudata(citeseq)
    found = SCMAG(citeseq, n_clusters=3).module.median_totals.tolist()
    expected = []
    for adata in citeseq.mod.values():
        totals = [row.sum() for row in adata.X.toarray()]
        expected.append(np.median([total for total in totals if total > 0]))
    np.testing.assert_allclose(found, expected)


def test_assignments_follow_from_space_and_centres(model: SCMAG) -> None:
    zc = model.get_latent_representation().astype(np.float64)
    centers = model.module.centers.numpy().astype(np.float64)
    whitening, offset = (value.numpy().astype(np.float64) for value in (model.module.whitening, model.module.offset))
    distances = (((zc[:, None] - centers[None]) @ whitening) ** 2).sum(axis=2) + offset
    expected = softmax(-2 * distances, axis=1)  # softmax, squared and normalised again
    soft = model.get_cluster_assignments(soft=True)
    np.testing.assert_allclose(soft, expected, atol=1e-4)
    np.testing.assert_array_equal(model.get_cluster_assignments(), soft.argmax(axis=1))
    sizes = np.bincount(model.get_cluster_assignments(), minlength=3)
    assert (np.diff(sizes) <= 0).all()


def test_indices_choose_rows(model: SCMAG) -> None:
    rows = [5, 3, 40]
    np.testing.assert_allclose(
        model.get_latent_representation(indices=rows), model.get_latent_representation()[rows], rtol=1e-5, atol=1e-6
    )
    frame = model.get_normalized_expression(indices=rows, modality="prot")
    assert list(frame.index) == list(model.adata.obs_names[rows])
    assert list(frame.columns) == list(model.adata["prot"].var_names)


def test_library_size_of_denoised_counts(model: SCMAG) -> None:
    median = model.get_normalized_expression(return_numpy=True)
    observed = model.get_normalized_expression(library_size="observed", return_numpy=True)
    totals = np.asarray(model.adata["rna"].X.sum(axis=1)).ravel()
    np.testing.assert_allclose(observed / median, np.tile(totals / np.median(totals), (60, 1)).T, rtol=1e-4)
    with pytest.raises(KeyError, match="No modality 'atac' in this model"):
        model.get_normalized_expression(modality="atac")


def test_denoised_counts_are_the_means_of_the_network(model: SCMAG) -> None:
    _, generative = model.module.eval()(next(iter(model._make_data_loader(adata=model.adata))), compute_loss=False)
    means = [zinb[0].exp().detach().numpy() for zinb in model.module.zinb_parameters(**generative)]
    for name, mean in zip(("rna", "prot"), means, strict=True):
        observed = model.get_normalized_expression(modality=name, library_size="observed", return_numpy=True)
        np.testing.assert_allclose(observed[: len(mean)], mean, rtol=1e-5)


def test_saved_model_gives_the_same_latent_bit_for_bit(model: SCMAG, tmp_path: Path) -> None:
    model.save(str(tmp_path / "model"))
    loaded = SCMAG.load(str(tmp_path / "model"), adata=model.adata, accelerator="cpu")
    for kind in ("clustering", "reconstruction", "fused", "variational"):
        np.testing.assert_array_equal(
            loaded.get_latent_representation(kind=kind), model.get_latent_representation(kind=kind)
        )
    np.testing.assert_array_equal(loaded.get_cluster_assignments(), model.get_cluster_assignments())
    assert loaded.training_history.equals(model.training_history)


def test_saved_model_loads_without_data_and_quietly(
    model: SCMAG, fitted: MuData, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model.save(str(tmp_path / "model"))
    loaded = SCMAG.load(str(tmp_path / "model"), adata=False, accelerator="cpu")
    assert "".join(capfd.readouterr()) == ""
    new = fitted[:50].copy()
    np.testing.assert_allclose(
        loaded.get_latent_representation(new), model.get_latent_representation()[:50], rtol=1e-5, atol=1e-6
    )


def test_new_cells_must_be_paired_and_have_the_features(model: SCMAG, fitted: MuData) -> None:
    mods = {name: fitted[name].copy() for name in ("rna", "prot")}
    shuffled = make_mudata({"rna": mods["rna"], "prot": mods["prot"][::-1].copy()})
    with pytest.raises(ValueError, match="'prot' are in another order"):
        model.get_latent_representation(shuffled)
    fewer = make_mudata({"rna": mods["rna"][:, 1:].copy(), "prot": mods["prot"]})
    with pytest.raises(ValueError, match=r"'rna' lacks 1 of the model's 60 features, among them 'gene_0'"):
        model.get_latent_representation(fewer)
    with pytest.raises(KeyError, match="No modality 'prot'"):
        model.get_latent_representation(make_mudata({"rna": mods["rna"]}))


def test_features_of_new_cells_are_put_in_order(model: SCMAG, fitted: MuData) -> None:
    reordered = make_mudata({"rna": fitted["rna"][:, ::-1].copy(), "prot": fitted["prot"].copy()})
    np.testing.assert_array_equal(model.get_latent_representation(reordered), model.get_latent_representation())
    frame = model.get_normalized_expression(reordered)
    assert list(frame.columns) == list(fitted["rna"].var_names)
    np.testing.assert_array_equal(frame, model.get_normalized_expression(return_numpy=True))


def test_same_seed_same_model_and_global_state_kept(fitted: MuData) -> None:
    latents = []
    for seed in (0, 0, 1):
        model = SCMAG(fitted, n_clusters=3)
        with torch.random.fork_rng():
            torch.manual_seed(123)
            np.random.seed(123)  # noqa: NPY002
            model.train(random_state=seed, **SHORT)
            assert torch.rand(1).item() == torch.rand(1, generator=torch.Generator().manual_seed(123)).item()
            assert np.random.rand() == np.random.RandomState(123).rand()  # noqa: NPY002
        latents.append(model.get_latent_representation())
    np.testing.assert_array_equal(latents[0], latents[1])
    assert not np.allclose(latents[0], latents[2])


def test_history_has_every_term_and_the_stage(model: SCMAG) -> None:
    history = model.training_history
    assert history["stage"].tolist() == [1, 1, 2, 2, 3, 3]
    for term in ("reconstruction_rna", "reconstruction_prot", "kl", "cluster", "loss", "label_change"):
        assert term in history
    first = history.iloc[0]
    np.testing.assert_allclose(first["loss"], first["reconstruction_rna"] + first["reconstruction_prot"], rtol=1e-5)
    last = history.iloc[-1]
    parts = last["reconstruction_rna"] + last["reconstruction_prot"] + 0.01 * last["kl"] + 10 * last["cluster"]
    np.testing.assert_allclose(last["loss"], parts, rtol=1e-5)


@pytest.mark.parametrize(("settings", "n_hidden"), [("default", 128), ("paper", 256)])
def test_kinds_set_the_widths_of_section_2_4(fitted: MuData, settings: str, n_hidden: int) -> None:
    def widths(layers: torch.nn.Module) -> list[int]:
        return [layer.out_features for layer in layers if hasattr(layer, "out_features")]

    protein = SCMAG(fitted, n_clusters=3, settings=settings).module
    assert [widths(own) for own in protein.encoder.own] == [[n_hidden, 64], [64]]
    SCMAG.setup_mudata(fitted, kinds={"prot": "atac"})
    atac = SCMAG(fitted, n_clusters=3, settings=settings).module
    assert [widths(own) for own in atac.encoder.own] == [[n_hidden, 64], [n_hidden, 64]]
    assert [widths(decoder.trunk) for decoder in atac.decoders] == [[64, 256], [64, 256]]


def test_cells_that_lack_a_modality(fitted: MuData) -> None:
    present = np.ones((120, 2), bool)
    present[:40, 1], present[40:60, 0] = False, False
    mosaic = fitted.copy()
    mosaic.obsm["has"] = present
    for name, column in zip(("rna", "prot"), present.T, strict=True):
        mosaic.mod[name].X = mosaic.mod[name].X.multiply(column[:, None]).tocsr()
    SCMAG.setup_mudata(mosaic, present_key="has")
    model = SCMAG(mosaic, n_clusters=3, modality_dropout=0.3)
    for i, name in enumerate(("rna", "prot")):
        totals = np.asarray(fitted.mod[name].X.sum(axis=1)).ravel()[present[:, i]]
        assert model.module.median_totals[i].item() == pytest.approx(np.median(totals))
    model.train(**SHORT)
    codes = model.get_latent_representation(kind="fused")
    with torch.no_grad():
        predicted = model.module.predictor.linear[1](torch.as_tensor(codes[:40, :16]))
    np.testing.assert_allclose(codes[:40, 16:], predicted, rtol=1e-4, atol=1e-5)
    assert len(model.get_cluster_assignments()) == 120


def test_presence_must_fit_the_cells(fitted: MuData) -> None:
    mosaic = fitted.copy()
    with pytest.raises(KeyError, match="No 'has' in mdata.obsm"):
        SCMAG.setup_mudata(mosaic, present_key="has")
    mosaic.obsm["has"] = np.ones((120, 3), bool)
    with pytest.raises(
        ValueError, match=r"mdata.obsm\['has'\] must be an array of True and False with a row for each of 120"
    ):
        SCMAG.setup_mudata(mosaic, present_key="has")
    mosaic.obsm["has"] = np.column_stack([np.arange(120) > 3, np.zeros(120, bool)])
    with pytest.raises(ValueError, match=f"4 cells have no modality, among them '{fitted.obs_names[0]}'"):
        SCMAG.setup_mudata(mosaic, present_key="has")
    mosaic.obsm["has"] = np.column_stack([np.ones(120, bool), np.zeros(120, bool)])
    with pytest.raises(ValueError, match="No cell has modality 'prot'"):
        SCMAG.setup_mudata(mosaic, present_key="has")


def test_paper_settings_and_single_numbers(fitted: MuData) -> None:
    paper = SCMAG(fitted, n_clusters=3, settings="paper")
    assert paper.module.encoder.noise_scale == (2.0, 1.5)
    assert paper.module.reduction == "mean"
    assert (paper.kl_weight_, paper.cluster_weight_) == (0.01, 0.001)
    assert SCMAG(fitted, n_clusters=3, residual_weight=0.0).module.residual_weight == 0
    assert SCMAG(fitted, n_clusters=3, n_hidden=7).module.encoder.own[0][0].out_features == 7
    with pytest.raises(TypeError, match="no setting named"):
        SCMAG(fitted, n_clusters=3, noise=1.0)
    with pytest.raises(ValueError, match="`settings` must be one of"):
        SCMAG(fitted, n_clusters=3, settings="best")


def test_model_needs_a_mudata_that_was_set_up(citeseq: MuData, fitted: MuData) -> None:
    with pytest.raises(TypeError, match=r"needs a MuData set up with SCMAG.setup_mudata\(mdata\), got AnnData"):
        SCMAG(fitted["rna"], n_clusters=3)
    with pytest.raises(TypeError, match="got NoneType"):
        SCMAG(n_clusters=3)
    with pytest.raises(ValueError, match=r"is a copy of one that was. Call SCMAG.setup_mudata\(mdata\) first"):
        SCMAG(fitted.copy(), n_clusters=3)
    with pytest.raises(ValueError, match="has not been set up"):
        SCMAG(smm.datasets.simulate_citeseq(n_obs=30, n_vars=10, n_prot=4, n_clusters=2), n_clusters=2)
    with pytest.raises(TypeError, match=r"`n_clusters` must be an integer, got 3\.0"):
        SCMAG(fitted, n_clusters=3.0)
    with pytest.raises(ValueError, match="`noise_scale` must hold a number for each of 2 modalities, got 1"):
        SCMAG(fitted, n_clusters=3, noise_scale=(1.0,))


@pytest.mark.parametrize("n_clusters", [0, 121])
def test_number_of_clusters_must_fit_the_cells(fitted: MuData, n_clusters: int) -> None:
    with pytest.raises(ValueError, match=r"`n_clusters` must lie between 1 and the number of cells \(120\)"):
        SCMAG(fitted, n_clusters=n_clusters)


def test_training_starts_from_given_clusters(fitted: MuData) -> None:
    labels = np.repeat([0, 1, 2], 40)
    model = SCMAG(fitted, n_clusters=3)
    with pytest.raises(ValueError, match="`initial_labels` must hold an integer of at least 0 for each of 120"):
        model.train(initial_labels=labels - 1, **SHORT)
    with pytest.raises(ValueError, match="for each of 120 cells"):
        model.train(initial_labels=labels[:5], **SHORT)
    with pytest.raises(ValueError, match="for each of 120 cells"):
        model.train(initial_labels=np.empty((120, 0), dtype=int), **SHORT)
    with pytest.raises(
        ValueError, match=r"`initial_profiles` must hold an array for each division .* each community: \[3\]"
    ):
        model.train(initial_labels=labels, initial_profiles=[np.eye(4)], **SHORT)
    with pytest.raises(ValueError, match="`initial_profiles` are of communities: give these"):
        model.train(initial_profiles=[np.eye(3)], **SHORT)


@pytest.mark.parametrize(("pretrain", "cluster"), [(0, 0), (-1, 5), (5, -1)])
def test_nothing_to_train(fitted: MuData, pretrain: int, cluster: int) -> None:
    with pytest.raises(ValueError, match="Nothing to train|`max_epochs(_pretrain)?` must be"):
        SCMAG(fitted, n_clusters=3).train(max_epochs_pretrain=pretrain, max_epochs=cluster)


def test_nothing_is_left_to_train(model: SCMAG) -> None:
    with pytest.raises(ValueError, match="Stage 3 has begun"):
        model.train(max_epochs=0)


def test_no_clusters_before_the_clustering_stage(fitted: MuData) -> None:
    model = SCMAG(fitted, n_clusters=3)
    model.train(**{**SHORT, "max_epochs": 0})
    with pytest.raises(RuntimeError, match="no clusters yet"):
        model.get_cluster_assignments()


def test_setup_needs_the_fitted_layer_and_paired_cells(citeseq: MuData) -> None:
    with pytest.raises(KeyError, match=r"No layer 'manifold' in modality 'rna'.*manifold_fit"):
        SCMAG.setup_mudata(citeseq)
    assert "_scvi_uuid" not in citeseq.uns
    smm.pp.manifold_fit(citeseq)
    shuffled = smm._mudata.make_mudata({"rna": citeseq["rna"], "prot": citeseq["prot"][::-1].copy()})
    with pytest.raises(ValueError, match="another order"):
        SCMAG.setup_mudata(shuffled)
    with pytest.raises(NotImplementedError, match="setup_mudata"):
        SCMAG.setup_anndata(citeseq["rna"])


def test_batch_in_a_modality_reaches_the_decoders(citeseq: MuData) -> None:
    citeseq["rna"].obs["plate"] = np.tile(["a", "b"], 60)
    smm.pp.manifold_fit(citeseq, batch_key="plate")
    SCMAG.setup_mudata(citeseq, batch_key="plate")
    model = SCMAG(citeseq, n_clusters=3)
    assert model.summary_stats.n_batch == 2
    assert model.module.decoders[0].trunk[0].in_features == 34


def test_training_is_quiet_and_shows_one_bar(
    fitted: MuData,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with caplog.at_level(logging.INFO):
        SCMAG(fitted, n_clusters=3).train(**SHORT)
    out, err = capfd.readouterr()
    assert out + err == ""
    assert not caplog.records
    asked = SCMAG(fitted, n_clusters=3)
    asked.train(**{**SHORT, "progress_bar": True})
    assert capfd.readouterr().err == ""  # no terminal
    monkeypatch.setattr("scmag_muon.model._training.hidden", lambda *, shown: not shown)
    SCMAG(fitted, n_clusters=3).train(**{**SHORT, "progress_bar": True})
    _, err = capfd.readouterr()
    assert "stage 1/3 (reconstruction)" in err
    assert "stage 3/3 (+ clustering)" in err
    assert "loss=" in err


def test_no_seed_gives_another_model_each_time_which_can_be_made_again(fitted: MuData) -> None:
    models = [SCMAG(fitted, 3, random_state=None) for _ in range(2)]
    weights = [next(iter(model.module.parameters())).detach() for model in models]
    assert not torch.equal(*weights)
    seed = models[0].init_params_["non_kwargs"]["random_state"]
    again = next(iter(SCMAG(fitted, 3, random_state=seed).module.parameters()))
    assert torch.equal(weights[0], again)


@pytest.mark.parametrize(
    ("seed", "error"), [(-1, ValueError), (2**32, ValueError), (0.5, TypeError), (True, TypeError)]
)
def test_seeds_that_are_none(fitted: MuData, seed: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="`random_state` must be an integer"):
        SCMAG(fitted, 3, random_state=seed)
