"""Rows about what comes after clustering: verbs, pictures, the report, scores, and data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from tests.odd.table import Row, changed, finished, fitted, refused, trained, works

if TYPE_CHECKING:
    from mudata import MuData


def drawn(result: Any, mdata: MuData) -> bool:
    """Whether a picture came out."""
    del mdata
    axes = np.atleast_1d(np.asarray(result, dtype=object)).ravel()
    return all(isinstance(ax, Axes) and ax.has_data() for ax in axes)


def _without(*slots: str) -> Any:
    def change(mdata: MuData) -> None:
        for slot in slots:
            part, _, name = slot.partition("/")
            del getattr(mdata, part)[name]

    return change


def _one_cell_cluster(mdata: MuData) -> None:
    mdata.obs["mine"] = ["alone", *["rest"] * (mdata.n_obs - 1)]


def _gap(mdata: MuData) -> None:
    mdata.obs["mine"] = pd.Categorical([None, *(["a", "b"] * mdata.n_obs)[: mdata.n_obs - 1]])


def _odd_labels(mdata: MuData) -> None:
    names = np.array(["T/NK $x_1$", "<b>B</b>", "{é}" * 60, "\\frac"], dtype=object)
    mdata.obs["mine"] = pd.Categorical(names[np.arange(mdata.n_obs) % 4])


def _tiny(n: int) -> Any:
    return changed(lambda mdata: mdata[:n].copy(), trained)


SETS = "{'one': ['g0', 'g1', 'g2', 'g3']}"

VERBS = [
    refused(
        "no run",
        "smm.tl.markers(mdata)",
        KeyError,
        "'scmag'",
        "tl.scmag",
        says="names the slot and the call that fills it.",
    ),
    refused(
        "no such group",
        "smm.tl.markers(mdata, groups=['9'])",
        ValueError,
        "'9'",
        "'3'",
        make=finished,
        says="lists the groups.",
    ),
    refused(
        "no such reference",
        "smm.tl.markers(mdata, groups=['0'], reference='9')",
        ValueError,
        "'9'",
        make=finished,
        says="lists the groups.",
    ),
    refused(
        "a group of one cell",
        "smm.tl.markers(mdata, groupby='mine', groups=['alone'])",
        ValueError,
        "'alone'",
        "one cell",
        make=changed(_one_cell_cluster, finished),
        says="names the group.",
    ),
    refused(
        "one group",
        "smm.tl.markers(mdata, groupby='one')",
        ValueError,
        "'one'",
        "1 group",
        make=changed(lambda mdata: mdata.obs.__setitem__("one", "a"), finished),
        says="two groups are needed.",
    ),
    works(
        "a cell without a label",
        "smm.tl.markers(mdata, groupby='mine')",
        lambda table, _: len(table) == 140 and np.isfinite(table["auroc"]).all(),
        make=changed(_gap, finished),
        says="It is left out.",
        writes=["uns/scmag_markers"],
    ),
    refused(
        "denoised counts as counts",
        "smm.tl.markers(mdata, layer='scmag')",
        ValueError,
        "scmag",
        make=finished,
        says="raw counts are needed.",
    ),
    refused(
        "no markers",
        "smm.tl.enrichment(mdata, gene_sets=" + SETS + ")",
        KeyError,
        "scmag_markers",
        "tl.markers",
        make=trained,
        says="names the slot and the call that fills it.",
    ),
    refused(
        "gene sets of another species",
        "smm.tl.enrichment(mdata, gene_sets={'one': ['Cd4', 'Cd8a', 'Cd3e']})",
        ValueError,
        "'Cd4'",
        "'g0'",
        make=finished,
        says="shows a name of the sets and one of the data.",
    ),
    refused(
        "no such file",
        "smm.tl.enrichment(mdata, gene_sets='none.gmt')",
        FileNotFoundError,
        "none.gmt",
        make=finished,
        says="names the file.",
    ),
    works(
        "a set that holds every marker",
        "smm.tl.enrichment(mdata, gene_sets=" + SETS + ")",
        lambda table, _: len(table) > 0 and table["p"].between(0, 1).all(),
        make=finished,
        says="p lies between 0 and 1.",
    ),
    refused(
        "not fitted",
        "smm.tl.n_clusters(mdata)",
        KeyError,
        "X_manifold_unfitted",
        "pp.manifold_fit",
        says="names the slot and the call that fills it.",
        fix="smm.pp.manifold_fit(mdata)",
    ),
    refused(
        "`n_replicates=0`",
        "smm.tl.n_clusters(mdata, n_replicates=0)",
        ValueError,
        "n_replicates",
        make=fitted,
        says="names the argument.",
    ),
    refused(
        "a resolution of -1",
        "smm.tl.n_clusters(mdata, resolutions=[-1])",
        ValueError,
        "resolution",
        make=fitted,
        says="names the argument.",
    ),
    refused(
        "no run",
        "smm.tl.stability(mdata, random_states=[1])",
        KeyError,
        "'scmag'",
        "tl.scmag",
        says="names the slot and the call that fills it.",
    ),
    refused(
        "no seeds",
        "smm.tl.stability(mdata, random_states=[])",
        ValueError,
        "random_states",
        make=trained,
        says="names the argument.",
    ),
    refused(
        "a seed twice",
        "smm.tl.stability(mdata, random_states=[1, 1])",
        ValueError,
        "random_states",
        make=trained,
        says="names the argument.",
    ),
    works(
        "another seed",
        "smm.tl.stability(mdata, random_states=[1], accelerator='cpu', progress_bar=False)",
        lambda table, _: table.to_numpy().min() >= 0 and table.to_numpy().max() <= 1,
        make=trained,
        says="Each cluster's best overlap lies between 0 and 1.",
    ),
    refused(
        "a root that is neither cell nor cluster",
        "smm.tl.trajectory(mdata, root='stem')",
        ValueError,
        "'stem'",
        make=finished,
        says="lists the clusters.",
    ),
    refused(
        "no neighbour graph",
        "smm.tl.trajectory(mdata, root='0')",
        KeyError,
        "neighbors",
        make=trained,
        says="names the call that makes it.",
    ),
    refused(
        "`n_dcs=0`",
        "smm.tl.trajectory(mdata, root='0', n_dcs=0)",
        ValueError,
        "n_dcs",
        make=finished,
        says="names the argument.",
    ),
    works(
        "a cluster as root",
        "smm.tl.trajectory(mdata, root='0')",
        lambda _, mdata: mdata.obs["scmag_pseudotime"].dropna().between(0, 1).all(),
        make=finished,
        says="Pseudotime lies between 0 and 1.",
    ),
    refused(
        "`test_size=1`",
        "smm.tl.held_out_markers(mdata, labels='cell_type', test_size=1)",
        ValueError,
        "test_size",
        make=trained,
        says="names the argument.",
    ),
    refused(
        "no such labels",
        "smm.tl.held_out_markers(mdata, labels='types')",
        KeyError,
        "labels='types'",
        "'cell_type'",
        make=trained,
        says="lists the columns that are there.",
    ),
    refused(
        "every label is unknown",
        "smm.tl.held_out_markers(mdata, labels='one')",
        ValueError,
        "0 known",
        make=changed(lambda mdata: mdata.obs.__setitem__("one", "unknown"), trained),
        says="there is nothing to tell apart.",
    ),
    refused(
        "2 cells in 2 groups",
        "smm.tl.markers(mdata, groupby='mine', groups=['alone'])",
        ValueError,
        "'alone'",
        "one cell",
        make=changed(_one_cell_cluster, _tiny(2)),
        says="names the group.",
    ),
]

ARGUMENTS_OF_VERBS = [
    works(
        "one modality by its name",
        "smm.tl.markers(mdata, modalities='rna')",
        lambda table, _: set(table["modality"]) == {"rna"},
        make=trained,
        says="Its features alone.",
    ),
    refused(
        "`modalities=[]`",
        "smm.tl.markers(mdata, modalities=[])",
        ValueError,
        "`modalities` is empty",
        make=trained,
        says="names the argument and the modalities.",
    ),
    refused(
        "a layer for a modality that is not there",
        "smm.tl.markers(mdata, layer={'RNA': 'counts'})",
        KeyError,
        "'RNA'",
        make=trained,
        says="names the modality.",
    ),
    refused(
        "one number for seeds",
        "smm.tl.stability(mdata, random_states=3)",
        TypeError,
        "random_states",
        make=trained,
        says="names the argument.",
    ),
    refused(
        "a group against itself",
        "smm.pl.volcano(mdata, group='0', reference='0')",
        ValueError,
        "two groups",
        make=finished,
        says="two groups are needed.",
    ),
    refused(
        "a column of the user's called as the pseudotime",
        "smm.tl.trajectory(mdata, root='0')",
        ValueError,
        "scmag_pseudotime",
        make=changed(lambda mdata: mdata.obs.__setitem__("scmag_pseudotime", 1.0), finished),
        says="names the column.",
    ),
]

PICTURES = [
    refused("no run", "smm.pl.training(mdata)", KeyError, "scmag", says="names the slot."),
    refused("no run", "smm.pl.gate(mdata)", KeyError, "scmag", says="names the slot."),
    refused("no run", "smm.pl.entropy(mdata)", KeyError, "scmag", says="names the slot."),
    refused("not fitted", "smm.pl.view_weights(mdata)", KeyError, "manifold", says="names the slot."),
    refused("no table", "smm.pl.n_clusters(mdata)", KeyError, "n_clusters", says="names the slot and the verb."),
    refused("no table", "smm.pl.stability(mdata)", KeyError, "scmag_stability", says="names the slot and the verb."),
    refused(
        "no table", "smm.pl.held_out_markers(mdata)", KeyError, "scmag_held_out", says="names the slot and the verb."
    ),
    refused(
        "no table", "smm.pl.batch_mixing(mdata)", KeyError, "scmag_batch_mixing", says="names the slot and the verb."
    ),
    refused("no table", "smm.pl.enrichment(mdata)", KeyError, "scmag_enrichment", says="names the slot and the verb."),
    refused(
        "no trajectory",
        "smm.pl.trajectory(mdata)",
        KeyError,
        "scmag_trajectory",
        make=finished,
        says="names the slot and the verb.",
    ),
    refused(
        "no markers",
        "smm.pl.markers(mdata)",
        KeyError,
        "scmag_markers",
        make=trained,
        says="names the slot and the verb.",
    ),
    refused(
        "no map",
        "smm.pl.overview(mdata)",
        KeyError,
        "X_umap",
        "umap",
        make=changed(_without("obsm/X_umap"), finished),
        says="names the slot and the call that fills it.",
    ),
    refused(
        "no such feature",
        "smm.pl.marker_comparison(mdata, features=['CD4'])",
        KeyError,
        "'CD4'",
        make=finished,
        says="names the feature and the modalities.",
    ),
    refused(
        "no such modality",
        "smm.pl.heatmap(mdata, modality='atac')",
        KeyError,
        "'atac'",
        make=finished,
        says="lists the modalities that are there.",
    ),
    refused(
        "no such cluster",
        "smm.pl.volcano(mdata, group='9')",
        (KeyError),
        "9",
        make=finished,
        says="names the cluster.",
    ),
    refused(
        "`n_markers=-1`",
        "smm.pl.markers(mdata, n_markers=-1)",
        ValueError,
        "n_markers",
        make=finished,
        says="names the argument.",
    ),
    works("four clusters", "smm.pl.markers(mdata)", drawn, make=finished, says="A picture."),
    works(
        "labels with `$`, `<`, `\\` and 180 letters",
        "smm.pl.overview(mdata, labels='mine')",
        drawn,
        make=changed(_odd_labels, finished),
        says="A picture with the labels as they are.",
    ),
]

REPORT = [
    refused(
        "no run",
        "smm.report(mdata, 'report.html')",
        KeyError,
        "'scmag'",
        "tl.scmag",
        says="names the slot and the call that fills it.",
    ),
    refused(
        "no such folder",
        "smm.report(mdata, 'none/report.html')",
        FileNotFoundError,
        "none",
        make=finished,
        says="names the folder.",
    ),
    refused(
        "no such labels",
        "smm.report(mdata, 'report.html', labels='types')",
        KeyError,
        "labels='types'",
        make=finished,
        says="names argument and column.",
    ),
    works(
        "labels that hold HTML",
        "smm.report(mdata, 'report.html', labels='mine')",
        lambda path, _: "<b>B</b>" not in Path(path).read_text(encoding="utf-8"),
        make=changed(_odd_labels, finished),
        says="The page shows them as text.",
    ),
]

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
    "After clustering": VERBS + ARGUMENTS_OF_VERBS,
    "Pictures": PICTURES,
    "The report": REPORT,
    "Scores": SCORES,
    "Data sets": DATASETS,
}
