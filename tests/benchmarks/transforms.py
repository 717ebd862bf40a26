"""How often nearest neighbours are of the same type, by the transform of RNA's counts in which they are sought.

Run with ``python tests/benchmarks/transforms.py FILE.h5mu [FILE.h5mu ...]``. Among the labelled cells each takes the commonest
label of its 15 nearest others in 30 principal components of RNA, or in the joint space of both modalities, without any
clustering. Prints accuracy, macro F1, which counts each type alike, and adjusted Rand index in Markdown: the last is what
clusters could reach if they were told the labels of each cell's neighbours.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mudata
import pandas as pd
import results
import scipy.sparse as sp
from common import known, markdown
from sklearn.metrics import accuracy_score, adjusted_rand_score, f1_score
from sklearn.neighbors import KNeighborsClassifier

from scmag_muon._keys import Keys
from scmag_muon._mudata import get_counts, modality_names, no_pull_on_update
from scmag_muon.manifold.components import principal_components
from scmag_muon.manifold.transforms import View, log2p1, scale_features, scale_to_median, zscore
from scmag_muon.pp import manifold_fit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np

COMMAND = "python tests/benchmarks/transforms.py FILES --results tests/benchmarks/results/transforms.json"
TRANSFORMS: dict[str, Callable[[View], View]] = {
    "logarithms": lambda log: log,
    "logarithms, scaled": scale_features,
    "standard scores": lambda log: zscore(log.values),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="MuData files with raw counts")
    parser.add_argument("--labels", default="cell_type", help="column of known labels")
    parser.add_argument("--results", type=Path, help="JSON file of the docs' table to put the rows into")
    arguments = parser.parse_args()
    table = pd.DataFrame([row for file in arguments.files for row in _scores(file, arguments.labels)])
    print(markdown(table.round(3).set_index("set"), "set"))
    if arguments.results:
        results.merge(arguments.results, table.to_dict("records"), command=COMMAND, n_keys=2)


def _scores(file: Path, column: str) -> Iterator[dict[str, Any]]:
    with no_pull_on_update():
        mdata = mudata.read_h5mu(file)
        manifold_fit(mdata, batch_key="batch" if "batch" in mdata.obs else None)
    rna = mdata.mod[modality_names(mdata)[0]]
    counts = get_counts(rna, modality="rna", layer=None)[:, rna.var[Keys.MANIFOLD].to_numpy()]
    log = log2p1(scale_to_median(sp.csr_array(counts)))
    labels = known(mdata.obs[column])
    rows = mdata.obs_names.get_indexer(labels.index)
    spaces = {name: principal_components(function(log), 30) for name, function in TRANSFORMS.items()}
    spaces["both modalities, the joint space"] = mdata.obsm[Keys.joint_embedding(Keys.MANIFOLD)]
    for name, points in spaces.items():
        yield {"set": file.stem, "space": name, **_score(points[rows], labels.astype(str))}


def _score(points: np.ndarray, types: pd.Series) -> dict[str, float]:
    taken = KNeighborsClassifier(15).fit(points, types).predict(None)  # each cell by the others
    return {
        "accuracy": accuracy_score(types, taken),
        "F1": f1_score(types, taken, average="macro"),
        "ARI": adjusted_rand_score(types, taken),
    }


if __name__ == "__main__":
    main()
