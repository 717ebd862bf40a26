"""How clusters connect, and pseudotime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scmag_muon import _values
from scmag_muon._keys import Keys
from scmag_muon.pl import _canvas, _colors, _draw

if TYPE_CHECKING:
    import os

    from mudata import MuData


@_canvas.described
def trajectory(
    mdata: MuData,
    *,
    key: str = Keys.SCMAG,
    basis: str = "X_umap",
    min_connectivity: float = 0.1,
    figsize: tuple[float, float] | None = None,
    palette: _colors.Palette | None = None,
    save: str | os.PathLike[str] | None = None,
    show: bool | None = None,
) -> np.ndarray:
    """PAGA's graph of the clusters and the diffusion pseudotime, on the map (paper, figure 8d).

    Parameters
    ----------
    mdata
        As :func:`scmag_muon.tl.trajectory` left it, and a UMAP of the clustering space.
    key
        The ``key`` of that call.
    basis
        Map in ``mdata.obsm``.
    min_connectivity
        Weaker connections are not drawn.

    Returns
    -------
    The axes: clusters joined by lines as wide as their connectivity; pseudotime, with a star at the root
    and cells grey that no path leads to.

    Raises
    ------
    KeyError
        Where the trajectory or the map is not there.

    Examples
    --------
    >>> import scanpy as sc
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=150, n_vars=80, n_prot=12, n_clusters=3)
    >>> smm.tl.scmag(mdata, n_clusters=3, max_epochs_pretrain=4, max_epochs=2, progress_bar=False)
    >>> sc.pp.neighbors(mdata, use_rep="X_scmag", transformer="sklearn")
    >>> smm.tl.trajectory(mdata, root="0")
    >>> mdata.obsm["X_umap"] = mdata.obsm["X_scmag"][:, :2]  # or scanpy.tl.umap
    >>> axes = smm.pl.trajectory(mdata)
    """
    canvas = _canvas.Canvas(figsize=figsize, save=save, show=show)
    found = _draw.record(mdata, Keys.trajectory(key), "scmag_muon.tl.trajectory(mdata, root=...)", "connectivities")
    xy = _draw.coordinates(mdata, basis, key)
    groups = str(found["params"]["groupby"])
    labels = _values.cluster_column(mdata, groups, argument="groupby")
    colors = _colors.of_column(mdata, groups, palette)
    connectivities = found["connectivities"]
    pseudotime = mdata.obs[Keys.pseudotime(key)].to_numpy(dtype=float)
    axes = canvas.subplots(1, 2, (9.5, 4.2))[0]
    _draw.categories_on_map(axes[0], xy, labels, "clusters and their connectivity (PAGA)", colors=colors)
    middles = {str(name): np.median(xy[(labels == name).to_numpy()], axis=0) for name in labels.cat.categories}
    names = [str(name) for name in connectivities.index]
    strength = connectivities.to_numpy()
    for i, j in zip(*np.nonzero(np.triu(strength, 1) >= min_connectivity), strict=True):
        if not {names[i], names[j]} <= set(middles):  # its cells were taken out
            continue
        ends = np.array([middles[names[i]], middles[names[j]]])
        axes[0].plot(*ends.T, color="black", alpha=0.75, linewidth=0.6 + 4 * strength[i, j], zorder=4)
    _draw.values_on_map(axes[1], xy, pseudotime, "diffusion pseudotime", limits=(0, 1), unit="0 at the root")
    root = xy[mdata.obs_names == found["root_cell"]]  # none where the cell was taken out
    if len(root):
        axes[1].scatter(
            *root[0], marker="*", s=180, c=_draw.ORANGE, edgecolors="white", linewidths=1, zorder=6, label="root"
        )
    if np.isnan(pseudotime).any():
        axes[1].scatter([], [], s=20, c=_colors.MISSING, label="not connected with the root")
    if axes[1].get_legend_handles_labels()[0]:
        axes[1].legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=2, frameon=False, fontsize=8)
    return canvas.done(axes)
