"""The number of clusters that is taken where none is given, beside the published number of types.

Run with ``python tests/benchmarks/n_clusters.py FILE.h5mu [FILE.h5mu ...]``. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mudata
import pandas as pd
from common import known, markdown

import scmag_muon as smm
from scmag_muon._mudata import no_pull_on_update


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="MuData files with raw counts")
    parser.add_argument("--labels", default="cell_type", help="column of known labels")
    arguments = parser.parse_args()
    table = pd.DataFrame([_row(file, arguments.labels) for file in arguments.files])
    print(markdown(table.set_index("set"), "set"))


def _row(file: Path, column: str) -> dict[str, object]:
    with no_pull_on_update():
        mdata = mudata.read_h5mu(file)
    smm.pp.manifold_fit(mdata, batch_key="batch" if "batch" in mdata.obs else None)
    smm.tl.n_clusters(mdata)
    found = mdata.uns["n_clusters"]
    at_estimate = found["table"].set_index("resolution").loc[found["resolution"]]
    labels = mdata.obs[column]
    return {
        "set": file.stem,
        "cells": mdata.n_obs,
        "published types": known(labels).nunique(),
        "K taken": found["estimate"],
        "at resolution": found["resolution"],
        "range over samples, resolutions 0.5 to 1": f"{found['fewest']}-{found['most']}",
        "agreement of samples": f"{at_estimate['stability']:.2f}",
    }


if __name__ == "__main__":
    main()
