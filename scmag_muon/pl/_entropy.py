"""How undecided the soft assignment is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scmag_muon import _mudata, _values
from scmag_muon._keys import Keys
from scmag_muon.pl import _canvas, _colors, _draw

if TYPE_CHECKING:
    import os

    from matplotlib.axes import Axes
    from mudata import MuData

_UNDECIDED = 0.1  # as a cell that is shared 98 : 2 by two clusters


@_canvas.described
def entropy(
    mdata: MuData,
    *,
    key: str = Keys.SCMAG,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    save: str | os.PathLike[str] | None = None,
    show: bool | None = None,
) -> Axes:
    """Entropy of the soft assignment in each cluster (eq. 31): where cells lie between clusters.

    Parameters
    ----------
    mdata
        As :func:`scmag_muon.tl.scmag` left it.
    key
        The ``key_added`` of that call.

    Returns
    -------
    The axes. The paper's soft assignment is sharp: often all boxes lie flat at 0, and the title's share says more. Boxes span the quartiles, whiskers the 5th to the 95th percentile, points the mean; entropy is in nats, and the
    dashed line is two clusters in equal shares (log 2).

    Raises
    ------
    KeyError
        Where clusters or entropy are not there.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=150, n_vars=80, n_prot=12, n_clusters=3)
    >>> smm.tl.scmag(mdata, n_clusters=3, max_epochs_pretrain=4, max_epochs=2, progress_bar=False)
    >>> ax = smm.pl.entropy(mdata)
    """
    canvas = _canvas.Canvas(figsize=figsize, save=save, show=show, ax=ax)
    labels = _values.cluster_column(mdata, key)
    slot = Keys.entropy(key)
    if slot not in mdata.obs:
        raise KeyError(f"No mdata.obs[{slot!r}]. Run scmag_muon.tl.scmag(mdata, key_added={key!r}).")
    values = _mudata.get_obs_column(mdata, slot, argument="key").to_numpy(dtype=float)
    names = list(labels.cat.categories)
    groups = [values[(labels == name).to_numpy()] for name in names]
    ax = canvas.axes((max(2 + 0.35 * len(names), 4.5), 3.2))
    boxes = ax.boxplot(groups, whis=(5, 95), showfliers=False, showmeans=True, patch_artist=True, widths=0.6)
    for box in boxes["boxes"]:
        box.set(facecolor=_colors.COLORS[4], edgecolor=_draw.GREY)
    for line in [*boxes["medians"], *boxes["whiskers"], *boxes["caps"]]:
        line.set(color=_draw.GREY)
    for point in boxes["means"]:
        point.set(marker="o", markersize=4, markerfacecolor=_draw.ORANGE, markeredgecolor="white")
    ax.axhline(np.log(2), color=_draw.GREY, linestyle="--", linewidth=0.8)
    ax.set_xticks(range(1, len(names) + 1), [_draw.text(name) for name in names])
    ax.set_ylim(bottom=0)
    ax.set_xlabel("cluster")
    ax.set_ylabel("entropy (nats)")
    ax.set_title(f"{(values > _UNDECIDED).mean():.1%} of the cells above {_UNDECIDED} nats", loc="left", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    return canvas.done(ax)
