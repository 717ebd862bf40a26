"""How often nearest neighbours in RNA are of the same type, by the transform of the counts in which they are sought.

Run with ``python tests/benchmarks/transforms.py FILE.h5mu [FILE.h5mu ...]``. Among the labelled cells each takes the commonest
label of its 15 nearest others in 30 principal components, without any clustering. Prints accuracy and macro F1, which counts
each type alike, in Markdown.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mudata
import numpy as np
import pandas as pd
import scipy.sparse as sp
from common import known, markdown
from sklearn.metrics import accuracy_score, f1_score

from scmag_muon._mudata import modality_pair, no_pull_on_update
from scmag_muon.manifold.neighbors import nearest_neighbors, principal_components
from scmag_muon.manifold.transforms import View, log2p1, scale_to_median, scaled, zscore
from scmag_muon.pp._manifold_fit import _prepare

TRANSFORMS = {
    "logarithms": log2p1,
    "logarithms, scaled": scaled,
    "their standard scores": lambda x: zscore(sp.csr_array(log2p1(x).values)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="MuData files with raw counts")
    parser.add_argument("--labels", default="cell_type", help="column of known labels")
    arguments = parser.parse_args()
    columns = {file.stem: _scores(file, arguments.labels) for file in arguments.files}
    print(markdown(pd.DataFrame(columns), "transform"))


def _scores(file: Path, column: str) -> dict[str, str]:
    with no_pull_on_update():
        mdata = mudata.read_h5mu(file)
    counts = scale_to_median(_prepare(mdata, modality_pair(mdata)[0], None, None).counts)
    labels = known(mdata.obs[column])
    rows = mdata.obs_names.get_indexer(labels.index)
    return {name: _score(function(counts), rows, labels) for name, function in TRANSFORMS.items()}


def _score(view: View, rows: np.ndarray, labels: pd.Series) -> str:
    points = np.ascontiguousarray(principal_components(view, 30)[rows])
    codes, types = pd.factorize(labels)
    around = codes[nearest_neighbors(points, 16)[:, 1:]]
    votes = (around[:, :, None] == np.arange(len(types))).sum(axis=1)
    taken = votes.argmax(axis=1)
    return f"{accuracy_score(codes, taken):.3f} / {f1_score(codes, taken, average='macro'):.3f}"


if __name__ == "__main__":
    main()
