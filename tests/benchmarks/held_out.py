"""How well the model foretells counts that it has not seen, beside totalVI and MultiVI.

Run with ``python tests/benchmarks/held_out.py FILE.h5mu [FILE.h5mu ...] --output FOLDER``. A fifth of the counts, chosen at random
(binomially, count by count), is set aside; every method is fitted on the rest of the same features and gives each cell its profile,
the share that each feature has in the cell's counts. The score of a profile is the logarithm of its shares, mean over the counts set
aside, less that of the profile of all cells: nats per count, 0 where cells are not told apart. Beside the methods stand the
profiles of the published types and those of each cell's 15 nearest cells. Runs are kept in the folder
and not repeated while data, settings and, for ours, code stay the same.
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
import scvi
import torch
from common import kept, known, markdown
from peers import Options, concat, trained_peer

import scmag_muon as smm
from scmag_muon._mudata import get_counts, make_mudata, modality_kind, modality_names, no_pull_on_update
from scmag_muon.manifold.information import split_counts
from scmag_muon.manifold.neighbors import indicator, nearest_neighbors
from scmag_muon.pp._features import select_features

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

SHARE = 0.2
COMMAND = "python tests/benchmarks/held_out.py FILES --output FOLDER --results tests/benchmarks/results/held_out.json"
N_NEIGHBORS = 15
_PSEUDOCOUNT = 0.5  # in proportion to the profile of all cells, in one cell's sum
_CELLS = 512


def halves(file: Path, seed: int) -> tuple[MuData, MuData]:
    """The counts to fit, of the features that ``pp.manifold_fit`` chooses, and those set aside."""
    mdata = mudata.read_h5mu(file)
    rng = np.random.default_rng(seed)
    fitted, aside = {}, {}
    for name in modality_names(mdata):
        adata = mdata.mod[name]
        counts = get_counts(adata, modality=name)
        kind = modality_kind(name, adata)
        chosen = np.flatnonzero(select_features(adata, counts, modality=name, kind=kind, mask_var=None))
        adata = adata[:, chosen].copy()
        whole = sp.csr_array(counts[:, chosen])
        part, rest = split_counts(whole, share=SHARE, random_state=rng)
        seen = np.asarray(rest.sum(axis=0)).ravel() > 0
        for parts, matrix in ((fitted, rest), (aside, part)):
            parts[name] = adata[:, seen].copy()
            parts[name].X = sp.csr_matrix(matrix[:, seen], dtype=np.float32)
            parts[name].var["highly_variable"] = True
    return make_mudata(fitted, mdata.obs), make_mudata(aside, mdata.obs)


Profiles = dict[str, np.ndarray]


def _ours(mdata: MuData, options: Options, n_clusters: int, *ablate: str, **network: Any) -> Profiles:
    """The expected counts (1 - π) μ: without the dropout of eq. 24, which the layer of denoised counts leaves out."""
    model = smm.tl.scmag(
        mdata,
        n_clusters=n_clusters,
        batch_key=options.batch_key,
        ablate=ablate,
        random_state=options.seed,
        progress_bar=False,
        return_model=True,
        model_kwargs=network,
        **({} if options.max_epochs is None else {"max_epochs_pretrain": options.max_epochs, "max_epochs": 2}),
    )
    module = model.module
    blocks: list[list[np.ndarray]] = [[], []]
    with torch.inference_mode():
        for tensors, inference in model._inferred(*model._asked(None, None, None), counts=True, batches=True):
            inputs = module._get_generative_input(tensors, inference)
            inputs["totals"] = module.median_totals.expand(len(inputs["zr"]), -1)
            for block, (log_mean, _, logits) in zip(
                blocks, module.zinb_parameters(**module.generative(**inputs)), strict=True
            ):
                block.append((log_mean.exp() * torch.sigmoid(-logits)).numpy())
    return dict(zip(modality_names(mdata), map(np.concatenate, blocks), strict=True))


def _scvi(mdata: MuData, options: Options, _: int) -> Profiles:
    scvi.settings.seed = options.seed
    rna, other = modality_names(mdata)
    model = trained_peer(mdata, options)
    if modality_kind(other, mdata.mod[other]) == "protein":
        found = model.get_normalized_expression(n_samples=10, include_protein_background=True, return_numpy=True)
        return dict(zip((rna, other), map(np.asarray, found), strict=True))
    chromatin = model.get_normalized_accessibility(return_numpy=True)
    return {rna: _multivi_expression(model), other: np.asarray(chromatin)}


def _multivi_expression(model: Any) -> np.ndarray:
    """With the dropout of its zero-inflated likelihood, which ``get_normalized_expression`` leaves out."""
    blocks = []
    with torch.inference_mode():
        for tensors in model._make_data_loader(adata=model.adata):
            _, expected = model.module(tensors, generative_kwargs={"use_z_mean": True}, compute_loss=False)
            blocks.append((expected["px_scale"] * torch.sigmoid(-expected["px_dropout"])).numpy())
    return np.concatenate(blocks)


def _types(mdata: MuData, *_: Any) -> Profiles:
    codes, _ = pd.factorize(mdata.obs["cell_type"].astype(str))
    members = sp.csr_matrix((np.ones(len(codes)), (codes, np.arange(len(codes)))))
    return {name: _smooth(members @ mdata.mod[name].X)[codes] for name in modality_names(mdata)}


def _neighbors(mdata: MuData, options: Options, _: int) -> Profiles:
    near = indicator(nearest_neighbors(np.ascontiguousarray(concat(mdata, options), dtype=np.float32), N_NEIGHBORS))
    return {name: _smooth(near @ mdata.mod[name].X) for name in modality_names(mdata)}


def _smooth(counts: sp.csr_matrix) -> np.ndarray:
    counts = np.asarray(counts.todense())
    return counts + _PSEUDOCOUNT * counts.shape[1] * counts.sum(axis=0) / counts.sum()


METHODS: dict[str, Callable[..., Profiles]] = {
    "scmag_muon": _ours,
    "scmag_muon, no manifold fitting": lambda *a: _ours(*a, "manifold"),
    "scmag_muon, no two-stage fusion": lambda *a: _ours(*a, "two_stage"),
    "scmag_muon, no gate": lambda *a: _ours(*a, "gate"),
    "scmag_muon, dispersion of each cell": lambda *a: _ours(*a, dispersion="gene-cell"),
    "totalVI or MultiVI": _scvi,
    "published types": _types,
    "15 nearest cells": _neighbors,
}


def nats_per_count(profiles: np.ndarray, aside: sp.csr_matrix, overall: np.ndarray) -> float:
    """Mean over the counts set aside of the log share in the cell's profile, less that in the profile of all cells."""
    total = 0.0
    base = np.log(overall / overall.sum())
    for start in range(0, len(profiles), _CELLS):
        part = profiles[start : start + _CELLS].astype(np.float64)
        shares = np.log(np.maximum(part / part.sum(axis=1, keepdims=True), 1e-12))
        total += float(aside[start : start + _CELLS].multiply(shares - base).sum())
    return total / float(aside.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="MuData files with raw counts")
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=tuple(METHODS), metavar="METHOD")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("held_out"), help="folder of results")
    parser.add_argument("--results", type=Path, help="JSON file of the docs' table to put the rows into")
    parser.add_argument("--max-epochs", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    logging.getLogger("scmag_muon").setLevel(logging.ERROR)
    rows = []
    for file in arguments.files:
        for method in arguments.methods:
            settings = {"seed": arguments.seed, "max_epochs": arguments.max_epochs}
            compute = partial(_run, file, method, arguments)
            found = kept(arguments.output, file, method, settings, compute, ours=method.startswith("scmag_muon"))
            rows.append({"set": file.stem, "method": method, **found})
            print(rows[-1], flush=True)
    if arguments.results:
        named = {"rna": "RNA", "protein": "second modality", "atac": "second modality", "method": "model"}
        renamed = [{named.get(key, key): value for key, value in row.items()} for row in rows]
        results.merge(arguments.results, renamed, command=COMMAND, n_keys=2)
    table = pd.DataFrame(rows).set_index("set")
    table.to_csv(arguments.output / "held_out.csv")
    print(markdown(table.map(lambda v: f"{v:.4f}" if isinstance(v, float) else v), "set"))


def _run(file: Path, method: str, arguments: argparse.Namespace) -> dict[str, float]:
    with no_pull_on_update(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted, aside = halves(file, arguments.seed)
        n_clusters = known(fitted.obs["cell_type"]).nunique()
        options = Options(arguments.seed, "batch" if "batch" in fitted.obs else None, arguments.max_epochs)
        counts = {name: np.asarray(fitted.mod[name].X.sum(axis=0)).ravel() for name in modality_names(fitted)}
        profiles = METHODS[method](fitted, options, n_clusters)
        return {
            modality_kind(name, aside.mod[name]): nats_per_count(profiles[name], aside.mod[name].X, counts[name])
            for name in modality_names(fitted)
        }


if __name__ == "__main__":
    main()
