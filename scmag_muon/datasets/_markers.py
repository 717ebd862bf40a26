"""Marker lists that come with the package."""

from __future__ import annotations

from importlib.resources import files

import pandas as pd


def blood_markers() -> pd.DataFrame:
    """Markers of 15 cell types of human blood and bone marrow, genes and surface proteins.

    Returns
    -------
    A row per type, modality and marker: ``type``; ``modality`` (``"rna"`` or ``"protein"``); ``feature``, a gene symbol or the
    common name of an antibody; ``weight`` (1: the type has it, -1: it lacks it); ``aliases``, further names of an antibody,
    separated by spaces; ``references``, where the type is told by such markers.

    Notes
    -----
    The types are broad, and told as in atlases of blood (Hao et al. 2021, doi:10.1016/j.cell.2021.04.048; Stuart et al. 2019,
    doi:10.1016/j.cell.2019.05.031; Zheng et al. 2017, doi:10.1038/ncomms14049), of monocytes and dendritic cells (Villani et
    al. 2017, doi:10.1126/science.aah4573), of neutrophils (Schulte-Schrepping et al. 2020, doi:10.1016/j.cell.2020.08.001)
    and of bone marrow (Granja et al. 2019, doi:10.1038/s41587-019-0332-7; Luecken et al. 2021, NeurIPS Datasets and Benchmarks).

    Examples
    --------
    >>> import scmag_muon as smm
    >>> table = smm.datasets.blood_markers()
    >>> table[(table["type"] == "Platelet") & (table["modality"] == "protein") & (table["weight"] > 0)][
    ...     "feature"
    ... ].tolist()
    ['CD41', 'CD42b', 'CD61', 'CD62P', 'CD9']
    """
    with files("scmag_muon.datasets").joinpath("blood_markers.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, keep_default_na=False, dtype={"weight": float})
