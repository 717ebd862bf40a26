"""Enriched gene sets by cluster, as dots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scmag_muon._checks import check_number
from scmag_muon._keys import Keys
from scmag_muon.pl import _canvas, _draw
from scmag_muon.pl._dots import dots

if TYPE_CHECKING:
    import os

    from matplotlib.axes import Axes
    from mudata import MuData

_MAX_LOG_P = 20.0


@_canvas.described
def enrichment(
    mdata: MuData,
    *,
    n_sets: int = 3,
    max_p_adjusted: float = 0.05,
    key: str = Keys.SCMAG,
    enrichment_key: str | None = None,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    save: str | os.PathLike[str] | None = None,
    show: bool | None = None,
) -> Axes:
    """The gene sets that are most enriched in each cluster: colour is significance, size the share of the set (paper, figure 9b).

    Parameters
    ----------
    mdata
        As :func:`scmag_muon.tl.enrichment` left it.
    n_sets
        Gene sets to take from each cluster, those with the smallest p.
    max_p_adjusted
        Dots with a larger adjusted p are not drawn.
    key
        The ``key`` of that call.
    enrichment_key
        Its ``key_added``; ``None`` is ``f"{key}_enrichment"``.

    Returns
    -------
    The axes. Colour is -log10 of the adjusted p, up to 20; size the share of the set's measured genes among the markers.

    Raises
    ------
    KeyError
        Where there is no enrichment.
    ValueError
        Where no gene set is as significant as asked.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=200, n_vars=80, n_prot=12, n_clusters=3)
    >>> ranked = smm.tl.markers(mdata, groupby="cell_type")
    >>> best = ranked[(ranked["modality"] == "rna") & (ranked["cluster"] == "type_1")]["feature"]
    >>> table = smm.tl.enrichment(mdata, gene_sets={"made of the best": list(best[:8])}, min_auroc=0.55)
    >>> ax = smm.pl.enrichment(mdata)
    """
    canvas = _canvas.Canvas(figsize=figsize, save=save, show=show, ax=ax)
    n_sets = check_number("n_sets", n_sets, integer=True, low=1)
    check_number("max_p_adjusted", max_p_adjusted, low=0, high=1)
    slot = enrichment_key or Keys.enrichment(key)
    table = _draw.record(mdata, slot, "scmag_muon.tl.enrichment(mdata, gene_sets=...)")["table"]
    table = table[table["p_adjusted"].astype(float) <= max_p_adjusted]
    if table.empty:
        raise ValueError(f"mdata.uns[{slot!r}] holds no gene set with an adjusted p of at most {max_p_adjusted}.")
    table = table.assign(cluster=table["cluster"].astype(str), gene_set=table["gene_set"].astype(str))
    best = table.sort_values("p", kind="stable").groupby("cluster", sort=False).head(n_sets)
    clusters = sorted(set(best["cluster"]), key=lambda name: (len(name), name))
    best = best.assign(order=best["cluster"].map({name: i for i, name in enumerate(clusters)}))
    sets = list(dict.fromkeys(best.sort_values(["order", "p"], kind="stable")["gene_set"]))
    rows = table[table["gene_set"].isin(sets) & table["cluster"].isin(clusters)]
    log_p = np.minimum(-np.log10(np.maximum(rows["p_adjusted"].to_numpy(dtype=float), 1e-300)), _MAX_LOG_P)
    return dots(
        canvas,
        rows.assign(log_p=log_p),
        across="cluster",
        down="gene_set",
        columns=clusters,
        index=sets,
        color="log_p",
        size="share",
        color_label="-log10 adjusted p",
        size_label="share of the set",
        color_map="viridis_r",
        limits=(0, max(float(log_p.max()), 2.0)),
        title="enriched gene sets by cluster",
    )
