"""Plain data and tensors apart: what JSON holds exactly, and where in it the tensors belong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

_MARK = "$"


def pack(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """What JSON holds of ``value``; its tensors and numerical arrays go into ``tensors``, under names that begin with ``name``.

    Raises
    ------
    TypeError
        Where something can't be stored without pickling it.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, torch.Tensor):
        # a copy, since tensors that share memory can't be stored
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {f"{_MARK}tensor": name}
    if isinstance(value, (pd.Index, pd.Series, pd.api.extensions.ExtensionArray)):
        value = value.to_numpy()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        tensors[name] = torch.from_numpy(np.array(value, order="C"))
        return {f"{_MARK}array": name}
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return {f"{_MARK}objects": _pack_all(value.tolist(), name, tensors)}
    if isinstance(value, pd.DataFrame):
        table = {"name": value.index.name, "index": value.index.tolist()}
        table["columns"] = [[str(column), value[column].tolist(), str(value[column].dtype)] for column in value]
        return {f"{_MARK}table": pack(table, name, tensors)}
    if isinstance(value, tuple):
        return {f"{_MARK}tuple": _pack_all(value, name, tensors)}
    if isinstance(value, list):
        return _pack_all(value, name, tensors)
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and not key.startswith(_MARK) for key in value):
            return {key: pack(item, f"{name}.{key}", tensors) for key, item in value.items()}
        pairs = [[pack(key, name, tensors), pack(item, f"{name}.{key}", tensors)] for key, item in value.items()]
        return {f"{_MARK}items": pairs}
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{name} of the model is a {type(value).__name__}, which can't be saved as plain data.")


def unpack(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """What was given to :func:`pack`."""
    if isinstance(value, list):
        return [unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1 and next(iter(value)).startswith(_MARK):
        ((mark, content),) = value.items()
        return _UNPACK[mark[len(_MARK) :]](content, tensors)
    return {key: unpack(item, tensors) for key, item in value.items()}


def _pack_all(values: Any, name: str, tensors: dict[str, torch.Tensor]) -> list[Any]:
    return [pack(item, f"{name}.{i}", tensors) for i, item in enumerate(values)]


def _objects(content: list[Any], tensors: Mapping[str, torch.Tensor]) -> np.ndarray:
    array = np.empty(len(content), dtype=object)
    array[:] = [unpack(item, tensors) for item in content]
    return array


def _table(content: dict[str, Any], tensors: Mapping[str, torch.Tensor]) -> pd.DataFrame:
    content = unpack(content, tensors)
    index = pd.Index(content["index"], name=content["name"])
    return pd.DataFrame({name: pd.Series(values, index, dtype) for name, values, dtype in content["columns"]}, index)


_UNPACK = {
    "tensor": lambda name, tensors: tensors[name],
    "array": lambda name, tensors: tensors[name].numpy(),
    "objects": _objects,
    "table": _table,
    "tuple": lambda content, tensors: tuple(unpack(content, tensors)),
    "items": lambda content, tensors: {unpack(key, tensors): unpack(item, tensors) for key, item in content},
}
