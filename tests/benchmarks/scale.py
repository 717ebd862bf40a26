"""Time and memory of a run from a file on disk, by the number of cells.

Run with ``python tests/benchmarks/scale.py --cells 10000 100000 1000000 --output FOLDER``. Cells of twelve types, 2,000 genes and 100
proteins are written to FOLDER block by block, the same types for every number of cells. Each number is run in a process of its
own on the file opened backed. Of each, seconds on the clock and of the processors, of the fit alone, epochs, peak memory, recall of
the neighbours and ARI with the types are told. They are kept in FOLDER: after an interruption the same command goes on with what is
missing. ``--epochs 4 2`` trains for so few epochs, ``--fit-only`` for none. ``--by-request`` makes no fitted layers, as for more
than 2e8 values, however few the cells are. ``--peers`` adds scanpy on RNA alone, muon's WNN and an epoch of totalVI.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import anndata
import h5py
import mudata
import numpy as np
import pandas as pd
import results
import scipy.sparse as sp
from common import markdown

import scmag_muon as smm
from scmag_muon._keys import Keys
from scmag_muon._mudata import _fitted, make_mudata
from scmag_muon.manifold.neighbors import nearest_in
from scmag_muon.model import _data

BLOCK = 10_000
TYPES = 12
GENES, PROTEINS = 2000, 100
# mean and deviation of the logarithm of a feature's mean, share of features that differ between types, by how much; dispersion
ASSAYS = {"rna": (GENES, -2.4, 1.2, 0.3, 0.7, 2.0), "prot": (PROTEINS, 2.0, 0.8, 0.6, 0.5, 4.0)}
FEATURE_TYPES = {"rna": "Gene Expression", "prot": "Antibody Capture"}
ASKED = 300
OURS = "scmag_muon"
COLUMNS = ("s", "CPU s", "fit s", "epochs", "peak GB", "recall", "ARI")
COMMAND = "python tests/benchmarks/scale.py --cells 100000 300000 1000000 --output FOLDER --results tests/benchmarks/results/scale.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, nargs="+", default=[10_000, 100_000, 300_000, 1_000_000])
    parser.add_argument("--epochs", type=int, nargs=2, help="most epochs before and with clustering, else the usual")
    parser.add_argument("--output", type=Path, default=Path("scale"), help="folder of files and results")
    parser.add_argument("--by-request", action="store_true", help="fitted rows of each minibatch from the counts")
    parser.add_argument("--fit-only", action="store_true", help="neither network nor clusters")
    parser.add_argument("--peers", action="store_true", help="other methods in addition")
    parser.add_argument("--results", type=Path, help="JSON file of the docs' table to put the rows into")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        print(json.dumps(_child(arguments)))
        return
    arguments.output.mkdir(parents=True, exist_ok=True)
    options = ["--epochs", *map(str, arguments.epochs)] if arguments.epochs else []
    options += [f"--{option.replace('_', '-')}" for option in ("by_request", "fit_only") if getattr(arguments, option)]
    works = {OURS + ("" if not options else f" ({' '.join(options)})"): options}
    if arguments.peers:
        from scale_peers import PEERS

        works |= {peer: ["--peer", peer] for peer in PEERS}
    rows: list[dict[str, Any]] = []
    for n_cells in arguments.cells:
        for work, of_work in works.items():
            result = arguments.output / f"{'-'.join([str(n_cells), *map(_in_file_name, of_work)])}.json"
            if not result.exists():
                file = simulated(arguments.output / f"{n_cells}.h5mu", n_cells)
                result.write_text(json.dumps(in_child(file, of_work)))
            found = json.loads(result.read_text())
            rows.append({"cells": f"{n_cells:,}", "what": work, **{name: found.get(name) for name in COLUMNS}})
            table = pd.DataFrame(rows).set_index("cells").map(lambda x: f"{x:,.4g}" if isinstance(x, float) else x)
            print(markdown(table, "cells"), flush=True)
    if arguments.results:
        results.merge(arguments.results, list(map(_shown, rows)), command=COMMAND, n_keys=2)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """Figures as the docs have them."""
    text = {
        name: f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        for name, value in row.items()
        if _is_size(name, value)
    }
    return {**{name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()}, **text}


def _is_size(name: str, value: Any) -> bool:
    return isinstance(value, float) and name not in ("recall", "ARI")


def _in_file_name(option: str) -> str:
    return "".join(letter for letter in option if letter.isalnum())


def in_child(file: Path, options: list[str]) -> dict[str, float]:
    """What a process of its own measures; its peak memory is that of the run alone."""
    command = [sys.executable, __file__, "--child", str(file), *options]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _child(arguments: argparse.Namespace) -> dict[str, float]:
    logging.getLogger("scmag_muon").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    if arguments.peer is not None:
        from scale_peers import PEERS

        found = PEERS[arguments.peer](mudata.read_h5mu(arguments.child))
    else:
        if arguments.by_request:
            _fitted.LARGE, _data._MOST_BYTES = 0, 0
        epochs = arguments.epochs or (None, None)
        found = measured(arguments.child, *epochs, fit_only=arguments.fit_only)
    return {**found, "CPU s": time.process_time(), "peak GB": _peak()}


def measured(
    file: Path, max_epochs_pretrain: int | None, max_epochs: int | None, *, fit_only: bool = False
) -> dict[str, float]:
    mdata = mudata.read_h5mu(file, backed="r")
    before, started = _megabytes_read(), time.perf_counter()
    smm.pp.manifold_fit(mdata)
    fitted, peak_of_fit = time.perf_counter(), _peak()
    result = {"fit s": fitted - started, "peak of fit GB": peak_of_fit}
    if not fit_only:
        smm.tl.scmag(
            mdata,
            n_clusters=TYPES,
            max_epochs_pretrain=max_epochs_pretrain,
            max_epochs=max_epochs,
            write_layers="none",
            progress_bar=False,
        )
        result["epochs"] = len(mdata.uns["scmag"]["history"])
        result["ARI"] = smm.metrics.clustering_scores(mdata.obs["cell_type"], mdata.obs["scmag"])["ARI"]
    result["s"] = time.perf_counter() - started
    result |= {"peak GB": _peak(), "read MB": _megabytes_read() - before, "recall": recall(mdata)}
    mdata.file.close()
    return result


def recall(mdata: mudata.MuData) -> float:
    """Share of the exact nearest cells of some cells that the fit has found."""
    joint = np.asarray(mdata.obsm[Keys.joint_embedding(Keys.MANIFOLD)])
    lists = mdata.obsp[Keys.neighbor_lists(Keys.MANIFOLD, "rbf")]
    asked = np.random.default_rng(0).choice(len(joint), min(ASKED, len(joint)), replace=False)
    exact = nearest_in(joint[asked], joint, int(lists.indptr[1]))
    found = [np.isin(row, lists[[cell]].indices).mean() for cell, row in zip(asked, exact, strict=True)]
    return float(np.mean(found))


def simulated(file: Path, n_cells: int) -> Path:
    """The file of so many cells, written aside first, never more than a block of cells in memory."""
    if file.exists():
        return file
    types = np.random.default_rng(1).integers(TYPES, size=n_cells)
    obs = pd.DataFrame({"cell_type": pd.Categorical.from_codes(types, [f"type_{i}" for i in range(TYPES)])})
    obs.index = pd.Index([f"cell_{i}" for i in range(n_cells)])
    mods = {}
    for name, (n_features, *_) in ASSAYS.items():
        var = pd.DataFrame({"feature_types": FEATURE_TYPES[name]}, index=[f"{name}_{i}" for i in range(n_features)])
        mods[name] = anndata.AnnData(sp.csr_matrix((n_cells, n_features), dtype=np.float32), obs=obs[[]], var=var)
    draft = file.with_suffix(".draft.h5mu")
    make_mudata(mods, obs).write_h5mu(draft)
    with h5py.File(draft, "r+") as opened:
        for name in mods:
            for start in range(0, n_cells, BLOCK):
                counts = drawn(name, types[start : start + BLOCK], start)
                if start == 0:
                    del opened[f"mod/{name}/X"]
                    anndata.io.write_elem(opened[f"mod/{name}"], "X", counts)
                else:
                    anndata.io.sparse_dataset(opened[f"mod/{name}/X"]).append(counts)
    draft.rename(file)
    return file


def drawn(name: str, types: np.ndarray, start: int) -> sp.csr_matrix:
    """Counts of cells of these types, negative binomial; the seed is of the block, so that the first cells are always the same."""
    n_features, mean, deviation, share, strength, dispersion = ASSAYS[name]
    rng = np.random.default_rng([7, n_features])
    log_mean = rng.normal(mean, deviation, n_features)
    differs = rng.random((TYPES, n_features)) < share
    log_means = log_mean + strength * rng.standard_normal((TYPES, n_features)) * differs
    rng = np.random.default_rng([11, n_features, start])
    means = np.exp(log_means)[types] * rng.lognormal(-0.06, 0.35, (len(types), 1))
    return sp.csr_matrix(rng.poisson(rng.gamma(dispersion, means / dispersion)).astype(np.float32))


def _peak() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def _megabytes_read() -> float:
    io: Any = Path("/proc/self/io")
    return int(io.read_text().split()[1]) / 1e6 if io.exists() else float("nan")


if __name__ == "__main__":
    main()
