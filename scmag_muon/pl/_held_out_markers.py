"""Markers of known types in raw and in reconstructed counts, on held-out cells."""

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
def held_out_markers(
    mdata: MuData,
    *,
    key: str = Keys.SCMAG,
    ax: Axes | None = None,
    figsize: tuple[float, float] | None = None,
    palette: _colors.Palette | None = None,
    save: str | os.PathLike[str] | None = None,
    show: bool | None = None,
) -> Axes:
    """AUROC of each known type's markers on held-out cells, reconstructed over raw; above the diagonal is a gain.

    Parameters
    ----------
    mdata
        As :func:`scmag_muon.tl.held_out_markers` left it.
    key
        The ``key`` of that call.
    palette
        Colours of the modalities: a list, the name of a matplotlib colour map, or a dict.

    Returns
    -------
    The axes: a point per type and marker, coloured by modality.

    Raises
    ------
    KeyError
        Where :func:`scmag_muon.tl.held_out_markers` has not run.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=200, n_vars=80, n_prot=12, n_clusters=3)
    >>> smm.tl.scmag(mdata, n_clusters=3, max_epochs_pretrain=4, max_epochs=2, progress_bar=False)
    >>> table = smm.tl.held_out_markers(mdata, labels="cell_type", n_markers=2, progress_bar=False)
    >>> ax = smm.pl.held_out_markers(mdata)
    """
    canvas = _canvas.Canvas(figsize=figsize, save=save, show=show, ax=ax)
    verb = f"scmag_muon.tl.held_out_markers(mdata, labels=..., key={key!r})"
    table = _draw.record(mdata, Keys.held_out(key), verb)["table"]
    colors = _colors.of_names(list(dict.fromkeys(table["modality"].astype(str))), palette)
    ax = canvas.axes((6.4, 4.2))
    lowest = min(float(table[["raw", "reconstructed"]].to_numpy().min()), 0.5) - 0.02
    ax.plot([lowest, 1.01], [lowest, 1.01], color=_draw.GREY, linestyle="--", linewidth=0.8)
    for i, (name, rows) in enumerate(table.groupby(table["modality"].astype(str), sort=False)):
        gain = float(np.mean(rows["gain"]))
        ax.scatter(
            rows["raw"], rows["reconstructed"], s=24, color=colors[str(name)], edgecolors="white", linewidths=0.5,
            label=f"{_draw.text(name)}: mean gain {gain:+.3f}", marker="os^D"[i % 4],
        )  # fmt: skip
    ax.set_xlim(lowest, 1.01)
    ax.set_ylim(lowest, 1.01)
    ax.set_aspect("equal")
    ax.set_xlabel("AUROC in raw counts")
    ax.set_ylabel("AUROC in the reconstruction")
    ax.set_title("markers on held-out cells", loc="left", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False, fontsize=8, borderaxespad=0)
    return canvas.done(ax)
