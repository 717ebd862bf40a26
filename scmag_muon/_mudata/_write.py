"""Write-back: what fitting left, values that survive saving."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scmag_muon._keys import Keys
from scmag_muon._mudata._fit import copy_fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData


def copy_fitted(source: MuData, target: MuData, modalities: Sequence[str], key: str, *, layers: bool = True) -> None:
    """Carry what manifold fitting wrote under ``key`` from one MuData to another with the same cells and features.

    Layers are those that the source has, or none; those of an earlier fit go.
    """
    for name in modalities:
        rows = source.mod[name].obs_names.get_indexer(target.mod[name].obs_names)
        moved = (rows != np.arange(len(rows))).any()
        for layer in {key, *view_layers(target.mod[name], key)} & set(target.mod[name].layers):
            del target.mod[name].layers[layer]
        kept = {key, *view_layers(source.mod[name], key)} & set(source.mod[name].layers)
        for layer in kept if layers else ():
            values = source.mod[name].layers[layer]
            target.mod[name].layers[layer] = values[rows] if moved else values
        target.mod[name].var[key] = source.mod[name].var[key].to_numpy()
        target.mod[name].uns[key] = source.mod[name].uns[key]
    for slot in (Keys.joint_embedding(key), Keys.fitted_embedding(key)):
        target.obsm[slot] = source.obsm[slot]
    copy_fit(source, target, key)


def view_layers(adata: AnnData, key: str) -> list[str]:
    """Layers of the fitted views that were kept."""
    record = adata.uns.get(key)
    views = record.get("view_weights", {}) if isinstance(record, Mapping) else {}
    return [layer for view in views if (layer := Keys.view_layer(key, str(view))) in adata.layers]


def column_names(names: Iterable[Any]) -> list[str]:
    """Names under which files can hold columns, one for each: no slash, not empty or of dots alone, not anndata's own.

    They do not depend on the order of the names.
    """
    wanted = [str(name) for name in names]
    stored = {name: name for name in wanted if "/" not in name and name.strip(".") and name != "_index"}
    taken = set(stored)
    for name in sorted(set(wanted) - taken):
        other = name.replace("/", "_")
        other = other if other.strip(".") and other != "_index" else f"{other}_"
        while other in taken:
            other += "_"
        taken.add(other)
        stored[name] = other
    return [stored[name] for name in wanted]


def to_uns(value: Any) -> Any:
    """A copy of ``value`` that survives ``write_h5mu`` and that older readers take too.

    No tuples, no keys but strings, no lists of lists. What is ``None`` is left out: anndata 0.10 and 0.11 and the readers of other
    languages refuse it. So an argument that a record lacks was ``None``.
    """
    if isinstance(value, Mapping):
        return {str(key).replace("/", "_"): to_uns(item) for key, item in value.items() if item is not None}
    if isinstance(value, (tuple, list, set, frozenset)):
        return _to_list(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (bool, int, float, str, np.ndarray, pd.DataFrame)):
        return value
    return str(value)


def _to_list(values: Collection[Any]) -> Any:
    items = [to_uns(item) for item in values]
    if any(isinstance(item, (list, dict, np.ndarray)) for item in items):
        return to_json(values)
    kinds = {str if item is None else type(item) for item in items}
    return items if len(kinds) < 2 and None not in items else [str(item) for item in items]


def to_json(value: Any) -> str:
    """Nested values as text, ``None`` among them, for :func:`from_json`."""
    return json.dumps(value, default=_json_default)


def from_json(value: Any) -> Any:
    """What :func:`to_json` was given; mappings, which records without a format number hold, stay as they are."""
    return json.loads(value) if isinstance(value, str) else value


def _json_default(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    return dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, Collection) else str(value)
