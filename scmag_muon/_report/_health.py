"""Quality of the cells, cluster by cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scmag_muon._keys import Keys
from scmag_muon._report import _html

if TYPE_CHECKING:
    from mudata import MuData


_SHARES = ("mitochondrial", "doublets", "batch_share")
_HEADINGS = {
    "standard_errors": "standard errors to it",
    "doublet_score": "mean doublet score",
    "flags": "checks that fired",
}


def health(mdata: MuData, key: str) -> str:
    """What :func:`scmag_muon.tl.cluster_qc` measured."""
    table = mdata.uns[Keys.cluster_qc(key)]["table"].rename_axis("cluster").dropna(axis=1, how="all")
    empty = [column for column in table if (table[column].astype(str) == "").all()]
    shown = table.drop(columns=[*empty, "confidence"], errors="ignore")  # confidence stands in the table of clusters
    for column in (column for column in _SHARES if column in shown):
        shown[column] = [f"{share:.1%}" if share == share else "–" for share in shown[column]]
    if "flags" in shown:
        flags = shown.pop("flags").astype(str).str.replace(";", ", ").replace("", "–")
        shown.insert(1, "flags", flags)
    shown.columns = [_HEADINGS.get(name, str(name).replace("_", " ")) for name in shown.columns]
    caption = (
        "Medians of counts and features, the share of RNA that is mitochondrial, the share of cells that are likely doublets, and how far "
        "the nearest cluster is, in standard errors. Below 3, the two may be one."
    )
    return _html.table(shown, caption=caption) + _html.download(table, file="health.csv", text="Save this table as CSV")
