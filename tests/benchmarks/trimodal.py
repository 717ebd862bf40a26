"""Three modalities beside any two of them and each alone, and beside three of which the third says nothing.

Run with ``python tests/benchmarks/trimodal.py --seeds 3``. Cells are those of ``datasets.simulate_trimodal``; the useless third
modality is ATAC with its cells in another order. Prints the ARI with the simulated types, mean over seeds.
``--results tests/benchmarks/results/trimodal.json`` puts it into the file of which the docs' table is made.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import results
from common import markdown

import scmag_muon as smm
from scmag_muon._mudata import make_mudata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--results", type=Path, help="JSON file of the docs' table to put the means into")
    arguments = parser.parse_args()
    logging.getLogger("scmag_muon").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    rows = []
    for seed in range(arguments.seeds):
        for names, mdata in cases(arguments.cells, seed):
            rows.append({"modalities": names, "seed": seed, "ARI": agreement(mdata, seed)})
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows).pivot(index="modalities", columns="seed", values="ARI")
    table["mean"] = table.mean(axis=1)
    print(markdown(table.map("{:.3f}".format), "modalities"))
    if arguments.results:
        keep(table, arguments.seeds, arguments.results)


def keep(table: pd.DataFrame, n_seeds: int, path: Path) -> None:
    """Put the means into the file of results, most modalities last."""
    order = sorted(table.index, key=lambda names: (names.count("+"), "shuffled" not in names))
    means = [{"modalities": names.replace("+", " + "), "ARI": table.loc[names, "mean"]} for names in order]
    command = f"python tests/benchmarks/trimodal.py --seeds {n_seeds} --results tests/benchmarks/results/{path.name}"
    results.merge(path, means, command=command, n_keys=1)


def cases(n_obs: int, seed: int) -> list[tuple[str, MuData]]:
    """Each choice of modalities, and RNA and proteins with shuffled ATAC."""
    mdata = smm.datasets.simulate_trimodal(n_obs, random_state=seed)
    chosen = [names for k in (1, 2, 3) for names in itertools.combinations(mdata.mod, k)]
    found = [("+".join(names), _of(mdata, names)) for names in chosen]
    shuffled = _of(mdata, list(mdata.mod))
    order = np.random.default_rng(seed).permutation(n_obs)
    shuffled.mod["atac"].X = shuffled.mod["atac"].X[order]
    return [*found, ("rna+prot+shuffled atac", shuffled)]


def agreement(mdata: MuData, seed: int) -> float:
    """ARI of the clusters with the types."""
    n_clusters = mdata.obs["cell_type"].nunique()
    smm.tl.scmag(mdata, n_clusters=n_clusters, random_state=seed, progress_bar=False)
    return smm.metrics.clustering_scores(mdata.obs["cell_type"], mdata.obs["scmag"])["ARI"]


def _of(mdata: MuData, names: Sequence[str]) -> MuData:
    return make_mudata({name: mdata.mod[name].copy() for name in names}, mdata.obs)


if __name__ == "__main__":
    main()
