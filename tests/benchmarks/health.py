"""Numbers stay finite: every open set, some hundred cells of it, many seeds, short runs; and made-up cells of every kind.

``python tests/benchmarks/health.py --seeds 20`` prints a line for each set, and how many runs there were and how many held a value that is
not finite; the exit status is 1 where any did. The sets are found through ``SCMAG_MUON_DATA``, and left out where they are absent.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pandas as pd
import scipy.sparse as sp

import scmag_muon as smm
from scmag_muon._mudata import no_pull_on_update

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mudata import MuData

SHORT: dict[str, Any] = {"max_epochs_pretrain": 4, "max_epochs": 2, "progress_bar": False, "accelerator": "cpu"}


def not_finite(mdata: MuData) -> list[str]:
    """Slots that hold NaN or infinite values."""
    slots: dict[str, Any] = {f"obsm/{name}": mdata.obsm[name] for name in mdata.obsm if name.startswith("X_")}
    slots |= {f"obs/{name}": mdata.obs[name] for name in ("scmag_confidence", "scmag_q", "scmag_entropy")}
    for name, adata in mdata.mod.items():
        slots |= {f"{name}/layers/{key}": adata.layers[key] for key in ("manifold", "scmag") if key in adata.layers}
    history = mdata.uns["scmag"]["history"].drop(columns=["label_change", "validation_loss"], errors="ignore")
    slots |= {"history": history, "gate": mdata.uns["scmag"]["gate"]}
    bad = [name for name, values in slots.items() if not np.isfinite(_numbers(values)).all()]
    return bad + (["obs/scmag"] if mdata.obs["scmag"].isna().any() else [])


def _numbers(values: Any) -> np.ndarray:
    if sp.issparse(values):
        return values.data
    return values.to_numpy(dtype=float) if isinstance(values, (pd.DataFrame, pd.Series)) else np.asarray(values)


def cells_of(path: Path, n_obs: int) -> MuData | None:
    """Some cells that every modality has, with raw counts in ``.X``; nothing where no two modalities share cells."""
    with no_pull_on_update():
        backed = mudata.read_h5mu(path, backed="r")
        common = sorted(set.intersection(*(set(adata.obs_names) for adata in backed.mod.values())))
        if len(backed.mod) < 2 or len(common) < 20:
            return None
        rng = np.random.default_rng(0)
        names = [common[i] for i in sorted(rng.choice(len(common), min(n_obs, len(common)), replace=False))]
        mods = {}
        for name, adata in backed.mod.items():
            rows = np.sort(adata.obs_names.get_indexer(names))
            mods[name] = adata[rows].to_memory()
            order = np.argsort(mods[name].obs_names)
            mods[name] = mods[name][order].copy()
        backed.file.close()
        return mudata.MuData(mods)


def made_up() -> Iterator[tuple[str, MuData]]:
    """Cells with depths, dropout and sizes that data seldom have."""
    yield "simulated CITE-seq", smm.datasets.simulate_citeseq(n_obs=200, n_vars=100, n_prot=10, n_clusters=3)
    yield "simulated multiome", smm.datasets.simulate_multiome(n_obs=200, n_clusters=3)
    yield (
        "nine in ten counts lost",
        smm.datasets.simulate_citeseq(n_obs=200, n_vars=100, n_prot=10, n_clusters=3, dropout=0.9),
    )
    yield "20 cells", smm.datasets.simulate_citeseq(n_obs=20, n_vars=30, n_prot=4, n_clusters=2)
    deep = smm.datasets.simulate_citeseq(n_obs=100, n_vars=50, n_prot=8, n_clusters=2)
    for adata in deep.mod.values():
        adata.X = sp.csr_matrix(
            np.rint(adata.X.toarray() * np.geomspace(1, 1e5, adata.n_obs)[:, None]), dtype=np.float32
        )
    yield "depths over five orders of magnitude", deep


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--cells", type=int, default=300)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SCMAG_MUON_DATA", "../shared/data")))
    parser.add_argument("--only", default="", help="sets whose name holds this text")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    files = sorted(path for path in arguments.data.glob("*.h5mu") if arguments.only in path.stem)
    sets = [(path.stem, path) for path in files] + [each for each in made_up() if arguments.only in each[0]]
    runs, bad = 0, 0
    for name, source in sets:
        mdata = cells_of(source, arguments.cells) if isinstance(source, Path) else source
        if mdata is None:
            print(f"{name}: left out, no two modalities of the same cells", flush=True)
            continue
        modalities = list(mdata.mod)[:2] if len(mdata.mod) > 2 else None
        found: set[str] = set()
        for seed in range(arguments.seeds):
            work = mdata.copy()
            smm.tl.scmag(work, n_clusters=min(5, work.n_obs), modalities=modalities, random_state=seed, **SHORT)
            slots = not_finite(work)
            runs, bad, found = runs + 1, bad + bool(slots), found | set(slots)
        print(
            f"{name}: {mdata.n_obs} cells, {arguments.seeds} seeds, {'not finite: ' + ', '.join(sorted(found)) if found else 'all finite'}",
            flush=True,
        )
    print(f"{runs} runs, {bad} with a value that is not finite")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
