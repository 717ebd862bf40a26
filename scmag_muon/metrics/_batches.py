"""How well batches mix in a space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scmag_muon._checks import check_number
from scmag_muon.manifold.neighbors import nearest_neighbors

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def batch_mixing(embedding: ArrayLike, batches: Any, *, n_neighbors: int = 30) -> dict[str, float]:
    """How well batches mix among the nearest neighbours.

    Parameters
    ----------
    embedding
        Coordinates of the cells, shape ``(n_obs, n_dimensions)``.
    batches
        Batch of each cell, shape ``(n_obs,)``.
    n_neighbors
        Neighbours of each cell to look at, itself left out.

    Returns
    -------
    ``"mixing"``
        Share of neighbours from other batches over the share that chance gives: 0 apart, 1 mixed, whatever the sizes.
    ``"ilisi"``
        Inverse Simpson index of the neighbours' batches, from 0 (one batch) to 1 (all equally often), mean over cells
        (Korsunsky et al. 2019, with equal weights for the neighbours). Batches of unequal size stay below 1 even when mixed.

    Raises
    ------
    ValueError
        Where lengths differ, there is one batch only, or a cell has none.

    Examples
    --------
    >>> import numpy as np
    >>> from scmag_muon.metrics import batch_mixing
    >>> apart = np.concatenate([np.arange(40.0), 1000 + np.arange(40.0)])[:, None]
    >>> batch_mixing(apart, ["a"] * 40 + ["b"] * 40, n_neighbors=10)
    {'mixing': 0.0, 'ilisi': 0.0}
    """
    x = np.asarray(embedding, dtype=np.float32)
    column = pd.Categorical(batches)
    if len(column) != len(x):
        raise ValueError(f"`batches` names {len(column)} cells, `embedding` holds {len(x)}.")
    if (column.codes < 0).any():
        raise ValueError(f"`batches` is missing for {int((column.codes < 0).sum())} cells.")
    column = column.remove_unused_categories()
    n_batches = len(column.categories)
    if n_batches < 2:
        raise ValueError("There is one batch only: nothing can mix.")
    n_neighbors = min(check_number("n_neighbors", n_neighbors, integer=True, low=1), len(x) - 1)
    neighbors = column.codes[nearest_neighbors(x, n_neighbors + 1)[:, 1:]]
    shares = np.stack([(neighbors == code).mean(axis=1) for code in range(n_batches)], axis=1)
    sizes = np.bincount(column.codes)
    others = 1 - shares[np.arange(len(x)), column.codes]
    expected = (len(x) - sizes[column.codes]) / (len(x) - 1)
    simpson = 1 / (shares**2).sum(axis=1)
    return {
        "mixing": float(others.mean() / expected.mean()),
        "ilisi": float((simpson.mean() - 1) / (n_batches - 1)),
    }
