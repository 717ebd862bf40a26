from __future__ import annotations

import pytest

from scmag_muon._feature_names import antibody_names, is_housekeeping, is_isotype_control, is_mitochondrial


def test_isotype_controls_of_the_usual_panels() -> None:
    controls = [
        *(
            "IgG1",
            "IgG2a",
            "IgG2b_control_TotalSeqB",
            "Mouse-IgG1",
            "Rat-IgG2b",
            "RatIgG1",
            "HamIgG",
            "igg1.k.isotype.control",
        ),
        *("Isotype_MOPC.21", "mouse IgG2a kappa", "IgG1.K.Isotype.Control", "control", "IgG1-1", "ArmHamsterIgG"),
    ]
    assert is_isotype_control(controls).all()
    proteins = [
        "IgD",
        "IgM",
        "IgE",
        "IgG Fc",
        "anti-IgG",
        "CD3",
        "CD19",
        "FcgRI",
        "controller",
        "Ig light chain k",
        "CD16",
    ]
    assert not is_isotype_control(proteins).any()


def test_ribosomal_and_mitochondrial_genes_of_human_and_mouse() -> None:
    genes = [
        "RPS4X",
        "RPL13A",
        "RPLP0",
        "RPSA",
        "Rpl36al",
        "RPS27L",
        "RPL3L",
        "RPS4Y1",
        "MT-CO1",
        "mt-Nd1",
        "hg19_RPL7",
    ]
    assert is_housekeeping(genes).all()
    others = ["RPS6KA1", "RPL7P1X", "MTOR", "MT1X", "RPLP", "CD3E", "RPGR", "MTRNR2L12"]
    assert not is_housekeeping(others).any()
    assert is_mitochondrial([*genes, *others]).sum() == 2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CD3", "cd3"),
        ("ADT_CD3-1", "cd3"),
        ("CD19_TotalSeqB", "cd19"),
        ("MHCII (HLA-DR)", "hladr"),
        ("cd4.2", "cd4"),
        ("anti-human CD14", "cd14"),
        ("TCR.Va7.2", "tcrva72"),
    ],
)
def test_antibodies_are_known_by_any_of_their_names(name: str, expected: str) -> None:
    assert expected in antibody_names(name)
