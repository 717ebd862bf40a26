"""Minibatches from tensors that stand ready, where the data fit; else from rows by request, or scvi-tools' loader."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch
from scvi.dataloaders import DataSplitter
from torch import Tensor

from scmag_muon._mudata import FittedLayer
from scmag_muon.model._module import input_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MOST_BYTES = 2**30
_SHARE_OF_DEVICE = 0.5
_ROWS_AT_A_TIME = 1024


class Minibatches:
    """Minibatches of some cells, in a new random order each time or in theirs, from tensors or matrices that give rows."""

    def __init__(self, tensors: dict[str, Any], indices: np.ndarray, batch_size: int, *, shuffle: bool) -> None:
        self.tensors = tensors
        self.indices = torch.as_tensor(indices, dtype=torch.long)
        self.batch_size = batch_size
        self.shuffle = shuffle

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        rows = self.indices[torch.randperm(len(self.indices))] if self.shuffle else self.indices
        for part in rows.split(self.batch_size):
            yield {key: _rows(value, part) for key, value in self.tensors.items()}


class ReadyDataSplitter(DataSplitter):
    """scvi-tools' splitter, which makes the data dense once for all epochs where they take no more than a gigabyte.

    On a GPU they are kept on the device where they take no more than half of its free memory. Several devices, and data that
    do not fit, are served by scvi-tools' loader, minibatch by minibatch. Where fitted layers were not kept and the data do not fit,
    each minibatch's fitted rows are computed from the counts.
    """

    ready: dict[str, Any] | None = None

    def setup(self, stage: str | None = None) -> None:
        """Split the cells, and get the tensors ready."""
        super().setup(stage)
        inputs = map(input_key, range(len(self.adata_manager.registry["setup_args"]["modalities"])))
        by_request = any(isinstance(self.adata_manager.get_from_registry(key), FittedLayer) for key in inputs)
        if by_request and not self._can_serve():
            raise ValueError(
                "Several devices, arguments of the data loader and sparse tensors need the fitted layers, which were not kept. "
                "Write them with scmag_muon.pp.manifold_fit."
            )
        self.ready = self._tensors(dense=self._fits()) if by_request or self._fits() else None

    def teardown(self, stage: str | None = None) -> None:
        """Let go of the tensors."""
        super().teardown(stage)
        self.ready = None

    def train_dataloader(self) -> Any:
        """Minibatches of the training cells, in random order."""
        if self.ready is None:
            return super().train_dataloader()
        return Minibatches(self.ready, self.train_idx, self.data_loader_kwargs["batch_size"], shuffle=True)

    def val_dataloader(self) -> Any:
        """Minibatches of the held-out cells."""
        if self.ready is None or len(self.val_idx) == 0:
            return super().val_dataloader()
        return Minibatches(self.ready, self.val_idx, self.data_loader_kwargs["batch_size"], shuffle=False)

    def all_cells(self, keys: Sequence[str], batch_size: int = 1024) -> Any:
        """Minibatches of all cells in their order, of those entries ``keys`` that the registry has."""
        keys = [key for key in keys if key in self.adata_manager.data_registry]
        indices = np.arange(self.adata_manager.adata.n_obs)
        if self.ready is not None:
            return Minibatches({key: self.ready[key] for key in keys}, indices, batch_size, shuffle=False)
        return self.data_loader_cls(
            self.adata_manager, indices=indices, batch_size=batch_size, shuffle=False, data_and_attributes=keys
        )

    def _fits(self) -> bool:
        shapes = [self.adata_manager.get_from_registry(key).shape for key in self.adata_manager.data_registry]
        self._bytes = sum(4 * math.prod(shape) for shape in shapes)
        return self._can_serve() and self._bytes <= _MOST_BYTES

    def _can_serve(self) -> bool:
        one_device = self.trainer is None or self.trainer.world_size == 1
        plain = not self.drop_last and not any(
            value for key, value in self.data_loader_kwargs.items() if key != "batch_size"
        )
        return bool(one_device and plain and not self.load_sparse_tensor)

    def _tensors(self, *, dense: bool) -> dict[str, Any]:
        n_obs = self.adata_manager.adata.n_obs
        tensors: dict[str, Any] = {}
        for key in self.adata_manager.data_registry:
            values = self.adata_manager.get_from_registry(key)
            if not dense and (isinstance(values, FittedLayer) or sp.issparse(values)):
                tensors[key] = values
                continue
            if isinstance(values, FittedLayer):
                values = _computed(values)
            if not _is_ready(values):
                dataset = self.adata_manager.create_torch_dataset(data_and_attributes=[key])
                values = dataset[np.arange(n_obs)][key]
            tensors[key] = torch.as_tensor(values)
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        if dense and device.type == "cuda" and self._bytes <= _SHARE_OF_DEVICE * torch.cuda.mem_get_info(device)[0]:
            tensors = {key: value.to(device) for key, value in tensors.items()}
        return tensors


def _rows(values: Any, rows: Tensor) -> Tensor:
    if isinstance(values, Tensor):
        return values.index_select(0, rows.to(values.device))
    found = values[rows.numpy()]
    return torch.as_tensor(found.toarray() if sp.issparse(found) else found)


def _computed(layer: FittedLayer) -> np.ndarray:
    """All of its rows, some at a time, since a few arrays of their size are there meanwhile."""
    values = np.empty(layer.shape, dtype=np.float32)
    for start in range(0, len(values), _ROWS_AT_A_TIME):
        values[start : start + _ROWS_AT_A_TIME] = layer[start : start + _ROWS_AT_A_TIME]
    return values


def _is_ready(values: Any) -> bool:
    """Whether torch can use the memory as it is."""
    return (
        type(values) is np.ndarray
        and values.dtype == np.float32
        and values.flags.c_contiguous
        and values.flags.writeable
    )
