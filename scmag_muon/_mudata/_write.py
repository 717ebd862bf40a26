"""Write-back: what fitting left, values that survive saving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scmag_muon._keys import Keys

if TYPE_CHECKING:
    from mudata import MuData


def copy_fitted(source: MuData, target: MuData, modalities: Sequence[str], key: str) -> None:
    """Carry what manifold fitting wrote under ``key`` from one MuData to another with the same cells and features."""
    for name in modalities:
        target.mod[name].layers[key] = source.mod[name].layers[key]
        target.mod[name].var[key] = source.mod[name].var[key].to_numpy()
        target.mod[name].uns[key] = source.mod[name].uns[key]
    for slot in (Keys.joint_embedding(key), Keys.fitted_embedding(key)):
        target.obsm[slot] = source.obsm[slot]


def to_uns(value: Any) -> Any:
    """A copy of ``value`` that survives ``write_h5mu``: no tuples, no ``None`` in lists, no keys but strings."""
    if isinstance(value, Mapping):
        return {str(key).replace("/", "_"): to_uns(item) for key, item in value.items()}
    if isinstance(value, (tuple, list, set, frozenset)):
        items = [to_uns(item) for item in value]
        return ["None" if item is None else item for item in items]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str, np.ndarray, pd.DataFrame)):
        return value
    return str(value)
