"""How often nearest neighbours in RNA are of the same type, by the transform of the counts in which they are sought.

Run with ``python tests/benchmarks/transforms.py FILE.h5mu [FILE.h5mu ...]``. Among the labelled cells each takes the commonest
label of its 15 nearest others in 30 principal components, without any clustering. Prints accuracy and macro F1, which counts
each type alike, in Markdown.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import mudata
import pandas as pd
from common import known, markdown
from sklearn.metrics import accuracy_score, f1_score
from sklearn.neighbors import KNeighborsClassifier

from scmag_muon._mudata import modality_pair, no_pull_on_update
from scmag_muon.manifold.neighbors import principal_components
from scmag_muon.manifold.transforms import View, log2p1, scale_features, scale_to_median, zscore
from scmag_muon.pp._manifold_fit import _prepare

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

TRANSFORMS: dict[str, Callable[[View], View]] = {
    "logarithms": lambda log: log,
    "logarithms, scaled": scale_features,
    "their standard scores": lambda log: zscore(log.values),
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
    log = log2p1(scale_to_median(_prepare(mdata, modality_pair(mdata)[0], None, None).counts))
    labels = known(mdata.obs[column])
    rows = mdata.obs_names.get_indexer(labels.index)
    return {name: _score(function(log), rows, labels) for name, function in TRANSFORMS.items()}


def _score(view: View, rows: np.ndarray, labels: pd.Series) -> str:
    points = principal_components(view, 30)[rows]
    known_types = labels.astype(str)
    taken = KNeighborsClassifier(15).fit(points, known_types).predict(None)  # each cell by the others
    return f"{accuracy_score(known_types, taken):.3f} / {f1_score(known_types, taken, average='macro'):.3f}"


if __name__ == "__main__":
    main()
