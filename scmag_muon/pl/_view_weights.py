"""What each view and each modality weighs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scmag_muon import _mudata
from scmag_muon._keys import Keys
from scmag_muon.pl import _canvas, _colors, _draw

if TYPE_CHECKING:
    import os

    from mudata import MuData


@_canvas.described
def view_weights(
    mdata: MuData,
    *,
    manifold_key: str = Keys.MANIFOLD,
    figsize: tuple[float, float] | None = None,
    palette: _colors.Palette | None = None,
    save: str | os.PathLike[str] | None = None,
    show: bool | None = None,
) -> np.ndarray:
    """Weights of the four views in each modality's fused data, and of each modality in the joint neighbourhoods.

    Parameters
    ----------
    mdata
        As :func:`scmag_muon.pp.manifold_fit` left it.
    manifold_key
        The ``key_added`` of that call.
    palette
        Colours of the modalities: a list, the name of a matplotlib colour map, or a dict.

    Returns
    -------
    Two axes: view weights (eq. 11, they sum to 1 in each modality; all equal would be the dashed line), and the modalities'
    weights and replication (0 to 1).

    Raises
    ------
    KeyError
        Where ``mdata`` is not fitted.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=150, n_vars=80, n_prot=12, n_clusters=3)
    >>> smm.pp.manifold_fit(mdata)
    >>> axes = smm.pl.view_weights(mdata)
    """
    canvas = _canvas.Canvas(figsize=figsize, save=save, show=show)
    _mudata.check_mudata(mdata)
    records = {name: adata.uns[manifold_key] for name, adata in mdata.mod.items() if manifold_key in adata.uns}
    if not records:
        raise KeyError(
            f"No modality has .uns[{manifold_key!r}]. Run scmag_muon.pp.manifold_fit(mdata, key_added={manifold_key!r})."
        )
    views = list(next(iter(records.values()))["view_weights"])
    colors = _colors.of_names(list(records), palette)
    axes = canvas.subplots(1, 2, (9, 3.4), width_ratios=[3, 2])[0]
    place, width = np.arange(len(views)), 0.8 / len(records)
    for i, (name, record) in enumerate(records.items()):
        heights = [float(record["view_weights"][view]) for view in views]
        axes[0].bar(
            place + (i - (len(records) - 1) / 2) * width,
            heights,
            width * 0.92,
            color=colors[name],
            label=_draw.text(name),
        )
    axes[0].axhline(1 / len(views), color=_draw.GREY, linestyle="--", linewidth=0.8)
    axes[0].set_xticks(place, [view.replace("_", "\n", 1) for view in views])
    axes[0].set_ylabel("weight of the view")
    shares = {
        "weight in the joint\nneighbourhoods": "modality_weight",
        "replication between\nhalves of the counts": "replication",
    }
    place = np.arange(len(shares))
    for i, (name, record) in enumerate(records.items()):
        bars = axes[1].bar(
            place + (i - (len(records) - 1) / 2) * width,
            [float(record[slot]) for slot in shares.values()],
            width * 0.92,
            color=colors[name],
        )
        axes[1].bar_label(bars, fmt="%.2f", fontsize=8, padding=1)
    axes[1].set_xticks(place, list(shares))
    axes[1].set_ylim(0, 1.08)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(axis="x", length=0)
    axes[0].figure.legend(loc="outside right center", frameon=False, title="modality")
    return canvas.done(axes)
