"""Evidence on the number of clusters, as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.ticker import MaxNLocator

from scmag_muon.pl import _canvas, _draw

if TYPE_CHECKING:
    import os

    from matplotlib.axes import Axes
    from mudata import MuData


@_canvas.described
def n_clusters(
    mdata: MuData,
    *,
    key: str = "n_clusters",
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    save: str | os.PathLike[str] | None = None,
    show: bool | None = None,
) -> Axes:
    """Number of communities over the resolution, with its range over samples and how stable the clusters are.

    Parameters
    ----------
    mdata
        As :func:`scmag_muon.tl.n_clusters` left it.
    key
        The ``key_added`` of that call.

    Returns
    -------
    The axes.

    Raises
    ------
    KeyError
        Where there is no table.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=300, n_vars=200, n_prot=20, n_clusters=3)
    >>> smm.pp.manifold_fit(mdata)
    >>> table = smm.tl.n_clusters(mdata, resolutions=(0.5, 1.0), n_replicates=2)
    >>> ax = smm.pl.n_clusters(mdata)
    """
    canvas = _canvas.Canvas(figsize=figsize, save=save, show=show, ax=ax)
    record = _draw.record(mdata, key, f"scmag_muon.tl.n_clusters(mdata, key_added={key!r})")
    table = record["table"]
    ax = canvas.axes((7.4, 4))
    ax.fill_between(
        table["resolution"],
        table["fewest"],
        table["most"],
        color=_draw.BLUE,
        alpha=0.2,
        linewidth=0,
        label="samples of 80 %",
    )
    ax.plot(table["resolution"], table["n_clusters"], color=_draw.BLUE, marker="o", label="all cells")
    for x, y, stability in zip(table["resolution"], table["n_clusters"], table["stability"], strict=True):
        ax.annotate(f"{stability:.2f}", (x, y), xytext=(0, 8), textcoords="offset points", ha="center", fontsize=8)
    ax.margins(x=0.06, y=0.15)
    ax.set_xlabel("Leiden resolution (above the points: ARI of samples with all cells)")
    ax.set_ylabel("number of clusters")
    ax.set_title(
        f"{record['estimate']} clusters, at resolution {record['resolution']:g}; {record['fewest']} to {record['most']} in samples",
        loc="left",
        fontsize=11,
    )
    ax.spines[["top", "right"]].set_visible(False)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False, fontsize=8, borderaxespad=0)
    return canvas.done(ax)
