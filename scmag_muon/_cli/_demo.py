"""``demo``: simulated cells, clustered and compared with the truth."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from scmag_muon import datasets, tl
from scmag_muon._cli._log import say
from scmag_muon._cli._outputs import check_folder, check_outputs
from scmag_muon._cli._tables import cluster_table, summary
from scmag_muon._files import written_aside
from scmag_muon._mudata import write_mudata

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from mudata import MuData

_TRUTH = "cell_type"


def demo(arguments: argparse.Namespace) -> None:
    """Simulate CITE-seq data, cluster them, print how well and write them with a picture."""
    folder: Path = arguments.output
    if folder.resolve().parent.exists():
        check_folder("-o", folder)
    data, picture = folder / "demo.h5mu", folder / "demo.png"
    if folder.exists():
        check_outputs([("-o", data), ("-o", picture)], force=arguments.force)
    mdata = datasets.simulate_citeseq(n_obs=arguments.n_obs, random_state=arguments.random_state)
    started = time.perf_counter()
    tl.scmag(mdata, n_clusters=mdata.obs[_TRUTH].nunique(), random_state=arguments.random_state)
    seconds = {"clustering": time.perf_counter() - started}
    folder.mkdir(parents=True, exist_ok=True)
    write_mudata(mdata, data)
    _draw_umap(mdata, _TRUTH, picture)
    say(cluster_table(mdata, _TRUTH).to_string())
    say(summary(mdata, _TRUTH, seconds))
    say(f"\nwrote {data} and {picture}")


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
    with written_aside(path) as draft:
        figure.savefig(draft, dpi=120)
    plt.close(figure)
