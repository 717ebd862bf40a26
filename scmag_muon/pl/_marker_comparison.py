"""Raw counts beside their reconstruction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scmag_muon import _values
from scmag_muon._keys import Keys
from scmag_muon.pl import _canvas, _draw

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from mudata import MuData


@_canvas.described
def marker_comparison(
    mdata: MuData,
    *,
    features: Sequence[str],
    key: str = Keys.SCMAG,
    basis: str = "X_umap",
    figsize: tuple[float, float] | None = None,
    save: str | os.PathLike[str] | None = None,
    show: bool | None = None,
) -> np.ndarray:
    """Each feature on the map twice: in normalised raw counts, and in the network's reconstruction (paper, figure 7).

    Parameters
    ----------
    mdata
        What :func:`scmag_muon.tl.scmag` wrote, and a UMAP of the clustering space.
    features
        Names of features, as ``"CD14"``, or ``"prot:CD14"`` where more than one modality has the name.
    key
        The ``key_added`` of :func:`scmag_muon.tl.scmag`.
    basis
        Map in ``mdata.obsm``.

    Returns
    -------
    The axes, a row per feature: raw, reconstruction. Both in log(1 + x), each up to its own 99th percentile
    (its maximum where fewer cells have any), because
    proteins' raw counts are normalised by the cell's geometric mean and reconstructions are counts at the median library.

    Raises
    ------
    KeyError
        Where a feature, the reconstruction or the map is not there.
    ValueError
        Where a name is in more than one modality, or no feature is asked for.

    Notes
    -----
    The reconstruction looks sharper always: it is an average over neighbours, and the map shows neighbours. It is for
    looking, not for testing; :func:`scmag_muon.tl.held_out_markers` says by how much it tells types apart better.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=150, n_vars=80, n_prot=12, n_clusters=3)
    >>> smm.tl.scmag(mdata, n_clusters=3, max_epochs_pretrain=4, max_epochs=2, progress_bar=False)
    >>> mdata.obsm["X_umap"] = mdata.obsm["X_scmag"][:, :2]  # or scanpy.pp.neighbors and scanpy.tl.umap
    >>> axes = smm.pl.marker_comparison(mdata, features=["gene_0", "prot_1"])
    >>> axes.shape
    (2, 2)
    """
    canvas = _canvas.Canvas(figsize=figsize, save=save, show=show)
    names = [features] if isinstance(features, str) else list(features)
    if not names:
        raise ValueError("`features` is empty: name at least one.")
    xy = _draw.coordinates(mdata, basis, key)
    found = [_values.find_feature(mdata, name, _values.used_modalities(mdata, key)) for name in names]
    raw = _values.normalized_features(mdata, found, key=key)
    denoised = _values.denoised_features(mdata, found, key=key)
    axes = canvas.grid(2 * len(found), n_columns=2, size=(4.0, 3.3))
    axes = axes.reshape(len(found), 2)
    for row, feature in zip(axes, found, strict=True):
        for ax, values, state in zip(row, (raw[feature], denoised[feature]), ("raw", "reconstructed"), strict=True):
            low, high = (0.0 if state == "raw" else float(np.nanmin(values))), _draw.highest(values)
            title = f"{_draw.text(feature.name)} ({_draw.text(feature.modality)}), {state}"
            _draw.values_on_map(ax, xy, values, title, limits=(low, max(high, low + 1e-6)), unit="log(1 + x)")
    return canvas.done(axes)
