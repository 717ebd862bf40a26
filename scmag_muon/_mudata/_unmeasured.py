"""Rows without a count that may stand for cells in which a modality was not measured."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from scmag_muon._mudata._counts import layer_of
from scmag_muon._mudata._pairing import read_first

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData

logger = logging.getLogger(__name__)

_FEWEST_CELLS = 20
_LEAST_SHARE = 0.05


def warn_of_unmeasured(
    mdata: MuData,
    counts: Mapping[str, Any],
    cells: Mapping[str, np.ndarray],
    layer: str | Mapping[str, str | None] | None,
) -> None:
    """Ask about cells without a count in a modality that have counts in another, where these are many.

    Parameters
    ----------
    mdata
        The cells.
    counts
        Of each modality, ``(n_obs, n_vars)``.
    cells
        Numbers of the rows of each modality among ``mdata.obs_names``.
    layer
        Where the counts lie.
    """
    filled = {name: np.zeros(mdata.n_obs, dtype=bool) for name in counts}
    for name, x in counts.items():
        filled[name][cells[name]] = np.asarray(x.sum(axis=1)).ravel() > 0
    anywhere = np.any(list(filled.values()), axis=0)
    for name, of_modality in cells.items():
        empty = of_modality[(anywhere & ~filled[name])[of_modality]]
        if len(empty) < max(_FEWEST_CELLS, _LEAST_SHARE * len(of_modality)):
            continue
        key = layer_of(layer, name)
        logger.warning(
            "Modality %r: %d of %d cells, such as %r, have no count at all, but have counts in another modality. Were they not "
            "measured? Then leave their rows out, so that they are taken as lacking and imputed:\n%s",
            name,
            len(empty),
            len(of_modality),
            str(mdata.obs_names[empty[0]]),
            f"{read_first(mdata)}import numpy as np\n"
            f"measured = np.asarray(mdata[{name!r}].{'X' if key is None else f'layers[{key!r}]'}.sum(axis=1)).ravel() > 0\n"
            f"mdata.mod[{name!r}] = mdata[{name!r}][measured].copy()\n"
            "mdata.update()",
        )
