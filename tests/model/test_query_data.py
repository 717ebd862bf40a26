"""Decoder weights of a query's batches, on a few simulated cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import scmag_muon as smm
from scmag_muon._mudata import copy_of, make_mudata, no_pull_on_update
from scmag_muon.model import SCMAG

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

N = 110


@pytest.fixture(scope="module", params=[None, "batch"], ids=["no batches", "two batches"])
def trained(request: pytest.FixtureRequest) -> tuple[MuData, MuData, SCMAG]:
    """A reference, a query of which every third feature is four times as high, and a model of the reference."""
    whole = smm.datasets.simulate_citeseq(n_obs=180, n_vars=40, n_prot=10, n_clusters=3, n_batches=2)
    with no_pull_on_update():
        reference, query = whole[:N].copy(), whole[N:].copy()
    for adata in query.mod.values():
        counts = adata.X.tocsr()
        counts.data *= np.where(counts.indices % 3 == 0, 4, 1)
        adata.X = counts
    query.obs["sample"] = "new"
    model = smm.tl.scmag(
        reference,
        n_clusters=3,
        batch_key=request.param,
        max_epochs_pretrain=4,
        max_epochs=1,
        progress_bar=False,
        accelerator="cpu",
        return_model=True,
    )
    assert isinstance(model, SCMAG)
    return reference, query, model


def test_training_changes_the_weights_of_new_batches_alone(trained: tuple[MuData, MuData, SCMAG]) -> None:
    reference, query, model = trained
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    spaces = model.get_latent_representation(), model.get_latent_representation(kind="reconstruction")
    of_query = SCMAG.load_query_data(query, model, batch_key="sample")
    untrained = of_query.get_latent_representation()
    of_query.train(max_epochs=20)
    after = of_query.module.state_dict()
    n_latent = model.module.n_latent
    for name, value in before.items():
        np.testing.assert_array_equal(model.module.state_dict()[name], value)
        if name.endswith("trunk.0.weight") and name.startswith("decoders"):
            old = value.shape[1]
            np.testing.assert_array_equal(after[name][:, :old], value)
            assert after[name].shape[1] == n_latent + (3 if old > n_latent else 2)
            assert (after[name][:, -1] != 0).all()
        else:
            np.testing.assert_array_equal(after[name], value)
    np.testing.assert_array_equal(of_query.get_latent_representation(), untrained)
    np.testing.assert_array_equal(model.get_latent_representation(), spaces[0])
    np.testing.assert_array_equal(model.get_latent_representation(kind="reconstruction"), spaces[1])
    cells = smm.tl.map_query(query, model, batch_key="sample", copy=True)
    assert cells is not None
    np.testing.assert_allclose(untrained, cells.obsm["X_scmag"], atol=1e-5)


def test_counts_of_the_query_become_more_likely(trained: tuple[MuData, MuData, SCMAG]) -> None:
    _, query, model = trained
    of_query = SCMAG.load_query_data(query, model, batch_key="sample")
    before = of_query.get_reconstruction_error()
    of_query.train(max_epochs=60)
    after = of_query.get_reconstruction_error()
    for name in ("rna", "prot"):
        assert after[name] < before[name]
    assert of_query.query_loss_[-1] < of_query.query_loss_[0]
    # the features that are four times as high in the query
    high = np.arange(10) % 3 == 0
    mean = {}
    for key, cells in (("plain", False), ("tuned", True)):
        found = smm.tl.map_query(query, model, batch_key="sample", fine_tune=cells, max_epochs=60, copy=True)
        assert found is not None
        mean[key] = np.asarray(found["prot"].layers["scmag"]).mean(axis=0)
    ratio = mean["tuned"] / mean["plain"]
    assert ratio[high].mean() > 1.1 * ratio[~high].mean()


def test_a_saved_model_of_a_query_maps_and_decodes_its_batch(
    trained: tuple[MuData, MuData, SCMAG], tmp_path: Path
) -> None:
    _, query, model = trained
    of_query = SCMAG.load_query_data(query, model, batch_key="sample")
    of_query.train(max_epochs=5)
    of_query.save(tmp_path / "model")
    again = SCMAG.load(tmp_path / "model", adata=False, accelerator="cpu")
    one = smm.tl.map_query(query, of_query, batch_key="sample", copy=True)
    other = smm.tl.map_query(query, again, batch_key="sample", copy=True)
    assert one is not None
    assert other is not None
    np.testing.assert_array_equal(one["prot"].layers["scmag"], other["prot"].layers["scmag"])
    np.testing.assert_array_equal(one.obsm["X_scmag"], other.obsm["X_scmag"])


def test_proteins_alone_with_few_features_are_tuned_by_what_was_measured(
    trained: tuple[MuData, MuData, SCMAG],
) -> None:
    _, query, model = trained
    alone = make_mudata({"prot": query["prot"][:, ::2].copy()}, query.obs)
    of_query = SCMAG.load_query_data(alone, model)
    weights = {i: of_query.module.decoders[i].trunk[0].weight[:, -1].detach().clone() for i in (0, 1)}
    of_query.train(max_epochs=5)
    np.testing.assert_array_equal(of_query.module.decoders[0].trunk[0].weight[:, -1].detach(), weights[0])
    assert (of_query.module.decoders[1].trunk[0].weight[:, -1].detach() != weights[1]).any()
    assert of_query.get_normalized_expression(modality="rna").shape == (70, 40)


def test_the_query_is_left_as_it_was(trained: tuple[MuData, MuData, SCMAG]) -> None:
    _, query, model = trained
    before = copy_of(query)
    SCMAG.load_query_data(query, model).train(max_epochs=1)
    assert set(query.obs) == set(before.obs)
    assert not query.uns
    assert set(query.obsm) == set(before.obsm)
    for name in ("rna", "prot"):
        np.testing.assert_array_equal(query[name].X.toarray(), before[name].X.toarray())
        assert not query[name].layers
