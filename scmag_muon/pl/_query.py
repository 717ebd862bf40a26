"""A query over the map of its reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scmag_muon import _mudata, _values
from scmag_muon._keys import Keys
from scmag_muon.pl import _canvas, _colors, _draw

if TYPE_CHECKING:
    import os

    import numpy as np
    from mudata import MuData


@_canvas.described
def query(
    mdata: MuData,
    labels: str,
    *,
    reference: MuData | None = None,
    basis: str = "X_umap",
    key: str = Keys.SCMAG,
    figsize: tuple[float, float] | None = None,
    palette: _colors.Palette | None = None,
    save: str | os.PathLike[str] | None = None,
    show: bool | None = None,
) -> np.ndarray:
    """Transferred labels of a query, how sure they are, and how unlike its reference each cell is, on a map.

    Parameters
    ----------
    mdata
        The query, as :func:`scmag_muon.tl.map_query` left it.
    labels
        A column that was transferred, by its name in the reference.
    reference
        The reference's MuData, whose cells are drawn in grey beneath.
    basis
        Map of the reference that :func:`~scmag_muon.tl.map_query` was given as ``basis``; where it was given none, a map of the query
        itself.
    key
        The ``key_added`` of :func:`~scmag_muon.tl.map_query`.

    Returns
    -------
    The three axes: labels, their probability, unlikeness (1 is exceeded by one in a hundred of the reference's own cells).

    Raises
    ------
    KeyError
        Where the labels or the map are not there.

    Examples
    --------
    >>> import mudata
    >>> import scmag_muon as smm
    >>> _ = mudata.set_options(pull_on_update=False)  # as mudata 0.4 has it
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=300, n_vars=200, n_prot=20, n_clusters=3)
    >>> reference, query = mdata[:250].copy(), mdata[250:].copy()
    >>> model = smm.tl.scmag(
    ...     reference, n_clusters=3, max_epochs_pretrain=4, max_epochs=2, progress_bar=False, return_model=True
    ... )
    >>> reference.obsm["X_map"] = reference.obsm["X_manifold"][:, :2]  # in place of a UMAP
    >>> smm.tl.map_query(query, reference, model=model, labels="cell_type", basis="X_map")
    >>> axes = smm.pl.query(query, "cell_type", reference=reference, basis="X_map")
    """
    canvas = _canvas.Canvas(figsize=figsize, save=save, show=show)
    _mudata.check_mudata(mdata)
    column = Keys.transferred(key, labels)
    if column not in mdata.obs or Keys.transferred_probability(key, labels) not in mdata.obs:
        raise KeyError(
            f"No mdata.obs[{column!r}]. Run scmag_muon.tl.map_query(mdata, reference, labels={labels!r}, key_added={key!r})."
        )
    projected = Keys.projected(key, basis)
    xy = _draw.coordinates(mdata, projected if projected in mdata.obsm else basis, key)
    beneath = None if reference is None else _draw.coordinates(reference, basis, key)
    colors = _colors.of_column(mdata, column, palette)
    if palette is None and reference is not None and labels in reference.obs:
        colors = _colors.as_in(_colors.of_column(reference, labels), list(colors))
    axes = canvas.grid(3, n_columns=3, size=(4.2, 3.4))
    for ax in axes:
        if beneath is not None:
            size = _draw.point_size(len(beneath))
            ax.scatter(beneath[:, 0], beneath[:, 1], c=_colors.MISSING, s=size, linewidths=0, rasterized=True)
    unlike = mdata.obs[Keys.transferred_unlikeness(key, labels)].to_numpy(dtype=float)
    title = f"{labels}: {(unlike > 1).mean():.1%} unknown"
    _draw.categories_on_map(axes[0], xy, _values.cluster_column(mdata, column), title, colors=colors, on_data=False)
    sure = mdata.obs[Keys.transferred_probability(key, labels)].to_numpy(dtype=float)
    _draw.values_on_map(axes[1], xy, sure, "probability of the label", limits=(0, 1))
    _draw.values_on_map(axes[2], xy, unlike, "unlikeness", limits=(0, max(_draw.highest(unlike), 1)))
    return canvas.done(axes)
