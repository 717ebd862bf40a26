"""From what the centres start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import torch

import scmag_muon as smm
from scmag_muon import _mudata
from scmag_muon.model._clustering import join_communities
from scmag_muon.tl._graph_clusters import typical_communities
from scmag_muon.tl._start import Start, initial_clusters

if TYPE_CHECKING:
    import scipy.sparse as sp
    from mudata import MuData

    from scmag_muon.manifold.fit import ManifoldFit

N = 120


def fitted(n_prot_cells: int = N) -> tuple[MuData, ManifoldFit | None]:
    whole = smm.datasets.simulate_citeseq(n_obs=N, n_vars=50, n_prot=10, n_clusters=3, n_batches=2)
    mdata = _mudata.make_mudata({"rna": whole["rna"], "prot": whole["prot"][:n_prot_cells].copy()}, whole.obs)
    smm.pp.manifold_fit(mdata)
    return mdata, None if n_prot_cells == N else _mudata.read_fit(mdata)


def start(mdata: MuData, fit: ManifoldFit | None, n: int | None, settings: str = "default") -> tuple[int, Start]:
    return initial_clusters(mdata, n, "manifold", None, settings, 0, fit)


def test_k_is_the_number_of_communities_of_the_unfitted_space() -> None:
    mdata, fit = fitted()
    expected = typical_communities(mdata.obsm["X_manifold_unfitted"], random_state=0)
    for settings in ("default", "paper"):
        n, found = start(mdata, fit, None, settings)
        assert n == len(np.unique(expected))
        assert found.profiles is None
        assert (found.labels is None) == (settings == "paper")
    np.testing.assert_array_equal(start(mdata, fit, None)[1].labels, expected)


def test_the_paper_starts_from_k_means() -> None:
    mdata, fit = fitted()
    assert start(mdata, fit, 4, "paper") == (4, Start())


@pytest.mark.parametrize("n_prot_cells", [N, 80])
def test_each_division_has_a_profile_of_each_community(n_prot_cells: int) -> None:
    mdata, fit = fitted(n_prot_cells)
    n, found = start(mdata, fit, 3)
    assert n == 3
    assert found.labels.shape[0] == N
    assert len(found.profiles) == found.labels.shape[1]
    for labels, profile in zip(found.labels.T, found.profiles, strict=True):
        assert len(profile) == labels.max() + 1 >= 3
        assert np.isfinite(profile).all()
    weights = np.array([mdata[name].uns["manifold"]["modality_weight"] for name in mdata.mod]) ** 2
    assert found.profile_weight == pytest.approx(2 * weights.max() / weights.sum())


def test_cells_without_a_modality_count_by_their_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    mdata, fit = fitted(80)
    given = {}

    def instead(*_: object, counts: dict[str, sp.csr_array], **__: object) -> tuple[list[np.ndarray], float]:
        given.update(counts)
        return [], 1.0

    monkeypatch.setattr("scmag_muon.tl._start.community_profiles", instead)
    start(mdata, fit, 3)
    names = mdata["prot"].var_names[mdata["prot"].var["manifold"]]
    own = pd.DataFrame(mdata["prot"][:, names].X.toarray(), index=mdata["prot"].obs_names)
    near = fit.neighborhoods["prot"]["rbf"]
    for cell, row in enumerate(given["prot"].toarray()):
        donors = [cell] if cell < 80 else near[cell]
        assert any(np.array_equal(row, own.loc[mdata.obs_names[donor]]) for donor in donors)
    np.testing.assert_array_equal(given["rna"].toarray(), mdata["rna"][:, mdata["rna"].var["manifold"]].X.toarray())


def test_each_division_is_joined_in_the_unfitted_space_too() -> None:
    mdata, fit = fitted()
    _, found = start(mdata, fit, 3)
    z = torch.as_tensor(mdata.obsm["X_manifold_unfitted"])
    assert found.plain.shape == found.labels.shape
    for labels, profile, plain in zip(found.labels.T, found.profiles, found.plain.T, strict=True):
        expected = join_communities(z, torch.as_tensor(labels), 3, [profile], found.profile_weight)
        np.testing.assert_array_equal(plain, expected)


def test_where_cells_lack_a_modality_the_network_alone_tells() -> None:
    assert start(*fitted(80), 3)[1].plain is None
