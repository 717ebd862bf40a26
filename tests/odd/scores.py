"""Rows about scores and data sets."""

from __future__ import annotations

import numpy as np

import scmag_muon as smm
from tests.odd.table import Row, refused, works

SCORES = [
    refused(
        "labels of other lengths",
        "smm.metrics.clustering_scores([1, 2], [1, 2, 3])",
        ValueError,
        "2",
        "3",
        says="gives both lengths.",
    ),
    refused(
        "no known label",
        "smm.metrics.clustering_scores(['unknown'], [1])",
        ValueError,
        "labels_true",
        says="there is nothing to score.",
    ),
    refused(
        "types of other cells",
        "smm.metrics.type_scores(['B', 'T'], [0, 0, 1])",
        ValueError,
        "2",
        "3",
        says="gives both lengths.",
    ),
    refused(
        "no known type",
        "smm.metrics.type_scores(['unknown', None], [0, 1])",
        ValueError,
        "labels_true",
        says="there is nothing to score.",
    ),
    works(
        "one cluster for all types",
        "smm.metrics.type_scores(['B', 'T', 'T'], [0, 0, 0])",
        lambda table, _: table["recall"].tolist() == [1, 1] and table["cluster"].tolist() == ["0", "0"],
        says="It is the best cluster of both.",
    ),
    refused(
        "no other clustering",
        "smm.metrics.cluster_stability([1, 2], [])",
        ValueError,
        "others",
        says="names the argument.",
    ),
    refused(
        "a marker that is no column",
        "smm.metrics.marker_auroc(pd.DataFrame({'a': [1, 2]}), ['x', 'y'], markers={'x': ['b']})",
        KeyError,
        "'b'",
        says="names it.",
    ),
    refused(
        "one batch",
        "smm.metrics.batch_mixing(np.zeros((4, 2)), ['a'] * 4)",
        ValueError,
        "one batch",
        says="nothing can mix.",
    ),
    works(
        "two cells in two batches",
        "smm.metrics.batch_mixing(np.zeros((2, 2)), ['a', 'b'])",
        lambda scores, _: np.isfinite(list(scores.values())).all(),
        says="Finite scores.",
    ),
]


def _data(call: str, given: str, error: type[Exception], *names: str, says: str) -> Row:
    return refused(given, f"smm.datasets.{call}", error, *names, says=says)


DATASETS = [
    works(
        "a copy of the list that is changed",
        "smm.datasets.blood_markers().drop(columns='type')",
        lambda _, __: "type" in smm.datasets.blood_markers(),
        says="The list stays as it is.",
    ),
    _data("simulate_citeseq(n_obs=0)", "no cells", ValueError, "n_obs", says="names the argument."),
    _data(
        "simulate_citeseq(n_obs=10, n_clusters=20)",
        "more clusters than cells",
        ValueError,
        "n_obs",
        says="names the argument.",
    ),
    _data("simulate_citeseq(dropout=2)", "`dropout=2`", ValueError, "dropout", says="names the argument."),
    _data("simulate_trimodal(n_obs=0)", "no cells", ValueError, "n_obs", says="names the argument."),
    _data("simulate_multiome(n_obs=-1)", "`n_obs=-1`", ValueError, "n_obs", says="names the argument."),
    *(
        _data(
            f"{name}(folder='none')",
            "a folder without the file",
            FileNotFoundError,
            "none",
            says="names file and folder.",
        )
        for name in ("pbmc10k_citeseq", "pbmc3k_multiome", "pbmc10k_multiome", "spleen_lymph", "hallmark_gene_sets")
    ),
]

TABLE: dict[str, list[Row]] = {
    "Scores": SCORES,
    "Data sets": DATASETS,
}
