"""The best markers of each cluster, as dots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scmag_muon import _values
from scmag_muon._checks import check_number
from scmag_muon._keys import Keys
from scmag_muon.pl import _canvas, _draw
from scmag_muon.pl._dots import dots

if TYPE_CHECKING:
    import os

    from matplotlib.axes import Axes
    from mudata import MuData


@_canvas.described
def markers(
    mdata: MuData,
    *,
    n_markers: int = 3,
    modality: str | None = None,
    key: str = Keys.SCMAG,
    markers_key: str | None = None,
    housekeeping: bool = False,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    save: str | os.PathLike[str] | None = None,
    show: bool | None = None,
) -> Axes:
    """The best markers of each cluster over all clusters: colour is the effect, size the share of cells that have it.

    Parameters
    ----------
    mdata
        As :func:`scmag_muon.tl.markers` left it.
    n_markers
        Features to take from each cluster: markers that are higher in it than in each other cluster first, and of these those
        with the highest AUROC.
    modality
        Modality to show; ``None`` is the first that was ranked.
    key
        The ``key`` of :func:`scmag_muon.tl.markers`.
    markers_key
        Its ``key_added``; ``None`` is ``f"{key}_markers"``.
    housekeeping
        Show ribosomal and mitochondrial genes too.

    Returns
    -------
    The axes. Colour is the AUROC of the feature for the cluster: 0.5 says nothing, 1 tells perfectly, 0 by absence.

    Raises
    ------
    KeyError
        Where nothing was ranked, or not this modality.
    ValueError
        Where ``n_markers`` is below 1.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=200, n_vars=80, n_prot=12, n_clusters=3)
    >>> table = smm.tl.markers(mdata, groupby="cell_type")
    >>> ax = smm.pl.markers(mdata)
    """
    canvas = _canvas.Canvas(figsize=figsize, save=save, show=show, ax=ax)
    n_markers = check_number("n_markers", n_markers, integer=True, low=1)
    slot = markers_key or Keys.markers(key)
    table = _draw.record(mdata, slot, f"scmag_muon.tl.markers(mdata, key={key!r})")["table"]
    modality = modality or str(table["modality"].iloc[0])
    table = table[table["modality"].astype(str) == modality]
    if table.empty:
        raise KeyError(f"mdata.uns[{slot!r}] ranks no features of modality {modality!r}.")
    clusters = list(dict.fromkeys(table["cluster"].astype(str)))
    best = _values.short_list(table, n_markers, housekeeping=housekeeping)
    order = best["cluster"].astype(str).map({name: i for i, name in enumerate(clusters)})
    features = list(dict.fromkeys(best.loc[order.sort_values(kind="stable").index, "feature"].astype(str)))
    rows = table[table["feature"].astype(str).isin(features)]
    return dots(
        canvas,
        rows.assign(feature=rows["feature"].astype(str), cluster=rows["cluster"].astype(str)),
        across="feature",
        down="cluster",
        columns=features,
        index=clusters,
        color="auroc",
        size="share",
        color_label="AUROC",
        size_label="share of cells",
        color_map=_draw.DIVERGING,
        limits=(0, 1),
        title=f"markers ({_draw.text(modality)})",
    )
