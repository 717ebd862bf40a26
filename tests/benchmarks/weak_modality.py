"""What is found where one of two modalities says nothing: the second shuffled over cells or made of noise, RNA thinned.

Run with ``python tests/benchmarks/weak_modality.py FILE.h5mu [FILE.h5mu ...] --output FOLDER``. The ARI of ``tl.scmag`` at the
published number of types is put beside that of the modality that was left whole, alone, by Leiden (resolution searched) and by
k-means. Runs are kept in the folder and not repeated while data, settings and code stay the same.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pandas as pd
import results
import scipy.sparse as sp
from common import kept, known, markdown
from peers import Clusterings, Options, rna_pca, second

import scmag_muon as smm
from scmag_muon._mudata import modality_names, no_pull_on_update
from scmag_muon.manifold.information import split_counts

if TYPE_CHECKING:
    from collections.abc import Callable


_KEPT_SHARE = 0.1
COLUMNS = {
    "scMAG": "scmag_muon",
    "alone, Leiden": "the other alone, Leiden",
    "alone, k-means": "the other alone, k-means",
    "weight 1": "weight of RNA",
    "weight 2": "weight of the second",
}
COMMAND = (
    "python tests/benchmarks/weak_modality.py FILES --precision 32-true --seeds 3 --output FOLDER "
    "--results tests/benchmarks/results/weak_modality.json"
)


def shuffled(counts: sp.csr_matrix, rng: np.random.Generator) -> sp.csr_matrix:
    """Whole cells, in another order."""
    return counts[rng.permutation(counts.shape[0])]


def noise(counts: sp.csr_matrix, rng: np.random.Generator) -> sp.csr_matrix:
    """Poisson counts with the same expected total of each cell and of each feature, which say nothing else."""
    totals = np.asarray(counts.sum(axis=1)).ravel()
    shares = np.asarray(counts.sum(axis=0)).ravel() / totals.sum()
    blocks = [
        sp.csr_matrix(rng.poisson(np.outer(part, shares)).astype(np.float32)) for part in np.array_split(totals, 20)
    ]
    return sp.vstack(blocks, format="csr")


def thinned(counts: sp.csr_matrix, rng: np.random.Generator) -> sp.csr_matrix:
    """One count in ten."""
    return sp.csr_matrix(split_counts(sp.csr_array(counts), share=_KEPT_SHARE, random_state=rng)[0])


# which modality is spoilt, how, and which one is then compared with
CASES: dict[str, tuple[int, Callable[..., sp.csr_matrix] | None, Callable[..., np.ndarray]]] = {
    "as measured": (1, None, rna_pca),
    "second shuffled over cells": (1, shuffled, rna_pca),
    "second replaced by noise": (1, noise, rna_pca),
    "RNA thinned to a tenth": (0, thinned, second),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="MuData files with raw counts")
    parser.add_argument("--labels", default="cell_type", help="column of known labels")
    parser.add_argument("--cases", nargs="+", choices=tuple(CASES), default=tuple(CASES), metavar="CASE")
    parser.add_argument("--precision", default="bf16-mixed", choices=("32-true", "bf16-mixed"))
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--results", type=Path, help="JSON file of the docs' table to put the rows into")
    parser.add_argument("--output", type=Path, default=Path("weak_modality"), help="folder of results")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    logging.getLogger("scmag_muon").setLevel(logging.ERROR)
    rows = []
    for file in arguments.files:
        for case in arguments.cases:
            for seed in range(arguments.seed, arguments.seed + arguments.seeds):
                settings = {key: getattr(arguments, key) for key in ("labels", "precision")} | {"seed": seed}
                found = kept(arguments.output, file, case, settings, partial(_run, file, case, seed, arguments))
                rows.append({"set": file.stem, "case": case, **found})
                print(rows[-1], flush=True)
    if arguments.results:
        means = pd.DataFrame(rows).groupby(["set", "case"], sort=False).mean().reset_index()
        results.merge(arguments.results, means.rename(columns=COLUMNS).to_dict("records"), command=COMMAND, n_keys=2)
    text = markdown(pd.DataFrame(rows).set_index("set").map(lambda v: f"{v:.3f}" if isinstance(v, float) else v), "set")
    (arguments.output / "weak_modality.md").write_text(text + "\n")
    print(text)


def _run(file: Path, case: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    with no_pull_on_update(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mdata = mudata.read_h5mu(file)
        names = modality_names(mdata)
        which, spoil, alone = CASES[case]
        if spoil is not None:
            rng = np.random.default_rng(seed)
            mdata.mod[names[which]].X = spoil(sp.csr_matrix(mdata.mod[names[which]].X), rng)
        labels = mdata.obs[arguments.labels]
        n_types = known(labels).nunique()
        batch_key = "batch" if "batch" in mdata.obs else None
        options = Options(seed)
        # cells that lost all their counts of a modality are left in: every method must bear them
        baseline = Clusterings(alone(mdata, options), n_types, seed)
        smm.tl.scmag(
            mdata,
            n_clusters=n_types,
            batch_key=batch_key,
            precision=arguments.precision,
            random_state=seed,
            progress_bar=False,
        )
    clusterings = {
        "scMAG": mdata.obs["scmag"].to_numpy(),
        "alone, Leiden": baseline.leiden(n_types),
        "alone, k-means": baseline.kmeans(n_types),
    }
    scores = {name: smm.metrics.clustering_scores(labels, found)["ARI"] for name, found in clusterings.items()}
    records = [mdata.mod[name].uns["manifold"] for name in names]
    weights = {f"weight {i + 1}": float(record["modality_weight"]) for i, record in enumerate(records)}
    return scores | weights | {"concordance": float(records[0]["concordance"])}


if __name__ == "__main__":
    main()
