"""New cells onto a trained reference: labels, calibration, cells of types that it lacks, beside two plain classifiers.

Run with ``python tests/benchmarks/query.py FILE.h5mu [FILE.h5mu ...] --split fifth --output FOLDER``. ``--split fifth`` holds out a
random fifth of the cells, ``--split batch`` the last batch (``--reference NAME ...`` names those that stay), ``--split type`` a fifth
of the cells and, in turn, all cells of each type from the rest, ``--split none`` nothing. Queries are asked about with all that was measured, with each
modality alone, with counts thinned to a third and with every second feature of the second modality; ``--variants panels`` with ten
random halves of these; ``--variants many`` with 10,000 cells, drawn from the query and thinned to nine tenths, to see how long that
takes beside the training. Runs are kept in the folder and not repeated while data, settings and code stay the same. Labels do not
rest on the network, so ``--no-network`` gives the same.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pandas as pd
import results
import scipy.sparse as sp
from anndata import AnnData
from common import kept, markdown
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import scmag_muon as smm
from scmag_muon import _mudata
from scmag_muon._mudata import make_mudata, modality_kind, no_pull_on_update
from scmag_muon.model._placing import as_seen_by, embedded
from scmag_muon.model._reference import Reference
from scmag_muon.tl._transfer import compared, transferred, unlikeness_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mudata import MuData

UNKNOWN = "unknown"
FEWEST = 20
MANY = 10_000
PANELS = 10
Answer = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Classes, probabilities ``(n_obs, n_classes)``, unlikeness ``(n_obs,)``."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="MuData files with raw counts")
    parser.add_argument("--split", choices=("fifth", "batch", "type", "none"), default="fifth")
    parser.add_argument("--reference", nargs="+", help="batches of the reference, with --split batch")
    parser.add_argument("--labels", default="cell_type", help="column of known labels")
    parser.add_argument("--variants", nargs="+", default=["full", "alone", "third", "half"], metavar="NAME")
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=tuple(METHODS)[:4], metavar="NAME")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--max-epochs", type=int, help="of both stages")
    parser.add_argument("--no-network", action="store_true", help="train none: labels and unlikeness do not rest on it")
    parser.add_argument("--output", type=Path, default=Path("query"), help="folder of results")
    parser.add_argument("--results", type=Path, help="file of tests/benchmarks/results/ in which to keep the means")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    logging.getLogger("scmag_muon").setLevel(logging.ERROR)
    rows = []
    for file in arguments.files:
        for seed in range(arguments.seeds):
            for method in arguments.methods:
                settings = {**vars(arguments), "seed": seed, **dict.fromkeys(("files", "methods", "output", "seeds"))}
                del settings["results"]
                compute = partial(_run, file, method, seed, arguments)
                what = f"query {method} {arguments.split} {seed}"
                found = kept(arguments.output, file, what, settings, compute, ours=method == "map_query")
                rows += [{"set": file.stem, "seed": seed, "method": method, **row} for row in found["rows"]]
                for row in found["rows"]:
                    print(file.stem, seed, method, row, flush=True)
    table = pd.DataFrame(rows).drop(columns="held_out")
    means = table.groupby(["set", "query", "method"], sort=False).mean(numeric_only=True).drop(columns="seed")
    text = markdown(means.map(lambda v: "" if v != v else f"{v:.3f}").reset_index().set_index("set"), "set")
    (arguments.output / f"query_{arguments.split}.md").write_text(text + "\n")
    print(text)
    if arguments.results is not None:
        keep(means.reset_index(), arguments)


def keep(means: pd.DataFrame, arguments: argparse.Namespace) -> None:
    """Put the means over seeds, and over types that were held out, into the file of results."""
    means = means.drop(columns="training").replace({"method": {"map_query": "scmag_muon"}})
    rows = [{"split": arguments.split, **row} for row in means.to_dict("records")]
    command = f"python tests/benchmarks/query.py FILE.h5mu --split SPLIT --no-network --seeds {arguments.seeds}"
    results.merge(arguments.results, rows, command=command, n_keys=4)


def read(file: Path) -> MuData:
    with no_pull_on_update(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mdata = mudata.read_h5mu(file)
    mods = {
        name: AnnData(sp.csr_matrix(adata.X), pd.DataFrame(index=adata.obs_names), adata.var[[]])
        for name, adata in mdata.mod.items()
    }
    return make_mudata(mods, mdata.obs)


def part(mdata: MuData, cells: np.ndarray, features: dict[str, slice | np.ndarray] | None = None) -> MuData:
    """Some cells, and of the modalities that any of them has, those named with the features to keep."""
    names = mdata.obs_names[cells]
    mods = {}
    for name, adata in mdata.mod.items():
        own = adata.obs_names.isin(names)
        if own.any() and (features is None or name in features):
            mods[name] = adata[own].copy()
            if features is not None:
                mods[name] = mods[name][:, features[name]].copy()
    return make_mudata(mods, mdata.obs.loc[names])


def splits(
    mdata: MuData, types: np.ndarray, seed: int, arguments: argparse.Namespace
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """What is held out, and which cells are reference and query."""
    if arguments.split == "none":
        yield "none", *np.ones((2, mdata.n_obs), dtype=bool)
        return
    fifth = np.random.default_rng(seed).permutation(mdata.n_obs) < mdata.n_obs // 5
    if arguments.split == "fifth":
        yield "fifth", ~fifth, fifth
    elif arguments.split == "batch":
        batches = mdata.obs["batch"].astype(str).to_numpy()
        of_reference = arguments.reference or sorted(set(batches))[:-1]
        inside = np.isin(batches, of_reference)
        for pattern in sorted({_pattern(mdata, cell) for cell in mdata.obs_names[~inside]}):
            yield (
                "batch " + "+".join(pattern),
                inside,
                ~inside & [_pattern(mdata, cell) == pattern for cell in mdata.obs_names],
            )
    else:
        for of_type, size in pd.Series(types).value_counts().items():
            if of_type != UNKNOWN and size >= FEWEST:
                yield str(of_type), ~fifth & (types != of_type), fifth


def _pattern(mdata: MuData, cell: str) -> tuple[str, ...]:
    return tuple(name for name, adata in mdata.mod.items() if cell in adata.obs_names)


def queries(query: MuData, variants: list[str], seed: int) -> Iterator[tuple[str, MuData]]:
    names, rng = list(query.mod), np.random.default_rng(seed)
    everything = np.ones(query.n_obs, dtype=bool)
    if "full" in variants:
        yield "+".join(names), query
    if "alone" in variants and len(names) > 1:
        for name in names:
            yield name, part(query, everything, {name: slice(None)})
    if "third" in variants:
        thinned = part(query, everything)
        for adata in thinned.mod.values():
            adata.X.data = rng.binomial(adata.X.data.astype(np.int64), 1 / 3).astype(np.float32)
        yield f"{'+'.join(names)}, a third of the counts", thinned
    if "half" in variants and names[-1] != "rna":
        features = {name: slice(None, None, 2 if name == names[-1] else None) for name in names}
        yield f"{'+'.join(names)}, half of {names[-1]}", part(query, everything, features)
    if "panels" in variants and names[-1] != "rna":
        n_vars = query.mod[names[-1]].n_vars
        for _ in range(PANELS):
            chosen = np.sort(rng.permutation(n_vars)[: n_vars // 2])
            features = {name: chosen if name == names[-1] else slice(None) for name in names}
            yield (
                f"{'+'.join(names)}, mean of {PANELS} panels of half of {names[-1]}",
                part(query, everything, features),
            )
    if "many" in variants:
        chosen = rng.integers(query.n_obs, size=MANY)
        cells = [f"cell{i}" for i in range(MANY)]
        mods = {}
        for name, adata in query.mod.items():
            counts = sp.csr_matrix(adata[query.obs_names].X)[chosen]
            counts.data = rng.binomial(counts.data.astype(np.int64), 0.9).astype(np.float32)
            mods[name] = AnnData(counts, pd.DataFrame(index=cells), adata.var[[]])
        yield f"{'+'.join(names)}, {MANY:,} cells", make_mudata(mods, query.obs.iloc[chosen].set_axis(cells))


def _run(file: Path, method: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    mdata, rows = read(file), []
    types = mdata.obs[arguments.labels].astype(object).fillna(UNKNOWN).astype(str).to_numpy()
    mdata.obs["type"] = types
    for held_out, inside, outside in splits(mdata, types, seed, arguments):
        reference, query = part(mdata, inside), part(mdata, outside)
        start = time.perf_counter()
        ask = METHODS[method](reference, seed, arguments)
        trained = time.perf_counter() - start
        for name, cells in queries(query, arguments.variants, seed):
            cells.obs["new"] = "new"
            start = time.perf_counter()
            answer = ask(cells)
            if answer is None:
                continue
            seconds = time.perf_counter() - start
            found = scores(answer, cells.obs["type"].to_numpy())
            rows.append({"held_out": held_out, "query": name, **found, "seconds": seconds, "training": trained})
    return {"rows": rows}


def scores(answer: Answer, types: np.ndarray) -> dict[str, float]:
    """Accuracy and macro F1 over cells with a known type, those of novel types among them as errors; calibration over the others."""
    classes, probabilities, unlike = answer
    best, sure = classes[probabilities.argmax(axis=1)], probabilities.max(axis=1)
    known, novel = types != UNKNOWN, ~np.isin(types, [*classes, UNKNOWN])
    right, seen = best == types, known & ~novel
    bins = np.minimum((sure * 10).astype(int), 9)
    error = sum(abs((sure - right)[seen & (bins == i)].sum()) for i in range(10)) / max(seen.sum(), 1)
    return {
        "accuracy": float(right[known].mean()),
        "macro_f1": float(f1_score(types[known], best[known], average="macro", zero_division=0)),
        "ece": float(error),
        "unknown": float((unlike[seen] > 1).mean()) if (unlike >= 0).all() else float("nan"),
        "novel_auroc": float(roc_auc_score(novel[known], unlike[known]))
        if 0 < novel.sum() < known.sum()
        else float("nan"),
    }


def map_query(reference: MuData, seed: int, arguments: argparse.Namespace) -> Callable[[MuData], Answer]:
    epochs = (
        {}
        if arguments.max_epochs is None
        else {"max_epochs_pretrain": arguments.max_epochs, "max_epochs": arguments.max_epochs}
    )
    batches = "batch" if "batch" in reference.obs and reference.obs["batch"].nunique() > 1 else None
    if arguments.no_network:
        return _by_fit_alone(reference, seed, batches)
    model = smm.tl.scmag(
        reference, batch_key=batches, random_state=seed, progress_bar=False, return_model=True, **epochs
    )
    classes = np.array(sorted(set(reference.obs["type"]) - {UNKNOWN}))  # columns of a data frame hold no slash

    def ask(cells: MuData) -> Answer:
        found = smm.tl.map_query(cells, model, labels="type", batch_key="new", copy=True)
        probabilities = found.obsm["scmag_type_probabilities"].to_numpy()
        return classes, probabilities, found.obs["scmag_type_unlikeness"].to_numpy()

    return ask


def _by_fit_alone(reference: MuData, seed: int, batches: str | None) -> Callable[[MuData], Answer]:
    """Labels and unlikeness as ``tl.map_query`` has them, from the same parts, without a network."""
    smm.pp.manifold_fit(reference, batch_key=batches, random_state=seed)
    fit = _mudata.read_fit(reference, "manifold")
    counts = {name: sp.csr_array(adata[:, fit.modality(name).features].X) for name, adata in reference.mod.items()}
    of = Reference(fit, counts, _mudata.text_columns(reference.obs))

    def ask(cells: MuData) -> Answer:
        query = _mudata.read_query(cells, fit, batch_key="new")
        seen = as_seen_by(query, of)
        found = SimpleNamespace(joint=embedded(query, seen), reference_joint=seen.joint)
        types = of.labels("type")
        patterns = compared(fit, found, query.present)
        carried = transferred(patterns, types)
        unlike = unlikeness_of(patterns, types, query.batches)
        return carried.classes, carried.probabilities, unlike

    return ask


def _values(mdata: MuData, name: str, features: pd.Index) -> np.ndarray:
    """Normalised counts, dense."""
    counts = mdata.mod[name][:, features].X.toarray()
    if modality_kind(name, mdata.mod[name]) == "protein":
        logs = np.log1p(counts)
        return logs - logs.mean(axis=1, keepdims=True)
    return np.log1p(1e4 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def _classifier(make: Callable[[int], Any], modalities: str, reference: MuData, *_: Any) -> Callable[[MuData], Answer]:
    """A classifier that is trained for each query on the features that it shares with the reference."""

    def ask(cells: MuData) -> Answer:
        names = [name for name in cells.mod if modalities == "all" or name == "rna" or "rna" not in cells.mod]
        known = (reference.obs["type"] != UNKNOWN).to_numpy()
        blocks = []
        for name in names:
            features = reference.mod[name].var_names.intersection(cells.mod[name].var_names)
            blocks.append((_values(reference, name, features)[known], _values(cells, name, features)))
        x, of_cells = (np.hstack(block) for block in zip(*blocks, strict=True))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = make(min(x.shape)).fit(x, reference.obs["type"][known])
            probabilities = model.predict_proba(of_cells)
        return model.classes_, probabilities, -probabilities.max(axis=1)

    return ask


def nearest(most: int) -> Any:
    return make_pipeline(PCA(min(30, most), random_state=0), KNeighborsClassifier(15))


def logistic(_: int) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))


def scarches(reference: MuData, seed: int, arguments: argparse.Namespace) -> Callable[[MuData], Answer | None]:
    """totalVI and its ``load_query_data``, as scvi-tools' tutorial has them, and the vote of 15 neighbours in its latent space."""
    import scvi

    scvi.settings.seed = seed
    epochs = arguments.max_epochs
    model = scvi.model.TOTALVI(
        _for_totalvi(reference, reference),
        use_layer_norm="both",
        use_batch_norm="none",
        n_layers_decoder=2,
        n_layers_encoder=2,
    )
    model.train(max_epochs=epochs or 250, enable_progress_bar=False, early_stopping=True)
    known = (reference.obs["type"] != UNKNOWN).to_numpy()
    vote = KNeighborsClassifier(15).fit(model.get_latent_representation()[known], reference.obs["type"][known])

    def ask(cells: MuData) -> Answer | None:
        if "rna" not in cells.mod:
            return None
        adata = _for_totalvi(cells, reference)
        of_query = scvi.model.TOTALVI.load_query_data(adata, model, freeze_expression=True)
        of_query.train(max_epochs=epochs or 150, enable_progress_bar=False, plan_kwargs={"weight_decay": 0.0})
        probabilities = vote.predict_proba(of_query.get_latent_representation())
        return vote.classes_, probabilities, -probabilities.max(axis=1)

    return ask


def _for_totalvi(mdata: MuData, reference: MuData) -> AnnData:
    """RNA with proteins in ``obsm``; zeros for what the reference has and these cells lack, which totalVI takes for missing."""
    import scvi

    (proteins,) = (name for name in reference.mod if name != "rna")
    adata = mdata.mod["rna"].copy()
    table = pd.DataFrame(0.0, index=adata.obs_names, columns=reference.mod[proteins].var_names)
    if proteins in mdata.mod:
        table[mdata.mod[proteins].var_names] = mdata.mod[proteins].X.toarray()
    adata.obsm["proteins"] = table
    adata.obs["sample"] = "reference" if mdata is reference else "query"
    if mdata is reference:
        scvi.model.TOTALVI.setup_anndata(adata, protein_expression_obsm_key="proteins", batch_key="sample")
    return adata


METHODS: dict[str, Callable[..., Callable[[MuData], Answer | None]]] = {
    "map_query": map_query,
    "15 neighbours in RNA components": partial(_classifier, nearest, "rna"),
    "15 neighbours in components": partial(_classifier, nearest, "all"),
    "logistic regression": partial(_classifier, logistic, "all"),
    "scArches on totalVI": scarches,
}

if __name__ == "__main__":
    main()
