"""How well batches mix, and clusters agree with known labels, before and after, beside totalVI.

Run with ``python tests/benchmarks/batches.py FILE.h5mu [FILE.h5mu ...] --output FOLDER``. Spaces are kept in the folder under
their file's hash and not computed again; ``--skip totalvi`` leaves out what takes longest, ``--quality FOLDER`` takes
totalVI's space, and ours with its clusters, from what ``quality.py`` keeps there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pandas as pd
import results
from common import known, markdown
from peers import Options, concat, joined_communities, totalvi

import scmag_muon as smm
from scmag_muon._mudata import no_pull_on_update

if TYPE_CHECKING:
    from mudata import MuData

COMMAND = "python tests/benchmarks/batches.py FILES --output FOLDER --results tests/benchmarks/results/batches.json"
SPACES = ("concat", "unfitted", "fitted", "scmag", "totalvi")
NAMES = {
    "concat": "components side by side, batches ignored",
    "unfitted": "X_manifold_unfitted, batch_key given",
    "fitted": "X_manifold, batch_key given",
    "scmag": "X_scmag, batch_key given",
    "totalvi": "totalVI, batch_key given",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="MuData files with raw counts of at least two batches")
    parser.add_argument("--labels", default="cell_type", help="column of known labels")
    parser.add_argument("--batch-key", default="batch")
    parser.add_argument("--skip", nargs="+", choices=SPACES, default=(), metavar="SPACE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quality", type=Path, help="folder of results of quality.py")
    parser.add_argument("--output", type=Path, default=Path("batches"), help="folder of results")
    parser.add_argument("--results", type=Path, help="JSON file of the docs' table to put the rows into")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for file in arguments.files:
        with no_pull_on_update():
            mdata = mudata.read_h5mu(file)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        for space in SPACES:
            if space not in arguments.skip:
                rows.append(_row(mdata, file.stem, space, digest, arguments))
                print(rows[-1], flush=True)
    print(markdown(pd.DataFrame(rows).round(3).set_index("set"), "set"))
    if arguments.results:
        results.merge(arguments.results, rows, command=COMMAND, n_keys=2)


def _row(mdata: MuData, name: str, space: str, digest: str, arguments: argparse.Namespace) -> dict[str, Any]:
    labels = mdata.obs[arguments.labels]
    n_clusters = known(labels).nunique()
    identity = f"{digest}{space}{arguments.seed}{arguments.batch_key}{smm.__version__}"
    kept = arguments.output / f"{name}-{space}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.npz"
    if not kept.exists():
        embedding, clusters = _compute(mdata, space, n_clusters, digest, arguments)
        np.savez(kept, embedding=embedding, clusters=clusters)
    found = np.load(kept)
    mixing = smm.metrics.batch_mixing(found["embedding"], mdata.obs[arguments.batch_key])
    scores = smm.metrics.clustering_scores(labels, found["clusters"])
    of_space = {"mixing": mixing["mixing"], "iLISI": mixing["ilisi"], "ARI": scores["ARI"], "NMI": scores["NMI"]}
    return {"set": name, "space": NAMES[space], **of_space}


def _compute(
    mdata: MuData, space: str, n_clusters: int, digest: str, arguments: argparse.Namespace
) -> tuple[np.ndarray, np.ndarray]:
    """Embedding and ``n_clusters`` clusters: ours of the network, else communities of the space joined in that space."""
    if space == "scmag":
        kept = _kept_by_quality(space, digest, arguments)
        if kept is not None:
            return kept["embedding"], kept["own 0"]
        smm.tl.scmag(
            mdata,
            n_clusters=n_clusters,
            batch_key=arguments.batch_key,
            random_state=arguments.seed,
            progress_bar=False,
        )
        return mdata.obsm["X_scmag"], mdata.obs["scmag"].astype(int).to_numpy()
    if space in ("fitted", "unfitted"):
        if "X_manifold" not in mdata.obsm:
            smm.pp.manifold_fit(mdata, batch_key=arguments.batch_key, random_state=arguments.seed)
        embedding = mdata.obsm["X_manifold" if space == "fitted" else "X_manifold_unfitted"]
    elif space == "totalvi":
        kept = _kept_by_quality(space, digest, arguments)
        options = Options(arguments.seed, batch_key=arguments.batch_key)
        embedding = totalvi(mdata, options) if kept is None else kept["embedding"]
    else:
        embedding = concat(mdata, Options(arguments.seed))
    embedding = np.asarray(embedding, dtype=np.float32)
    return embedding, joined_communities(embedding, n_clusters, arguments.seed)


def _kept_by_quality(method: str, digest: str, arguments: argparse.Namespace) -> Any:
    """What the newest run of this method, file and seed at the published K has left."""
    options = {"seed": arguments.seed, "batch_key": arguments.batch_key, "max_epochs": None}
    found = {}
    for path in arguments.quality.glob(f"*-{method}-*.json") if arguments.quality else ():
        result = json.loads(path.read_text())
        if result["sha256"] == digest and result["options"] == options and result["own_k"] in (None, 0):
            found[result["finished"]] = path.with_suffix(".npz")
    return np.load(found[max(found)]) if found else None


if __name__ == "__main__":
    main()
