"""Loss history with its stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scmag_muon._keys import Keys
from scmag_muon.pl import _canvas, _draw

if TYPE_CHECKING:
    import os

    from matplotlib.axes import Axes
    from mudata import MuData

_STAGES = {1: "reconstruction", 2: "+ KL", 3: "+ clustering"}
_TITLES = {"kl": "KL divergence", "cluster": "clustering loss", "label_change": "share of cells that changed cluster"}


@_canvas.described
def training(
    mdata: MuData,
    *,
    key: str = Keys.SCMAG,
    figsize: tuple[float, float] | None = None,
    save: str | os.PathLike[str] | None = None,
    show: bool | None = None,
) -> np.ndarray:
    """Each term of the loss over the epochs, with the switches between stages marked (section 2.4, eq. 33).

    Parameters
    ----------
    mdata
        As :func:`scmag_muon.tl.scmag` left it.
    key
        The ``key_added`` of that call.

    Returns
    -------
    The axes, one per term, shape ``(n_terms,)``.

    Raises
    ------
    KeyError
        Where there is no history.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=150, n_vars=80, n_prot=12, n_clusters=3)
    >>> smm.tl.scmag(mdata, n_clusters=3, max_epochs_pretrain=4, max_epochs=2, progress_bar=False)
    >>> axes = smm.pl.training(mdata)
    """
    canvas = _canvas.Canvas(figsize=figsize, save=save, show=show)
    # a training stays what it was, also where clusters are renamed
    history = _draw.part_of_record(mdata, key, f"scmag_muon.tl.scmag(mdata, key_added={key!r})", "history")
    terms = [name for name in history if name not in ("stage", "loss", "validation_loss")]
    stage = history["stage"].to_numpy()
    starts = [(int(number), int(np.flatnonzero(stage == number)[0])) for number in np.unique(stage)]
    axes = canvas.subplots(len(terms), 1, (7, 1.6 * len(terms) + 0.6), sharex=True)[:, 0]
    for ax, name in zip(axes, terms, strict=True):
        ax.plot(np.arange(1, len(history) + 1), history[name], color=_draw.BLUE)
        ax.set_title(_title(name), loc="left", fontsize=10)
        if name == "label_change":
            ax.set_ylim(bottom=0)  # a share; all zero, it would else lie between negative and positive ones
        ax.spines[["top", "right"]].set_visible(False)
        for _, start in starts[1:]:
            ax.axvline(start + 0.5, color=_draw.GREY, linestyle="--", linewidth=0.8)
    _name_stages(axes[0], starts, len(history))
    axes[-1].set_xlabel("epoch")
    return canvas.done(axes)


def _title(name: str) -> str:
    return _TITLES.get(name, _draw.text(name, 60).replace("reconstruction_", "reconstruction loss, "))


def _name_stages(ax: Axes, starts: list[tuple[int, int]], n_epochs: int) -> None:
    ends = [start for _, start in starts[1:]] + [n_epochs]
    for (number, start), end in zip(starts, ends, strict=True):
        # a letter of this size is about 1.3 % of the axes wide
        name = _STAGES[number] if end - start > 0.013 * len(_STAGES[number]) * n_epochs else str(number)
        ax.text((start + end + 1) / 2, 1.28, name, transform=ax.get_xaxis_transform(), ha="center", fontsize=9)
