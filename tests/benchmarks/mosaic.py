"""Cells that lack a modality: agreement with known labels, mixing by what is lacking, and how well hidden counts are foretold.

Run with ``python tests/benchmarks/mosaic.py FILE.h5mu [FILE.h5mu ...] --hide half --output FOLDER``. ``--hide half`` takes the
second modality from a random half of the cells, ``--hide batch`` from the last batch; ``--hide none`` takes a file that lacks
something already; ``--join`` joins two files through the genes that they share. Runs are kept in the folder and not repeated while data, settings and code stay the same.
``--results tests/benchmarks/results/mosaic_SET.json`` puts the rows of one set into the file of which the docs' table is made.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata
import mudata
import muon
import numpy as np
import pandas as pd
import results
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData
from common import kept, known, markdown
from peers import N_COMPONENTS, N_GENES, Clusterings, Options, in_order, mofa_factors
from sklearn.neighbors import NearestNeighbors

import scmag_muon as smm
from scmag_muon._keys import Keys
from scmag_muon._mudata import make_mudata, modality_kind, no_pull_on_update
from scmag_muon._values import normalize

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

EVERYWHERE = "everywhere"
SHOWN = {
    "scmag": "scmag_muon",
    "scmag_no_batches": "scmag_muon, batches not told",
    "scmag_complete": "scmag_muon, nothing hidden",
    "scmag_rna": "scmag_muon, RNA alone",
    "rna_knn": "15 nearest cells in RNA",
    "rna_knn_logs": "15 nearest cells in RNA, mean of logarithms",
    "totalvi": "totalVI",
    "multivi": "MultiVI",
    "mofa": "MOFA+",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="MuData files with raw counts")
    parser.add_argument("--hide", choices=("half", "batch", "none"), default="half")
    parser.add_argument("--join", action="store_true", help="join the files through their shared genes")
    parser.add_argument("--labels", default="cell_type", help="column of known labels")
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=tuple(METHODS), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--max-epochs", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=Path("mosaic"), help="folder of results")
    parser.add_argument("--results", type=Path, help="JSON file of a docs' table to put the rows of one set into")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    logging.getLogger("scmag_muon").setLevel(logging.ERROR)
    groups = [arguments.files] if arguments.join else [[file] for file in arguments.files]
    rows = []
    for files in groups:
        for seed in range(arguments.seeds):
            for method in arguments.methods:
                settings = {key: getattr(arguments, key) for key in ("hide", "labels", "max_epochs")}
                settings |= {"seed": seed, "files": [file.stem for file in files]}
                compute = partial(_run, files, method, seed, arguments)
                what = f"{method} {arguments.hide} {seed}"
                found = kept(arguments.output, files[0], what, settings, compute, ours=method.startswith("scmag"))
                rows.append({"set": "+".join(file.stem for file in files), "seed": seed, "method": method, **found})
                print(rows[-1], flush=True)
    table = pd.DataFrame(rows).set_index("set")
    text = markdown(
        table.map(lambda v: "" if v is None or v != v else f"{v:.3f}" if isinstance(v, float) else v), "set"
    )
    (arguments.output / f"mosaic_{arguments.hide}.md").write_text(text + "\n")
    print(text)
    if arguments.results:
        keep(table, arguments)


def keep(table: pd.DataFrame, arguments: argparse.Namespace) -> None:
    """Put the mean over seeds of each method into the file of results."""
    means = (
        table.groupby("method", sort=False).mean(numeric_only=True).drop(columns=["seed", "seconds"], errors="ignore")
    )
    means = means.dropna(axis=1, how="all").rename(columns={f"ARI {EVERYWHERE}": "ARI"})
    rows = [{"method": SHOWN[str(method)], **row} for method, row in means.to_dict("index").items()]
    files = " ".join(file.name for file in arguments.files)
    options = f"--hide {arguments.hide} {'--join ' if arguments.join else ''}--seeds {arguments.seeds}"
    command = f"python tests/benchmarks/mosaic.py {files} {options}"
    results.merge(arguments.results, rows, command=command, n_keys=1)


def read(files: list[Path]) -> MuData:
    """One file, or several joined through the genes that they share; batches of different files are different ones."""
    with no_pull_on_update(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = {file.stem: mudata.read_h5mu(file) for file in files}
        if len(read) == 1:
            return next(iter(read.values()))
        mods, frames = {}, []
        for stem, mdata in read.items():
            batch = stem + ":" + mdata.obs["batch"].astype(str)
            frames.append(mdata.obs[["cell_type"]].assign(batch=batch).rename(index=partial(_of_file, stem)))
        for name in dict.fromkeys(name for mdata in read.values() for name in mdata.mod):
            parts = {stem: _bare(mdata.mod[name]) for stem, mdata in read.items() if name in mdata.mod}
            for stem, part in parts.items():
                part.obs_names = [_of_file(stem, cell) for cell in part.obs_names]
            mods[name] = anndata.concat(list(parts.values()), join="inner")
        return make_mudata(mods, pd.concat(frames))


def _of_file(stem: str, cell: str) -> str:
    return f"{stem}:{cell}"


def hidden(mdata: MuData, how: str, seed: int) -> tuple[MuData, dict[str, pd.DataFrame]]:
    """The MuData with a modality taken from some cells, and the counts that were taken, by modality."""
    if how == "none":
        return mdata, {}
    name = list(mdata.mod)[1]
    if how == "half":
        rows = np.random.default_rng(seed).permutation(mdata.n_obs) < mdata.n_obs // 2
    else:
        batch = mdata.obs["batch"].astype("category")
        rows = (batch == batch.cat.categories[-1]).to_numpy()
    own = mdata.mod[name].obs_names.isin(mdata.obs_names[rows])
    taken = mdata.mod[name][own]
    mods = {key: adata if key != name else adata[~own].copy() for key, adata in mdata.mod.items()}
    truth = pd.DataFrame(taken.X.toarray(), index=taken.obs_names, columns=taken.var_names)
    return make_mudata(mods, mdata.obs), {name: truth}


def pattern(mdata: MuData) -> pd.Series:
    """What each cell has, as ``"rna+prot"``."""
    has = pd.DataFrame({name: mdata.obs_names.isin(adata.obs_names) for name, adata in mdata.mod.items()})
    return has.apply(lambda row: "+".join(name for name in has.columns if row[name]), axis=1).set_axis(mdata.obs_names)


def _run(files: list[Path], method: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    complete = read(files)
    mdata, truth = hidden(complete, arguments.hide, seed)
    lacking = pattern(mdata)
    labels = mdata.obs[arguments.labels]
    options = Options(seed, "batch" if "batch" in mdata.obs else None, arguments.max_epochs)
    given = complete if method == "scmag_complete" else mdata
    started = time.perf_counter()
    with no_pull_on_update(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, embedding, imputed = METHODS[method](given, known(labels).nunique(), options)
    seconds = time.perf_counter() - started
    cells_of = given.obs_names if len(found) == given.n_obs else next(iter(given.mod.values())).obs_names
    found, has = pd.Series(found, index=cells_of), lacking.loc[cells_of]
    row: dict[str, Any] = {}
    for name in (EVERYWHERE, *sorted(lacking.unique())):
        cells = has.index if name == EVERYWHERE else has.index[has == name]
        if not len(cells):
            continue
        scores = smm.metrics.clustering_scores(labels.loc[cells], found.loc[cells])
        row |= {f"ARI {name}": scores["ARI"]} | ({"NMI": scores["NMI"]} if name == EVERYWHERE else {})
    if arguments.join:
        files_of = pd.crosstab(labels.astype(str), labels.index.str.partition(":").get_level_values(0))
        common = labels.astype(str).isin(files_of.index[(files_of > 0).all(axis=1)]) & labels.notna()
        cells = has.index[common.loc[has.index]]
        row["ARI common types"] = smm.metrics.clustering_scores(labels.loc[cells], found.loc[cells])["ARI"]
    row["mixing"] = smm.metrics.batch_mixing(embedding, has)["mixing"] if has.nunique() > 1 else None
    for name, counts in truth.items():
        row |= _correlations(counts, imputed.get(name), modality_kind(name, complete.mod[name]))
    return {**row, "seconds": seconds}


def _correlations(truth: pd.DataFrame, imputed: pd.DataFrame | None, kind: Any) -> dict[str, float | None]:
    """Correlation of imputed with hidden values, both normalised: median over features, and over cells."""
    if imputed is None:
        return {"r per feature": None, "r per cell": None}
    columns = [name for name in imputed.columns if name in truth.columns]
    one = _normalised(truth[columns], kind)
    other = _normalised(imputed.loc[truth.index, columns], kind)
    return {
        "r per feature": float(np.nanmedian([_r(one[:, j], other[:, j]) for j in range(len(columns))])),
        "r per cell": float(np.nanmedian([_r(one[i], other[i]) for i in range(len(one))])),
    }


def _normalised(counts: pd.DataFrame, kind: Any) -> np.ndarray:
    values = normalize(sp.csr_array(counts.to_numpy(dtype=np.float32)), kind)
    return np.asarray(values.toarray() if sp.issparse(values) else values)


def _r(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(x, y)[0, 1]) if x.std() > 0 and y.std() > 0 else np.nan


Found = tuple[np.ndarray, np.ndarray, dict[str, pd.DataFrame]]


def scmag(mdata: MuData, n_clusters: int, options: Options, **settings: Any) -> Found:
    if options.max_epochs is not None:
        settings |= {"max_epochs_pretrain": options.max_epochs, "max_epochs": options.max_epochs}
    smm.tl.scmag(
        mdata,
        n_clusters=n_clusters,
        batch_key=options.batch_key,
        random_state=options.seed,
        progress_bar=False,
        **settings,
    )
    slots = {name: Keys.imputed(Keys.SCMAG, name) for name in mdata.mod}
    imputed = {name: mdata.obsm[slot] for name, slot in slots.items() if slot in mdata.obsm}
    return mdata.obs["scmag"].astype(int).to_numpy(), mdata.obsm["X_scmag"], imputed


def scmag_no_batches(mdata: MuData, n_clusters: int, options: Options) -> Found:
    """Without ``batch_key``, as MOFA+ runs."""
    return scmag(mdata, n_clusters, replace(options, batch_key=None))


def scmag_rna(mdata: MuData, n_clusters: int, options: Options) -> Found:
    """RNA alone, of all cells that have it."""
    rna = _bare(next(iter(mdata.mod.values())))
    return scmag(make_mudata({"rna": rna}, mdata.obs.loc[rna.obs_names]), n_clusters, options)


def rna_knn(mdata: MuData, n_clusters: int, options: Options, *, logs: bool = False) -> Found:
    """RNA alone by its components, of cells that have it; counts of the others are the mean of the 15 nearest cells that have both.

    With ``logs`` it is the mean of the logarithms.
    """
    names = list(mdata.mod)
    rna = _bare(mdata.mod[names[0]])
    sc.pp.normalize_total(rna)
    sc.pp.log1p(rna)
    if rna.n_vars > N_GENES:
        sc.pp.highly_variable_genes(rna, n_top_genes=N_GENES)
        rna = rna[:, rna.var["highly_variable"]].copy()
    sc.pp.scale(rna, max_value=10)
    sc.pp.pca(rna, n_comps=N_COMPONENTS, random_state=options.seed)
    space = pd.DataFrame(rna.obsm["X_pca"], index=rna.obs_names)
    imputed = {}
    for name in names[1:]:
        adata = mdata.mod[name]
        both = adata.obs_names.intersection(space.index)
        near = NearestNeighbors(n_neighbors=15).fit(space.loc[both]).kneighbors(space, return_distance=False)
        counts = adata[both].X.toarray()
        mean = np.expm1(np.log1p(counts)[near].mean(axis=1)) if logs else counts[near].mean(axis=1)
        imputed[name] = pd.DataFrame(mean, index=space.index, columns=adata.var_names)
    found = Clusterings(space.to_numpy(), n_clusters, options.seed).leiden(n_clusters)
    whole = pd.Series(found, index=space.index).reindex(mdata.obs_names, fill_value=-1)
    return whole.to_numpy(), space.reindex(mdata.obs_names, fill_value=0.0).to_numpy(), imputed


def mofa(mdata: MuData, n_clusters: int, options: Options) -> Found:
    mods = {name: _bare(adata) for name, adata in mdata.mod.items()}
    for name, adata in mods.items():
        if modality_kind(name, adata) == "protein":
            adata.X = adata.X.toarray()
            muon.prot.pp.clr(adata)
        else:
            sc.pp.normalize_total(adata)
            sc.pp.log1p(adata)
            if adata.n_vars > N_GENES:
                sc.pp.highly_variable_genes(adata, n_top_genes=N_GENES)
                mods[name] = adata[:, adata.var["highly_variable"]].copy()
    joint = make_mudata(mods)
    factors = mofa_factors(joint, options, use_obs="union")
    embedding = pd.DataFrame(factors, index=joint.obs_names).loc[mdata.obs_names].to_numpy()
    return Clusterings(embedding, n_clusters, options.seed).leiden(n_clusters), embedding, {}


def totalvi(mdata: MuData, n_clusters: int, options: Options) -> Found:
    """Proteins may be missing in a batch: cells that lack them are a batch of their own. Cells without RNA have zeros."""
    return _scvi(mdata, n_clusters, options, "TOTALVI", {"rna_layer": "rna", "protein_layer": "prot"})


def multivi(mdata: MuData, n_clusters: int, options: Options) -> Found:
    names = {"rna": "rna_layer", "atac": "atac_layer", "prot": "protein_layer"}
    return _scvi(mdata, n_clusters, options, "MULTIVI", {of: name for name, of in names.items() if name in mdata.mod})


def _scvi(mdata: MuData, n_clusters: int, options: Options, model_class: str, modalities: dict[str, str]) -> Found:
    import scvi

    scvi.settings.seed = options.seed
    joint = in_order(_padded(mdata), modalities.values())
    joint.obs["of"] = pattern(mdata).to_numpy()
    if options.batch_key is not None:
        joint.obs["of"] = joint.obs["of"] + mdata.obs[options.batch_key].astype(str).to_numpy()
    cls = getattr(scvi.model, model_class)
    cls.setup_mudata(joint, batch_key="of", modalities=modalities)
    size = {}
    if model_class == "MULTIVI":
        size = {"n_genes": joint.mod["rna"].n_vars, "n_regions": joint.mod["atac"].n_vars}
    model = cls(joint, **size)
    epochs = {} if options.max_epochs is None else {"max_epochs": options.max_epochs}
    model.train(enable_progress_bar=False, **epochs)
    imputed = {}
    if model_class == "TOTALVI":
        complete = [of for of in joint.obs["of"].unique() if "prot" in of]
        _, proteins = model.get_normalized_expression(
            n_samples=10, return_mean=True, transform_batch=complete, include_protein_background=True
        )
        imputed["prot"] = proteins
    embedding = model.get_latent_representation()
    return Clusterings(embedding, n_clusters, options.seed).leiden(n_clusters), embedding, imputed


def _padded(mdata: MuData) -> MuData:
    """Every modality with all cells, with zeros where it was not measured, as scvi-tools wants it."""
    mods = {}
    for name, adata in mdata.mod.items():
        bare = _bare(adata)
        if bare.n_vars > N_GENES:
            scratch = bare.copy()
            sc.pp.normalize_total(scratch)
            sc.pp.log1p(scratch)
            sc.pp.highly_variable_genes(scratch, n_top_genes=N_GENES)
            bare = bare[:, scratch.var["highly_variable"]].copy()
        rows = bare.obs_names.get_indexer(mdata.obs_names)
        has = sp.csr_matrix(
            (np.ones((rows >= 0).sum()), (np.flatnonzero(rows >= 0), rows[rows >= 0])), shape=(len(rows), bare.n_obs)
        )
        counts = sp.csr_matrix(has @ bare.X, dtype=np.float32)
        if modality_kind(name, bare) == "protein":
            counts = counts.toarray()
        mods[name] = AnnData(counts, obs=pd.DataFrame(index=mdata.obs_names), var=bare.var)
    return make_mudata(mods)


def _bare(adata: AnnData) -> AnnData:
    return AnnData(
        sp.csr_matrix(adata.X, dtype=np.float32, copy=True), obs=adata.obs[[]].copy(), var=adata.var[[]].copy()
    )


METHODS: dict[str, Callable[[MuData, int, Options], Found]] = {
    "scmag": scmag,
    "scmag_no_batches": scmag_no_batches,
    "scmag_complete": scmag,
    "scmag_rna": scmag_rna,
    "rna_knn": rna_knn,
    "rna_knn_logs": partial(rna_knn, logs=True),
    "totalvi": totalvi,
    "multivi": multivi,
    "mofa": mofa,
}


if __name__ == "__main__":
    main()
