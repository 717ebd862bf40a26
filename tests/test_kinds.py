"""What modalities are taken for, and what follows when somebody says otherwise."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import scmag_muon as smm
from scmag_muon import _mudata, _values
from scmag_muon.tl._again import recorded_run

if TYPE_CHECKING:
    from mudata import MuData

    from scmag_muon._assays import ModalityKind

QUICK = {"n_clusters": 3, "max_epochs_pretrain": 2, "max_epochs": 1, "progress_bar": False, "accelerator": "cpu"}
PEAKS = [f"chr1:{i * 500}-{i * 500 + 400}" for i in range(20)]


def panel(names: list[str] | None = None, n_vars: int = 300, **columns: object) -> AnnData:
    names = [f"x{i}" for i in range(n_vars)] if names is None else names
    return AnnData(np.ones((2, len(names)), np.float32), var=pd.DataFrame(columns, index=pd.Index(names)))


NAMES = {
    "rna": "rna|GEX|gene_expression|Gene Expression|mrna|scRNA|snRNA|SCT|gene|genes|transcriptome|spliced|rna.raw|scRNA-seq",
    "atac": "peak|scATAC|ATAC_peaks|atac:peaks|chromatin|PeakMatrix|chromatin_accessibility|H3K27me3|h3k4me1|CUT&Tag|CUT&RUN|"
    "histone|TileMatrix|snATAC-seq|GeneScoreMatrix|gene_activity",
    "protein": "prot|Protein|ADT|ADTs|cite|CITE-seq|Antibody Capture|Abseq|TotalSeq|surface|protein_expression|adt_raw",
    "hashtags": "hto|HTO|hashtags|cell_hashing|CMO|Multiplexing Capture",
    "receptors": "airr|TCR|vdj",
    "guide RNAs": "crispr|gRNA",
}


@pytest.mark.parametrize(("label", "name"), [(label, name) for label, of in NAMES.items() for name in of.split("|")])
def test_by_the_name_of_the_modality(label: str, name: str) -> None:
    found = _mudata.recognize(name, panel())
    assert (found.kind or found.label, found.reason) == (label, "its name")


@pytest.mark.parametrize(
    ("feature_types", "kind"),
    [
        ("GEX", "rna"),
        ("ATAC", "atac"),
        ("ADT", "protein"),
        ("gene expression", "rna"),
        ("Antibody Capture", "protein"),
        ("Peaks", "atac"),
        ("Chromatin Accessibility", "atac"),
        ("Protein", "protein"),
        ("CRISPR Guide Capture", None),
    ],
)
def test_by_feature_types(feature_types: str, kind: ModalityKind | None) -> None:
    found = _mudata.recognize("rna", panel(feature_types=feature_types))
    assert found.kind == kind
    assert repr(feature_types) in found.reason


@pytest.mark.parametrize(
    ("features", "label"),
    [
        (PEAKS, "ATAC"),
        ([name.replace(":", "-") for name in PEAKS], "ATAC"),
        ([name.replace(":", "_").replace("-", "_") for name in PEAKS], "ATAC"),
        ([name.replace("chr1", "GL000194.1") for name in PEAKS], "ATAC"),
        ([name.replace("chr1", "X") for name in PEAKS], "ATAC"),
        ([name.replace("chr1", "hg38_chr1") for name in PEAKS], "ATAC"),
        (["ENSG00000141510", "ENSG00000012048", "ENSMUSG00000059552.3"], "RNA"),
        (["CD3D", "CD4", "MS4A1", "NKG7", "GNLY", "LYZ", "CCL5", "CD8A"], "RNA"),
        (["CD3_TotalSeqB", "PD-1_TotalSeqB"], "proteins"),
        (["CD3-A0034", "CD4-A0072"], "proteins"),
        (["CD3-CTCATTGTAACTCCT", "CD4-TGTTCCCGCTCAACT"], "proteins"),
        (["PD-1", "CD4", "IgG1_control"], "proteins"),
        (["CD3|CD3E|AHS0149|pAbO", "CD4|CD4|AHS0032|pAbO"], "proteins"),
        (["CD3.1", "CD8a.1", "PD-1"], "proteins"),
        (["Hashtag_1", "Hashtag_2"], "hashtags"),
        (["HTO_A", "HTO_B"], "hashtags"),
        (["CMO301", "CMO302"], "hashtags"),
    ],
)
def test_by_the_names_of_features(features: list[str], label: str) -> None:
    found = _mudata.recognize("mod2", panel(features))
    assert found.label == label
    assert any(name in found.reason for name in features)


def test_peaks_are_told_from_a_misleading_name_of_the_modality() -> None:
    assert _mudata.recognize("rna", panel(PEAKS)).kind == "atac"


@pytest.mark.parametrize(("n_vars", "kind"), [(500, "protein"), (501, "rna")])
def test_by_the_size_of_the_panel_alone(n_vars: int, kind: str) -> None:
    found = _mudata.recognize("mod2", panel(n_vars=n_vars))
    assert (found.kind, found.reason) == (kind, f"its {n_vars} features alone")


def renamed(mdata: MuData, **names: str) -> MuData:
    mods = {names.get(name, name): adata.copy() for name, adata in mdata.mod.items()}
    for i, adata in enumerate(mods.values()):
        adata.var = pd.DataFrame(index=[f"x{i}_{j}" for j in range(adata.n_vars)])
    return _mudata.make_mudata(mods, mdata.obs)


def test_one_line_says_what_modalities_are_taken_for(citeseq: MuData, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="scmag_muon"):
        smm.pp.manifold_fit(renamed(citeseq, prot="mod2"))
    (line,) = [message for message in caplog.messages if "are taken for" in message]
    assert "'rna' RNA, by its name; 'mod2' proteins, by its 10 features alone" in line
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="scmag_muon"):
        smm.pp.manifold_fit(citeseq, kinds={"rna": "rna", "prot": "protein"})
    assert not [message for message in caplog.messages if "are taken for" in message]


def test_kinds_that_are_told_reach_every_reader(citeseq: MuData) -> None:
    mdata = renamed(citeseq, rna="mod1", prot="mod2")
    model = smm.tl.scmag(mdata, kinds={"mod1": "rna", "mod2": "atac"}, return_model=True, **QUICK)
    assert list(mdata.uns["scmag"]["params"]["modalities"]) == ["mod1", "mod2"]
    assert list(mdata.uns["scmag"]["params"]["kinds"]) == ["rna", "atac"]
    assert mdata["mod2"].uns["manifold"]["kind"] == "atac"
    assert model.registry_["setup_args"]["kinds"] == {"mod1": "rna", "mod2": "atac"}
    assert _values.kind_in_use(mdata, "scmag", "mod2") == "atac"
    assert _mudata.kinds_of(mdata, ["mod2"], recorded_under="manifold") == {"mod2": "atac"}
    assert recorded_run(mdata, "scmag")["kinds"] == {"mod1": "rna", "mod2": "atac"}
    # the same as if the modality had a name that tells
    named = renamed(citeseq, prot="atac")
    smm.tl.scmag(named, **QUICK)
    np.testing.assert_array_equal(mdata.obsm["X_scmag"], named.obsm["X_scmag"])
    # a fit alone tells the model too
    smm.model.SCMAG.setup_mudata(mdata)
    assert smm.model.SCMAG(mdata, n_clusters=3).registry_["setup_args"]["kinds"] == {"mod1": "rna", "mod2": "atac"}


def test_the_main_modality_follows_from_kinds(citeseq: MuData) -> None:
    mdata = renamed(citeseq, rna="mod1", prot="mod2")
    assert _mudata.modality_names(mdata, kinds={"mod1": "atac", "mod2": "rna"}) == ["mod2", "mod1"]


@pytest.mark.parametrize(
    ("kinds", "error", "message"),
    [
        ({"RNA": "rna"}, KeyError, r"kinds names 'RNA', but the modalities are \['rna', 'prot'\]"),
        ({"prot": "adt"}, ValueError, r"kinds\['prot'\] must be one of \['rna', 'protein', 'atac'\], got 'adt'"),
        ({"prot": ["protein"]}, ValueError, r"kinds\['prot'\] must be one of"),
        ("atac", TypeError, "`kinds` must map modalities to kinds"),
    ],
)
def test_kinds_that_cannot_be_are_refused(citeseq: MuData, kinds: object, error: type, message: str) -> None:
    for verb in (smm.pp.manifold_fit, smm.tl.scmag):
        with pytest.raises(error, match=message):
            verb(citeseq, kinds=kinds)
    smm.pp.manifold_fit(citeseq)
    with pytest.raises(error, match=message):
        smm.model.SCMAG.setup_mudata(citeseq, kinds=kinds)


def test_hashtags_are_never_taken_by_default(citeseq: MuData, caplog: pytest.LogCaptureFixture) -> None:
    tags = citeseq["prot"].copy()
    tags.var = pd.DataFrame(index=[f"HTO_{i}" for i in range(tags.n_vars)])
    mdata = _mudata.make_mudata({"tags": tags, "rna": citeseq["rna"].copy()})
    with caplog.at_level(logging.INFO, logger="scmag_muon"):
        smm.pp.manifold_fit(mdata)
    assert "Modalities ['tags'] are left out" in caplog.text
    assert "manifold" not in mdata["tags"].layers
    both = _mudata.make_mudata({"tags": tags.copy(), **{name: adata.copy() for name, adata in citeseq.mod.items()}})
    assert _mudata.modality_names(both) == ["rna", "prot"]
    assert _mudata.kinds_of(mdata, ["rna", "tags"]) == {"rna": "rna", "tags": "protein"}
    assert "'tags' holds hashtags, which are used as a panel of proteins" in caplog.text


@pytest.mark.parametrize("column", ["feature_types", "feature_type"])
@pytest.mark.parametrize("alone", [True, False])
def test_several_kinds_in_one_modality_are_told_with_a_split_that_works(
    citeseq: MuData, column: str, alone: bool, caplog: pytest.LogCaptureFixture
) -> None:
    rna = citeseq["rna"].copy()
    n_genes = rna.n_vars - 8
    rna.var = pd.DataFrame({column: ["Gene Expression"] * n_genes + ["Antibody Capture"] * 8}, index=rna.var_names)
    mdata = _mudata.make_mudata({"all": rna} if alone else {"all": rna, "prot": citeseq["prot"].copy()})
    _mudata.kinds_of(mdata, list(mdata.mod))
    (line,) = [record.getMessage() for record in caplog.records]
    assert "'all' holds features of several kinds (Gene Expression, Antibody Capture) and is used as one" in line
    caplog.clear()
    space = {"mdata": mdata, "mudata": mudata}
    exec(line.split("Split it: ")[1].removesuffix("."), space)
    split = space["mdata"]
    found = {"all Gene Expression": "rna", "all Antibody Capture": "protein", **({} if alone else {"prot": "protein"})}
    assert _mudata.kinds_of(split, list(split.mod)) == found
    assert split["all Gene Expression"].shape == (mdata.n_obs, n_genes)
    assert not caplog.records
