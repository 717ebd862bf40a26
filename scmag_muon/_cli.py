"""Command line: ``python -m scmag_muon demo`` and ``python -m scmag_muon run IN.h5mu -o OUT.h5mu``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, or 2 where the data or an argument is wrong."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.command(arguments)
    except (ValueError, KeyError, OSError) as error:
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"error: {message}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scmag-muon", description="Clusters of cells from two modalities.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="simulate CITE-seq data, cluster them, compare with the truth")
    demo.add_argument(
        "-o", "--output", type=Path, default=Path(), metavar="DIR", help="where demo.h5mu and demo.png go"
    )
    demo.add_argument("--n-obs", type=int, default=1000, help="cells to simulate (default 1000)")
    demo.add_argument("--random-state", type=int, default=0)
    demo.set_defaults(command=_demo)

    run = commands.add_parser("run", help="cluster the cells of a MuData file with raw counts")
    run.add_argument("input", type=Path, metavar="IN.h5mu")
    run.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.h5mu")
    run.add_argument("--n-clusters", type=int, metavar="K", help="number of clusters (default: estimated)")
    run.add_argument("--modalities", nargs=2, metavar=("FIRST", "SECOND"), help="names of the two modalities")
    run.add_argument("--layer", help="layer of the raw counts (default: .X)")
    run.add_argument("--batch-key", metavar="COLUMN", help="column of batches")
    run.add_argument("--labels", metavar="COLUMN", help="column of known labels to compare with")
    run.add_argument("--report", type=Path, metavar="REPORT.html", help="also write a page with figures and tables")
    run.add_argument("--settings", choices=("default", "paper"), default="default")
    run.add_argument("--max-epochs-pretrain", type=int, default=400)
    run.add_argument("--max-epochs", type=int, default=100)
    run.add_argument("--random-state", type=int, default=0)
    run.set_defaults(command=_run)
    return parser


def _demo(arguments: argparse.Namespace) -> None:
    from scmag_muon import datasets, tl

    truth = "cell_type"
    mdata = datasets.simulate_citeseq(n_obs=arguments.n_obs, random_state=arguments.random_state)
    started = time.perf_counter()
    tl.scmag(mdata, n_clusters=mdata.obs[truth].nunique(), random_state=arguments.random_state)
    seconds = time.perf_counter() - started
    arguments.output.mkdir(parents=True, exist_ok=True)
    print(_cluster_table(mdata, truth))
    print(_summary(mdata, truth, seconds))
    _write(mdata, arguments.output / "demo.h5mu")
    _draw_umap(mdata, truth, arguments.output / "demo.png")
    print(f"\nwrote {arguments.output / 'demo.h5mu'} and {arguments.output / 'demo.png'}")


def _run(arguments: argparse.Namespace) -> None:
    import mudata

    from scmag_muon import _mudata, report, tl

    if not arguments.input.exists():
        raise FileNotFoundError(f"There is no file {arguments.input}.")
    if not arguments.output.parent.exists():
        raise FileNotFoundError(f"There is no folder {arguments.output.parent} for the output.")
    if arguments.report is not None and not arguments.report.parent.exists():
        raise FileNotFoundError(f"There is no folder {arguments.report.parent} for the report.")
    try:
        with _mudata.no_pull_on_update():
            mdata = mudata.read_h5mu(arguments.input)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{arguments.input} can't be read as a MuData (.h5mu): {error}") from error
    if arguments.labels is not None:
        _mudata.get_obs_column(mdata, arguments.labels, argument="--labels")
    started = time.perf_counter()
    tl.scmag(
        mdata,
        n_clusters=arguments.n_clusters,
        modalities=arguments.modalities,
        batch_key=arguments.batch_key,
        layer=arguments.layer,
        settings=arguments.settings,
        max_epochs_pretrain=arguments.max_epochs_pretrain,
        max_epochs=arguments.max_epochs,
        random_state=arguments.random_state,
    )
    seconds = time.perf_counter() - started
    _write(mdata, arguments.output)
    print(_cluster_table(mdata, arguments.labels))
    print(_summary(mdata, arguments.labels, seconds))
    print(f"\nwrote {arguments.output}")
    if arguments.report is not None:
        print(f"wrote {report(mdata, arguments.report, labels=arguments.labels)}")


def _write(mdata: MuData, path: Path) -> None:
    from scmag_muon._mudata import no_pull_on_update

    with no_pull_on_update():
        mdata.write_h5mu(path)


def _cluster_table(mdata: MuData, labels: str | None) -> str:
    """Size, mean confidence and, with labels, the commonest label of each cluster."""
    from scmag_muon._keys import Keys
    from scmag_muon._mudata import get_obs_column

    cluster = mdata.obs[Keys.SCMAG]
    confidence = mdata.obs[Keys.confidence(Keys.SCMAG)]
    table = pd.DataFrame(
        {
            "cells": cluster.value_counts().reindex(cluster.cat.categories),
            "confidence": confidence.groupby(cluster, observed=True).mean(),
        }
    )
    if labels is not None:
        known = get_obs_column(mdata, labels, argument="--labels")
        shares = (
            pd.crosstab(cluster, known.astype(object), normalize="index").reindex(cluster.cat.categories).fillna(0.0)
        )
        table[f"commonest {labels}"] = shares.idxmax(axis=1)
        table["share"] = shares.max(axis=1)
    return table.rename_axis("cluster").round(3).to_string()


def _summary(mdata: MuData, labels: str | None, seconds: float) -> str:
    """One line per figure: cells, features, seconds, memory, K and agreement with the labels."""
    from scmag_muon._keys import Keys
    from scmag_muon._mudata import get_obs_column
    from scmag_muon.metrics import clustering_scores

    record = mdata.uns[Keys.SCMAG]
    manifold_key = record["params"]["manifold_key"]
    used = [f"{int(mdata.mod[m].var[manifold_key].sum())} {m}" for m in record["params"]["modalities"]]
    stages = record["history"]["stage"].value_counts().reindex([1.0, 2.0, 3.0], fill_value=0).astype(int)
    lines = {
        "cells": str(mdata.n_obs),
        "features": " + ".join(used),
        "clusters": str(record["n_clusters"]),
        "epochs": " + ".join(map(str, stages)),
        "seconds": f"{seconds:.1f}",
        "peak memory": _peak_memory(),
    }
    if labels is not None:
        known = get_obs_column(mdata, labels, argument="--labels")
        lines |= {name: f"{score:.3f}" for name, score in clustering_scores(known, mdata.obs[Keys.SCMAG]).items()}
    return "\n" + "\n".join(f"{name:<12}{value}" for name, value in lines.items())


def _peak_memory() -> str:
    try:
        import resource
    except ImportError:  # Windows
        return "not known on this system"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"{peak / (1024**3 if sys.platform == 'darwin' else 1024**2):.2f} GB"


def _draw_umap(mdata: MuData, labels: str, path: Path) -> None:
    import matplotlib.pyplot as plt
    import scanpy as sc
    from anndata import AnnData

    from scmag_muon._keys import Keys

    scratch = AnnData(
        obs=mdata.obs[[Keys.SCMAG, labels]].copy(), obsm={"X": np.asarray(mdata.obsm[Keys.latent(Keys.SCMAG)])}
    )
    sc.pp.neighbors(scratch, use_rep="X", transformer="sklearn")
    sc.tl.umap(scratch, random_state=0)
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for ax, column, title in zip(axes, (Keys.SCMAG, labels), ("scMAG clusters", "true types"), strict=True):
        sc.pl.umap(scratch, color=column, ax=ax, show=False, title=title, frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)
