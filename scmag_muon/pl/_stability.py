"""Which clusters come back with other seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scmag_muon._keys import Keys
from scmag_muon.pl import _canvas, _colors, _draw

if TYPE_CHECKING:
    import os

    from matplotlib.axes import Axes
    from mudata import MuData


@_canvas.described
def stability(
    mdata: MuData,
    *,
    key: str = Keys.SCMAG,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    save: str | os.PathLike[str] | None = None,
    show: bool | None = None,
) -> Axes:
    """Best Jaccard index of each cluster over seeds.

    Parameters
    ----------
    mdata
        As :func:`scmag_muon.tl.stability` left it.
    key
        The ``key`` of that call.

    Returns
    -------
    The axes: a bar per cluster, the mean; a point per seed. Above the upper line a cluster counts as stable, below the lower
    as dissolved (Hennig 2007).

    Raises
    ------
    KeyError
        Where :func:`scmag_muon.tl.stability` has not run.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=150, n_vars=80, n_prot=12, n_clusters=3)
    >>> smm.tl.scmag(mdata, n_clusters=3, max_epochs_pretrain=4, max_epochs=2, progress_bar=False)
    >>> table = smm.tl.stability(mdata, random_states=(1,), progress_bar=False)
    >>> ax = smm.pl.stability(mdata)
    """
    canvas = _canvas.Canvas(figsize=figsize, save=save, show=show, ax=ax)
    found = _draw.record(mdata, Keys.stability(key), f"scmag_muon.tl.stability(mdata, key={key!r})")
    table = found["table"]
    n_clusters = len(table)
    ax = canvas.axes((max(2.6 + 0.35 * n_clusters, 5.0), 3.2))
    values = table.to_numpy(dtype=float)
    ax.bar(range(n_clusters), values.mean(axis=1), 0.7, color=_colors.COLORS[4])
    spread = np.linspace(-0.2, 0.2, values.shape[1]) if values.shape[1] > 1 else np.zeros(1)
    for i, row in enumerate(values):
        ax.scatter(i + spread, row, s=14, color=_colors.COLORS[0], edgecolors="white", linewidths=0.4, zorder=3)
    for height, name in ((0.75, "stable"), (0.5, "dissolved")):
        ax.axhline(height, color=_draw.GREY, linestyle="--", linewidth=0.8)
        side = "bottom" if name == "stable" else "top"
        ax.text(1.01, height, name, transform=ax.get_yaxis_transform(), va=side, fontsize=8, color=_draw.GREY)
    ax.set_xticks(range(n_clusters), [_draw.text(name) for name in table.index])
    ax.set_ylim(0, 1.03)
    ax.set_xlabel("cluster")
    ax.set_ylabel("best Jaccard index")
    ari = found["ari"]["ari"].to_numpy(dtype=float)
    ax.set_title(f"{values.shape[1]} other seeds: mean ARI {ari.mean():.2f}", loc="left", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    return canvas.done(ax)
