"""The number of clusters that is taken where none is given, beside the published number of types.

Run with ``python tests/benchmarks/n_clusters.py FILE.h5mu [FILE.h5mu ...]``. Prints a table in Markdown. With ``--cells N`` it
takes that many of the labelled cells at random, of which each file has a row for each seed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mudata
import numpy as np
import pandas as pd
import results
from common import known, markdown
from sklearn.metrics import adjusted_rand_score

import scmag_muon as smm
from scmag_muon._keys import Keys
from scmag_muon._mudata import no_pull_on_update
from scmag_muon.tl._graph_clusters import typical_communities

COMMAND = "python tests/benchmarks/n_clusters.py FILES --results tests/benchmarks/results/n_clusters.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="MuData files with raw counts")
    parser.add_argument("--labels", default="cell_type", help="column of known labels")
    parser.add_argument("--cells", type=int, help="labelled cells to take; by default all cells")
    parser.add_argument("--seeds", type=int, default=1, help="samples of so many cells")
    parser.add_argument("--results", type=Path, help="JSON file of the docs' table to put the rows into")
    arguments = parser.parse_args()
    seeds = range(arguments.seeds)
    table = pd.DataFrame(
        [_row(file, arguments.labels, arguments.cells, seed) for file in arguments.files for seed in seeds]
    )
    print(markdown(table.set_index("set"), "set"))
    if arguments.results:
        results.merge(arguments.results, table.to_dict("records"), command=COMMAND, n_keys=2)


def _row(file: Path, column: str, n_cells: int | None, seed: int) -> dict[str, object]:
    with no_pull_on_update():
        mdata = mudata.read_h5mu(file)
        if n_cells is not None:
            labelled = known(mdata.obs[column]).index
            rows = np.random.default_rng(seed).choice(mdata.obs_names.get_indexer(labelled), n_cells, replace=False)
            mdata = mdata[np.sort(rows)].copy()
    smm.pp.manifold_fit(mdata, batch_key="batch" if "batch" in mdata.obs else None)
    smm.tl.n_clusters(mdata)
    found = mdata.uns["n_clusters"]
    at_estimate = found["table"].set_index("resolution").loc[found["resolution"]]
    labels = known(mdata.obs[column])
    taken = typical_communities(mdata.obsm[Keys.joint_embedding(Keys.MANIFOLD)])
    of_labelled = taken[mdata.obs_names.get_indexer(labels.index)]
    return {
        "set": file.stem,
        "cells": mdata.n_obs,
        "published types": labels.astype(str).nunique(),
        "K taken": found["estimate"],
        "resolution": found["resolution"],
        "range over samples": f"{found['fewest']}-{found['most']}",
        "agreement of samples": round(float(at_estimate["stability"]), 2),
        "ARI": round(adjusted_rand_score(labels.astype(str), of_labelled), 3),
    }


if __name__ == "__main__":
    main()
