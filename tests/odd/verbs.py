"""Rows about the other verbs after clustering, and arguments of any."""

from __future__ import annotations

from tests.odd.labels import one_cell_cluster
from tests.odd.markers import MARKERS
from tests.odd.table import Row, changed, finished, fitted, refused, trained, works

VERBS = [
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
        make=changed(one_cell_cluster, changed(lambda mdata: mdata[:2].copy(), trained)),
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
        "`modalities` must name one or more",
        make=trained,
        says="names the argument.",
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

TABLE: dict[str, list[Row]] = {
    "After clustering": MARKERS + VERBS + ARGUMENTS_OF_VERBS,
}
