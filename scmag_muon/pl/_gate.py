"""What the gate lets through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scmag_muon._keys import Keys
from scmag_muon.pl import _canvas, _draw

if TYPE_CHECKING:
    import os

    from matplotlib.axes import Axes
    from mudata import MuData


@_canvas.described
def gate(
    mdata: MuData,
    *,
    key: str = Keys.SCMAG,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    save: str | os.PathLike[str] | None = None,
    show: bool | None = None,
) -> Axes:
    """Mean gate of each cluster in each latent dimension: which modality speaks for which cluster (eq. 17).

    Parameters
    ----------
    mdata
        As :func:`scmag_muon.tl.scmag` left it.
    key
        The ``key_added`` of that call.

    Returns
    -------
    The axes. The left half of the dimensions is the first modality's code, the right half the other's; the mean over each
    half stands to the right. Colours span the values at hand, because the gate starts open and closes little.

    Raises
    ------
    KeyError
        Where no gate was written.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=150, n_vars=80, n_prot=12, n_clusters=3)
    >>> smm.tl.scmag(mdata, n_clusters=3, max_epochs_pretrain=4, max_epochs=2, progress_bar=False)
    >>> ax = smm.pl.gate(mdata)
    """
    canvas = _canvas.Canvas(figsize=figsize, save=save, show=show, ax=ax)
    values = _draw.record(mdata, key, f"scmag_muon.tl.scmag(mdata, key_added={key!r})", "gate")["gate"]
    modalities = [str(name).rsplit(" ", 1)[0] for name in values.columns]
    names = list(dict.fromkeys(modalities))
    n_clusters, n_dimensions = values.shape
    ax = canvas.axes((9, max(1.7 + 0.26 * n_clusters, 2.6)))
    image = ax.imshow(values, cmap=_draw.CONTINUOUS, aspect="auto", interpolation="nearest")
    ax.set_yticks(range(n_clusters), [_draw.text(name) for name in values.index], fontsize=8)
    ax.set_xticks(range(n_dimensions), [str(name).rsplit(" ", 1)[-1] for name in values.columns], fontsize=7)
    ax.set_ylabel("cluster")
    ax.set_xlabel("latent dimension of the modality's code")
    ax.tick_params(length=0)
    for name in names:
        inside = np.flatnonzero([each == name for each in modalities])
        ax.text(inside.mean(), 1.02, _draw.text(name), transform=ax.get_xaxis_transform(), ha="center", fontsize=10)
        if inside[0]:
            ax.axvline(inside[0] - 0.5, color="white", linewidth=3)
    for i in range(n_clusters):
        means = [values.iloc[i].to_numpy()[[each == name for each in modalities]].mean() for name in names]
        ax.text(n_dimensions - 0.2, i, "   ".join(f"{mean:.2f}" for mean in means), va="center", fontsize=8)
    header = "mean\n" + "  ".join(_draw.text(name, 6) for name in names)
    ax.text(n_dimensions - 0.2, 1.02, header, transform=ax.get_xaxis_transform(), fontsize=8)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.9, aspect=15, pad=0.02)
    bar.set_label("gate: 0 closed, 1 open", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)
    ax.spines[:].set_visible(False)
    return canvas.done(ax)
