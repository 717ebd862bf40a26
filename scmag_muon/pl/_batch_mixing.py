"""The batches before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scmag_muon import _values
from scmag_muon._keys import Keys
from scmag_muon.pl import _canvas, _colors, _draw

if TYPE_CHECKING:
    import os

    import numpy as np
    from mudata import MuData


@_canvas.described
def batch_mixing(
    mdata: MuData,
    *,
    key: str = Keys.SCMAG,
    figsize: tuple[float, float] | None = None,
    palette: _colors.Palette | None = None,
    save: str | os.PathLike[str] | None = None,
    show: bool | None = None,
) -> np.ndarray:
    """UMAPs before and after scMAG, coloured by batch, with how well the batches mix (paper, figure 6).

    Parameters
    ----------
    mdata
        As :func:`scmag_muon.tl.batch_mixing` left it.
    key
        The ``key`` of that call.

    Returns
    -------
    The two axes. ``mixing`` is 0 where batches are apart, 1 where neighbours are of other batches as often as by chance;
    ``ilisi`` the inverse Simpson index, 0 to 1 (:func:`scmag_muon.metrics.batch_mixing`).

    Raises
    ------
    KeyError
        Where :func:`scmag_muon.tl.batch_mixing` has not run.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=150, n_vars=80, n_prot=12, n_clusters=3, n_batches=2)
    >>> smm.tl.scmag(mdata, n_clusters=3, batch_key="batch", max_epochs_pretrain=4, max_epochs=2, progress_bar=False)
    >>> table = smm.tl.batch_mixing(mdata)
    >>> axes = smm.pl.batch_mixing(mdata)
    """
    canvas = _canvas.Canvas(figsize=figsize, save=save, show=show)
    slot = Keys.batch_mixing(key)
    found = _draw.record(mdata, slot, f"scmag_muon.tl.batch_mixing(mdata, key={key!r})")
    column = str(found["params"]["batch_key"])
    batches = _values.cluster_column(mdata, column, argument="batch_key")
    colors = _colors.of_column(mdata, column, palette, argument="batch_key")
    axes = canvas.subplots(1, 2, (9, 4))[0]
    for ax, state in zip(axes, ("before", "after"), strict=True):
        scores = found["table"].loc[state]
        title = f"{state}: mixing {scores['mixing']:.2f}, iLISI {scores['ilisi']:.2f}"
        xy = _draw.coordinates(mdata, f"X_{slot}_{state}")
        _draw.categories_on_map(ax, xy, batches, title, colors=colors, on_data=False, legend=state == "after")
    return canvas.done(axes)
