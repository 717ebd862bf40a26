from __future__ import annotations

import mudata
import numpy as np
import pandas as pd
import pytest

import scmag_muon as smm
from scmag_muon._mudata import make_mudata, read_fit, read_query, text_columns


def test_counts_are_those_of_the_named_features_in_the_order_of_the_cells() -> None:
    mdata = smm.datasets.simulate_citeseq(n_obs=60, n_vars=30, n_prot=8, n_clusters=2)
    mdata["rna"].var["highly_variable"] = np.arange(30) % 3 > 0
    smm.pp.manifold_fit(mdata)
    fit = read_fit(mdata)
    rna, prot = mdata["rna"][:40][::-1, ::-1].copy(), mdata["prot"][20:, 2:].copy()
    cells = make_mudata({"rna": rna, "prot": prot}, mdata.obs[["cell_type"]])
    query = read_query(cells, fit, batch_key="cell_type")
    np.testing.assert_array_equal(
        query.counts["rna"].toarray(), mdata["rna"][:40, fit.modality("rna").features].X.toarray()
    )
    expected = mdata["prot"][20:, fit.modality("prot").features].X.toarray()
    expected[:, ~query.measured["prot"]] = 0
    np.testing.assert_array_equal(query.counts["prot"].toarray(), expected)
    assert query.measured["prot"].sum() == 6
    np.testing.assert_array_equal(query.present, np.column_stack([np.arange(60) < 40, np.arange(60) >= 20]))
    np.testing.assert_array_equal(query.batches, mdata.obs["cell_type"].astype(str))


def test_rows_of_a_modality_in_an_order_of_their_own_follow_the_cells() -> None:
    mdata = smm.datasets.simulate_citeseq(n_obs=60, n_vars=30, n_prot=8, n_clusters=2)
    smm.pp.manifold_fit(mdata)
    cells = mudata.MuData({"rna": mdata["rna"].copy(), "prot": mdata["prot"][10:][::-1].copy()})
    rows = cells.obs_names.get_indexer(cells["prot"].obs_names)
    assert (np.diff(rows) < 0).any()
    query = read_query(cells, read_fit(mdata))
    expected = mdata["prot"][cells.obs_names[query.present[:, 1]]].X.toarray()
    np.testing.assert_array_equal(query.counts["prot"].toarray(), expected)


def test_cells_without_any_of_the_modalities_are_refused() -> None:
    mdata = smm.datasets.simulate_citeseq(n_obs=60, n_vars=30, n_prot=8, n_clusters=2)
    smm.pp.manifold_fit(mdata, modalities=["rna"])
    cells = make_mudata({"rna": mdata["rna"][:50].copy(), "prot": mdata["prot"].copy()}, mdata.obs[[]])
    with pytest.raises(ValueError, match="10 of 60 cells have none"):
        read_query(cells, read_fit(mdata))


def test_text_columns_are_kept_as_text() -> None:
    obs = pd.DataFrame(
        {
            "type": pd.Categorical(["a", None, "b"]),
            "donor": [1, 2, 3],
            "sorted": [True, False, True],
            "mixed": ["x", 4, None],
            "_scvi_batch": ["a", "b", "c"],
        }
    )
    found = text_columns(obs)
    assert found.to_dict("list") == {
        "type": ["a", None, "b"],
        "sorted": ["True", "False", "True"],
        "mixed": ["x", "4", None],
    }
    obs["pairs"] = [[1, 2], [3], []]
    obs.insert(0, "donor", ["a", "b", "c"], allow_duplicates=True)
    pd.testing.assert_frame_equal(text_columns(obs), found)
