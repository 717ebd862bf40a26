"""Quality of the cells, cluster by cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scmag_muon._keys import Keys
from scmag_muon._report import _html

if TYPE_CHECKING:
    from mudata import MuData


def health(mdata: MuData, key: str) -> str:
    """What :func:`scmag_muon.tl.cluster_qc` measured."""
    table = mdata.uns[Keys.cluster_qc(key)]["table"].rename_axis("cluster").dropna(axis=1, how="all")
    empty = [column for column in table if (table[column].astype(str) == "").all()]
    shown = table.drop(columns=[*empty, "confidence"], errors="ignore")  # confidence stands in the table of clusters
    shown.columns = [str(name).replace("_", " ") for name in shown.columns]
    if "flags" in shown:
        shown["flags"] = shown["flags"].astype(str).str.replace(";", ", ").replace("", "–")
    caption = (
        "Medians of counts and features, shares of mitochondrial RNA and of likely doublets, and the distance to the nearest cluster in "
        "standard errors."
    )
    return _html.table(shown, caption=caption) + _html.download(table, file="health.csv", text="Save this table as CSV")
