"""Rows about pictures and the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes

from tests.odd.labels import odd_labels
from tests.odd.table import Row, changed, finished, refused, trained, works

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


PICTURES = [
    refused("no run", "smm.pl.training(mdata)", KeyError, "scmag", says="names the slot."),
    refused("no run", "smm.pl.gate(mdata)", KeyError, "scmag", says="names the slot."),
    refused("no run", "smm.pl.entropy(mdata)", KeyError, "scmag", says="names the slot."),
    refused("no run", "smm.pl.cluster_tree(mdata)", KeyError, "scmag", says="names the slot and the verb."),
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
    refused(
        "a picture for a folder that is not there",
        "smm.pl.entropy(mdata, save='none/entropy.png')",
        FileNotFoundError,
        "none",
        make=finished,
        says="names the folder.",
    ),
    refused(
        "a picture in the format of data",
        "smm.pl.entropy(mdata, save='entropy.h5mu')",
        ValueError,
        "entropy.h5mu",
        r"\.png",
        make=finished,
        says="lists the formats.",
    ),
    refused(
        "fewer colours than clusters",
        "smm.pl.overview(mdata, palette=['red', 'blue'])",
        ValueError,
        "2 colours for 4 groups",
        make=finished,
        says="names the groups.",
    ),
    works("four clusters", "smm.pl.markers(mdata)", drawn, make=finished, says="A picture."),
    works(
        "labels with `$`, `<`, `\\` and 180 letters",
        "smm.pl.overview(mdata, labels='mine')",
        drawn,
        make=changed(odd_labels, finished),
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
        make=changed(odd_labels, finished),
        says="The page shows them as text.",
    ),
]

TABLE: dict[str, list[Row]] = {
    "Pictures": PICTURES,
    "The report": REPORT,
}
