"""What the report says of cells that were mapped onto a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scmag_muon import _mudata, pl
from scmag_muon._keys import Keys
from scmag_muon._report import _html

if TYPE_CHECKING:
    from mudata import MuData

_MANY_UNKNOWN = 0.05
_FEW_SHARED = 0.5


def is_query(mdata: MuData, key: str) -> bool:
    """Whether the clusters are those of a reference."""
    return _mudata.is_record(mdata.uns[key], "map_query")


def mapping(mdata: MuData, key: str) -> str:
    """Table of what was mapped, and for each column of labels its counts and a picture."""
    record = mdata.uns[key]
    rows: dict[str, Any] = {"cells of the reference": int(record["n_reference"])}
    shared = _mudata.plain(record["shared_features"])
    rows |= {f"features of {name} shared with the reference": n for name, n in shared.items()}
    rows["cells that are unlike the reference"] = f"{float((mdata.obs[Keys.unlikeness(key)] > 1).mean()):.1%}"
    frame = pd.DataFrame({"value": rows.values()}, index=pd.Index(rows, name="what"))
    parts = [
        _html.paragraph(
            "Clusters, coordinates and labels are those of a reference that was trained before. Probabilities assume that a cell is of one "
            "of its types. Cells whose unlikeness is above 1 are called unknown; one in a hundred of the reference's own cells would be."
        ),
        _html.table(frame, caption="The query and its reference."),
    ]
    basis = _mudata.plain(record["params"]).get("basis") or "X_umap"
    for column in labels_of(mdata, key):
        parts.append(_html.table(_by_label(mdata, key, column), caption=f"Transferred labels: {column}."))
        alt = f"Three maps of the query: {column} as transferred, its probability, and unlikeness."
        parts.append(_html.figure(pl.query(mdata, column, basis=basis, key=key), alt=alt, caption=alt))
    return "\n".join(parts)


def labels_of(mdata: MuData, key: str) -> list[str]:
    """Columns that were transferred and are still there."""
    asked = np.atleast_1d(_mudata.plain(mdata.uns[key]["params"]).get("labels", [])).tolist()
    return [str(column) for column in asked if Keys.transferred(key, str(column)) in mdata.obs]


def doubts_of_query(mdata: MuData, key: str) -> list[str]:
    """What should make a reader of a query careful."""
    found: list[str] = []
    record = mdata.uns[key]
    shared = _mudata.plain(record["shared_features"])
    for name, n_features in _mudata.plain(record["reference_features"]).items():
        n_shared = shared.get(name, 0)
        if not n_shared:
            found.append(f"The query has no {name}: labels rest on the other modalities, and {name} is imputed.")
        elif n_shared < _FEW_SHARED * n_features:
            found.append(
                f"Only {n_shared:,} of the reference's {n_features:,} features of {name} were measured. Labels are less sure than usual."
            )
    for column in labels_of(mdata, key):
        share = float((mdata.obs[Keys.transferred_unlikeness(key, column)] > 1).mean())
        if share > _MANY_UNKNOWN:
            found.append(
                f"{share:.0%} of the cells are unlike the reference's cells with a known {column}, where 1 % is usual. They may be of types "
                "that it lacks. If many types are concerned, the query may differ in chemistry: give batch_key to map_query."
            )
    return found


def _by_label(mdata: MuData, key: str, column: str) -> pd.DataFrame:
    table = mdata.obs[[Keys.transferred_probability(key, column), Keys.transferred_unlikeness(key, column)]]
    groups = table.groupby(mdata.obs[Keys.transferred(key, column)].astype(str).to_numpy())
    frame = groups.mean().set_axis(["mean probability", "mean unlikeness"], axis=1)
    frame.insert(0, "cells", groups.size())
    return frame.sort_values("cells", ascending=False, kind="stable").rename_axis(column)


def sentences(mdata: MuData, key: str, features: str, cited: str, version: str) -> list[str]:
    """How the cells were mapped, for the text on methods; ``cited`` are the references of scMAG and manifold fitting."""
    n_reference = int(mdata.uns[key]["n_reference"])
    found = [
        f"Raw counts of {mdata.n_obs:,} cells ({features}) were mapped onto a reference of {n_reference:,} cells by scmag_muon {version} "
        f"{cited}: they were placed among its cells in the principal components of the modalities, their neighbourhoods were denoised by its "
        "manifold fit, and its network, which was not trained again, gave clusters and coordinates."
    ]
    columns = labels_of(mdata, key)
    if columns:
        found.append(
            f"Labels ({', '.join(columns)}) were transferred by a mixture of a neighbours' vote, logistic regression and linear discriminant "
            "analysis, calibrated on the reference; cells that are more unlike the reference than 99 % of its own cells were called unknown."
        )
    return found
