from __future__ import annotations

import builtins
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

import scmag_muon as smm
from scmag_muon import _values
from scmag_muon._mudata import make_mudata
from scmag_muon.tl._derived import forget_derived

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

# not imported here: it sets legends of its own
pytestmark = pytest.mark.skipif(find_spec("decoupler") is None, reason="decoupler is not installed")
LISTS = {f"type {k}": [f"g{8 * k}", f"g{8 * k + 1}", f"p{2 * k}"] for k in range(4)}


def blood() -> MuData:
    """60 cells each of B, CD4, CD8, NK and CD14, and 60 of all proteins; names as three vendors have them."""
    high = {
        "B": ("CD79A MS4A1 CD79B", "CD19_TotalSeqB HLA.DR"),
        "CD4": ("CD3D IL7R LEF1", "cd3.1 CD4-1"),
        "CD8": ("CD3D CD8A CD8B", "cd3.1 CD8a"),
        "NK": ("GNLY NKG7 KLRF1", "NCAM (CD56)"),
        "CD14": ("LYZ S100A8 CD14", "ADT_CD14"),
        "mixed": ("", ""),
    }
    genes = list(dict.fromkeys(" ".join(each[0] for each in high.values()).split())) + [f"X{i}" for i in range(20)]
    proteins = ["CD19_TotalSeqB", "HLA.DR", "cd3.1", "CD4-1", "CD8a", "NCAM (CD56)", "ADT_CD14", "IgG1"]
    rng, labels = np.random.default_rng(0), np.repeat(list(high), 60)
    mods = {}
    for which, (name, features) in enumerate((("rna", genes), ("prot", proteins))):
        rates = np.full((len(labels), len(features)), 0.5 if name == "rna" else 5.0)
        for group, own in high.items():
            for i, feature in enumerate(features):
                if feature in own[which] and (feature != "CD14" or group == "CD14"):
                    rates[labels == group, i] *= 8
        rates[labels == "mixed"] = rates[labels != "mixed"].mean(axis=0)
        named = [f"hg19_{gene}" for gene in features] if name == "rna" else features
        mods[name] = AnnData(sp.csr_matrix(rng.poisson(rates).astype(np.float32)), var=pd.DataFrame(index=named))
    return make_mudata(mods, pd.DataFrame({"scmag": pd.Categorical(labels)}, index=mods["rna"].obs_names))


def test_the_list_of_the_package_names_blood_cells_in_both_modalities() -> None:
    mdata = blood()
    expected = {"B": "B cell", "CD14": "CD14 monocyte", "CD4": "CD4 T cell", "CD8": "CD8 T cell", "NK": "NK cell"}
    for modalities in (None, ["rna"], ["prot"]):
        table = smm.tl.annotate(mdata, modalities=modalities, min_markers=1)
        assert table["type"].to_dict() == expected | {"mixed": "unknown"}, modalities
        assert (table["score"] >= table["next_score"]).all()
    assert list(mdata.obs["scmag_type"].cat.categories) == [*expected.values(), "unknown"]
    assert (mdata.obs["scmag_type"].astype(str) == mdata.obs["scmag"].astype(str).map(table["type"])).all()
    found = mdata.uns["scmag_type"]["markers"]
    assert set(found.loc[found["marker"] == "CD56", "target"]) == {"prot:NCAM (CD56)"}
    assert "prot:IgG1" not in set(found["target"])


def test_scores_are_means_of_standardised_means(finished: MuData) -> None:
    table = smm.tl.annotate(finished, markers=LISTS)
    assert table["type"].to_dict() == {str(k): f"type {k}" for k in range(4)}
    labels = finished.obs["scmag"].to_numpy().astype(str)
    z = {}
    for name in ("g8", "g9", "p2"):
        feature = _values.Feature("rna" if name[0] == "g" else "prot", name)
        values = _values.normalized_features(finished, [feature], key="scmag", across="cells")[feature]
        means = np.array([values[labels == cluster].mean() for cluster in "0123"])
        z[name] = (means - means.mean()) / values.std()
    by_hand = ((z["g8"] + z["g9"]) / 2 + z["p2"]) / 2
    np.testing.assert_allclose(finished.uns["scmag_type"]["scores"]["type 1"], by_hand, rtol=1e-4)
    assert table.at["1", "markers"].split(";") == [
        f"{'prot' if name[0] == 'p' else 'rna'}:{name}" for name in sorted(z, key=lambda name: -z[name][1])
    ]


def test_a_modality_with_a_colon_in_its_name(finished: MuData) -> None:
    expected = smm.tl.annotate(finished, markers=LISTS)
    mods = {"rna:gex": finished["rna"], "rna:prot": finished["prot"]}
    mdata = make_mudata(mods, finished.obs[["scmag"]])
    table = smm.tl.annotate(mdata, markers=LISTS, modalities=list(mods))
    pd.testing.assert_frame_equal(table.drop(columns="markers"), expected.drop(columns="markers"))


def test_types_of_nearly_one_name(finished: MuData, tmp_path: Path) -> None:
    lists = dict(zip(["T/NK", "T_NK", "_index", "B"], LISTS.values(), strict=True))
    table = smm.tl.annotate(finished, markers=lists)
    finished.write_h5mu(tmp_path / "out.h5mu")
    axes = smm.pl.annotation(mudata.read_h5mu(tmp_path / "out.h5mu"))
    assert [label.get_text().strip() for label in axes[1].get_xticklabels()] == list(lists)
    assert len(axes[1].patches) == (table["type"] != "unknown").sum() == 4


def test_lacking_what_a_type_lacks_is_no_evidence_for_it(finished: MuData) -> None:
    lists = {"real": {"g0": 1, "g1": 1}, "empty": {"p9": 1, "g59": 1, "g0": -1, "g1": -1, "g2": -1, "g3": -1}}
    table = smm.tl.annotate(finished, markers=lists)
    assert table.at["0", "type"] == "real"
    assert (table.loc[["1", "2", "3"], "type"] == "unknown").all()
    lists["real"] |= {"g8": -1, "g9": -1}
    assert smm.tl.annotate(finished, markers=lists).at["0", "score"] <= table.at["0", "score"] + 1e-9


def test_two_clusters_may_share_a_name_and_noise_has_none(finished: MuData) -> None:
    finished.obs["halves"] = [f"{label} {i % 2}" for i, label in enumerate(finished.obs["scmag"])]
    table = smm.tl.annotate(finished, markers=LISTS, groupby="halves")
    assert table["type"].value_counts().to_dict() == {f"type {k}": 2 for k in range(4)}
    finished.obs["noise"] = np.random.default_rng(0).choice(list("ab"), finished.n_obs)
    assert (smm.tl.annotate(finished, markers=LISTS, groupby="noise", key_added="noisy")["type"] == "unknown").all()
    assert list(finished.obs["noisy"].cat.categories) == ["unknown"]


def test_tables_files_and_columns_of_symbols(finished: MuData, tmp_path: Path) -> None:
    wanted = smm.tl.annotate(finished, markers=LISTS)
    rows = pd.DataFrame([(name, feature) for name, of in LISTS.items() for feature in of], columns=["type", "feature"])
    pd.testing.assert_frame_equal(smm.tl.annotate(finished, markers=rows), wanted)
    rows.to_csv(tmp_path / "mine.csv", index=False)
    pd.testing.assert_frame_equal(smm.tl.annotate(finished, markers=tmp_path / "mine.csv"), wanted)
    assert finished.uns["scmag_type"]["params"]["markers"] == "mine.csv"
    finished["rna"].var["symbol"] = finished["rna"].var_names
    finished["rna"].var_names = [f"ENSG{i}" for i in range(60)]
    again = smm.tl.annotate(finished, markers=LISTS, gene_symbols="symbol", modalities=["rna"])
    assert again["type"].tolist() == wanted["type"].tolist()
    only = rows.assign(modality=["protein" if name[0] == "p" else "prot" for name in rows["feature"]])
    found = smm.tl.annotate(finished, markers=only, min_markers=1)
    assert found["type"].tolist() == wanted["type"].tolist()
    assert finished.uns["scmag_type"]["markers"]["modality"].unique().tolist() == ["prot"]


def test_it_is_saved_and_goes_with_the_run(finished: MuData, tmp_path: Path) -> None:
    table = smm.tl.annotate(finished, markers=LISTS)
    finished.write_h5mu(tmp_path / "out.h5mu")
    back = mudata.read_h5mu(tmp_path / "out.h5mu")
    pd.testing.assert_frame_equal(back.uns["scmag_type"]["table"], table)
    forget_derived(finished, "scmag")
    assert "scmag_type" not in finished.uns
    assert "scmag_type" not in finished.obs


def test_errors(finished: MuData, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ValueError, match=r"No type has 2 of its markers.*names 'CD79A'.*the data 'rna: g0', 'prot: p0'"
    ):
        smm.tl.annotate(finished)
    with pytest.raises(FileNotFoundError, match="There is no file mine.csv. Give a CSV file of markers, a mapping, or"):
        smm.tl.annotate(finished, markers="mine.csv")
    for no_list in (["g0", "g1"], None):
        with pytest.raises(TypeError, match="`markers` must map types to lists of features"):
            smm.tl.annotate(finished, markers=no_list)
    with pytest.raises(KeyError, match=r"lack the columns \['type'\]: they have \['feature'\]"):
        smm.tl.annotate(finished, markers=pd.DataFrame({"feature": ["g0"]}))
    with pytest.raises(KeyError, match="gene_symbols='symbol' names no column"):
        smm.tl.annotate(finished, markers=LISTS, gene_symbols="symbol")
    finished.obs["scmag_type"] = "mine"
    with pytest.raises(ValueError, match=r"mdata.obs\['scmag_type'\] is there already"):
        smm.tl.annotate(finished, markers=LISTS)
    finished.obs["one"] = "a"
    with pytest.raises(ValueError, match="'one' holds one group only"):
        smm.tl.annotate(finished, markers=LISTS, groupby="one")
    load = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "decoupler":
            raise ImportError
        return load(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'decoupler>=2'"):
        smm.tl.annotate(finished, markers=LISTS)
