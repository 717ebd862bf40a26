from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

import scmag_muon as smm
from scmag_muon._mudata import make_mudata

if TYPE_CHECKING:
    from mudata import MuData

needs_packages = pytest.mark.skipif(
    find_spec("pydeseq2") is None or find_spec("decoupler") is None, reason="pydeseq2 or decoupler is not installed"
)
N_GENES, N_CELLS = 80, 25  # cells of a donor and cluster


@pytest.fixture
def donors() -> MuData:
    """6 donors of 2 conditions, 2 clusters; donors differ by themselves in all genes.

    ``g0`` to ``g4`` are high in cluster 1; ``g5`` to ``g9`` in ill donors, in cluster 0 alone. ``p0`` is high in cluster 1.
    """
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        [(f"d{d}", str(c)) for d in range(6) for c in range(2) for _ in range(N_CELLS)], columns=["donor", "scmag"]
    )
    obs.index = [f"cell{i}" for i in range(len(obs))]
    donor, cluster = obs["donor"].str[1:].astype(int).to_numpy(), obs["scmag"].astype(int).to_numpy()
    ill = donor >= 3
    obs["condition"] = pd.Categorical(np.where(ill, "ill", "healthy"))
    obs["scmag"] = obs["scmag"].astype("category")
    rates = np.full((len(obs), N_GENES), 3.0) * rng.lognormal(sigma=0.5, size=(6, N_GENES))[donor]
    rates[:, :5] *= np.where(cluster == 1, 4.0, 1.0)[:, None]
    rates[:, 5:10] *= np.where(ill & (cluster == 0), 12.0, 1.0)[:, None]
    proteins = np.full((len(obs), 6), 20.0)
    proteins[:, 0] *= np.where(cluster == 1, 4.0, 1.0)
    mods = {}
    for name, values, names in (
        ("rna", rates, [f"g{i}" for i in range(N_GENES)]),
        ("prot", proteins, [f"p{i}" for i in range(5)] + ["IgG1-isotype-control"]),
    ):
        counts = sp.csr_matrix(rng.poisson(values).astype(np.float32))
        mods[name] = AnnData(counts, obs=pd.DataFrame(index=obs.index), var=pd.DataFrame(index=names))
    return make_mudata(mods, obs)


@needs_packages
def test_clusters_are_compared_within_donors(donors: MuData) -> None:
    table = smm.tl.pseudobulk_markers(donors, sample_key="donor", groups=["1"])
    rna = table[table["modality"] == "rna"]
    assert set(rna.head(5)["feature"]) == {f"g{i}" for i in range(5)}
    good = rna.head(5)
    # within donors, so that their own differences, which are larger, do not hide the cluster's
    assert (good["p_adjusted"] < 1e-6).all()
    np.testing.assert_allclose(good["log2_fold_change"], 2, atol=0.5)
    assert ((rna["p_adjusted"] < 0.05).sum()) <= 12
    prot = table[table["modality"] == "prot"]
    assert prot["feature"].iloc[0] == "p0"
    assert "IgG1-isotype-control" not in set(prot["feature"])
    assert (table["n_samples"] == 6).all()
    assert (table["n_samples_reference"] == 6).all()
    cells = donors.obs["scmag"] == "1"
    shares = np.asarray((donors["rna"].X[cells.to_numpy()] > 0).mean(axis=0)).ravel()
    expected = dict(zip(donors["rna"].var_names, shares, strict=True))
    for row in rna.itertuples():
        assert row.share == pytest.approx(expected[row.feature])
    record = donors.uns["scmag_pseudobulk"]
    pd.testing.assert_frame_equal(record["table"], table)
    assert record["params"]["sample_key"] == "donor"


@needs_packages
def test_donors_are_replicates_and_cells_are_not(donors: MuData) -> None:
    table = smm.tl.pseudobulk_markers(
        donors, sample_key="donor", groupby="condition", reference="healthy", within="scmag", modalities="rna"
    )
    assert set(table["within"]) == {"0", "1"}
    assert set(table["cluster"]) == {"ill"}
    assert set(table["n_samples"]) == set(table["n_samples_reference"]) == {3}
    rows = table[table["within"] == "0"]
    assert set(rows.head(5)["feature"]) == {f"g{i}" for i in range(5, 10)}
    assert (rows.head(5)["log2_fold_change"] > 2).all()
    others = table[(table["within"] == "1") | ~table["feature"].isin([f"g{i}" for i in range(5, 10)])]
    # tests on cells take the donors' own differences for the condition's
    assert (others["p_adjusted"] < 0.05).mean() < 0.1
    pair = smm.tl.markers(donors, groupby="condition", groups=["ill"], reference="healthy", modalities=["rna"])
    unchanged = pair[~pair["feature"].isin([f"g{i}" for i in range(5, 10)])]
    assert (unchanged["p_adjusted"] < 0.05).mean() > 0.5


@needs_packages
def test_two_samples_on_each_side_are_needed(donors: MuData, caplog: pytest.LogCaptureFixture) -> None:
    rare = donors.obs["donor"].isin(["d0", "d1"]) & (donors.obs["scmag"] == "1")
    donors.obs["scmag"] = donors.obs["scmag"].cat.add_categories("rare")
    donors.obs.loc[donors.obs_names[rare.to_numpy()][:30], "scmag"] = "rare"  # 25 cells of d0, 5 of d1
    message = (
        r"Two samples of 'donor' or more .*rna: 'rare' against 'rest': samples of 'rare' with 10 cells or more: 'd0'"
    )
    with pytest.raises(ValueError, match=message):
        smm.tl.pseudobulk_markers(donors, sample_key="donor", groups=["rare"], modalities=["rna"])
    assert "scmag_pseudobulk" not in donors.uns
    with caplog.at_level(logging.WARNING, logger="scmag_muon"):
        table = smm.tl.pseudobulk_markers(donors, sample_key="donor", modalities=["rna"])
    assert "'rare' against 'rest'" in caplog.text
    assert set(table["cluster"]) == {"0", "1"}
    table = smm.tl.pseudobulk_markers(donors, sample_key="donor", groups=["rare"], modalities=["rna"], min_cells=5)
    assert set(table["n_samples"]) == {2}
    donors.obs["one"] = "only"
    with pytest.raises(ValueError, match=r"samples of 'rest' with 10 cells or more: 'only'.*lower `min_cells`"):
        smm.tl.pseudobulk_markers(donors, sample_key="one")


@needs_packages
def test_the_volcano_draws_it(donors: MuData) -> None:
    smm.tl.pseudobulk_markers(donors, sample_key="donor", groups=["1"])
    axes = smm.pl.volcano(donors, group="1", markers_key="scmag_pseudobulk", show=False)
    assert {text.get_text() for text in axes[0].texts} >= {f"g{i}" for i in range(5)}


@needs_packages
def test_what_is_wrong_is_named(donors: MuData) -> None:
    with pytest.raises(KeyError, match="sample_key='patient' names no column"):
        smm.tl.pseudobulk_markers(donors, sample_key="patient")
    with pytest.raises(ValueError, match="No group '7' in 'scmag'"):
        smm.tl.pseudobulk_markers(donors, sample_key="donor", groups=["7"])
    with pytest.raises(ValueError, match="holds no group of 'scmag' beside the reference '0'"):
        smm.tl.pseudobulk_markers(donors, sample_key="donor", groups=["0"], reference="0")
    with pytest.raises(ValueError, match="`min_cells` must be an integer at least 1"):
        smm.tl.pseudobulk_markers(donors, sample_key="donor", min_cells=0)
    donors.obs.loc["cell3", "donor"] = None
    with pytest.raises(ValueError, match=r"sample_key='donor' is missing for 1 cells, the first of them 'cell3'"):
        smm.tl.pseudobulk_markers(donors, sample_key="donor")
    mdata = donors[donors.obs["donor"].notna()].copy()  # as the message says
    assert len(smm.tl.pseudobulk_markers(mdata, sample_key="donor", modalities=["prot"]))
    mdata.uns["scmag_pseudobulk"] = "mine"
    with pytest.raises(ValueError, match=r"mdata.uns\['scmag_pseudobulk'\] is there already"):
        smm.tl.pseudobulk_markers(mdata, sample_key="donor")


def test_missing_packages_are_named(donors: MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pydeseq2.dds", None)
    with pytest.raises(ImportError, match=r"pip install 'decoupler>=2' 'pydeseq2>=0.5'"):
        smm.tl.pseudobulk_markers(donors, sample_key="donor")
