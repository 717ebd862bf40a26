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
from scmag_muon.model._module import counts_key, input_key

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
        for part in self._order().split(self.batch_size):
            yield {key: _rows(value, part) for key, value in self.tensors.items()}

    def _order(self) -> Tensor:
        return self.indices[torch.randperm(len(self.indices))] if self.shuffle else self.indices


class SharedMinibatches(Minibatches):
    """The minibatches of one of several processes that train together: each goes through as many, of cells of its own.

    All draw the same order, from a generator that nothing else reads, and deal it out in turn. Where the cells do not come out even,
    some processes get one of the first cells in addition.
    """

    def __init__(
        self, *of_one: Any, shuffle: bool, process: int, n_processes: int, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(*of_one, shuffle=shuffle)
        self.process, self.n_processes, self.generator = process, n_processes, generator

    def __len__(self) -> int:
        return math.ceil(math.ceil(len(self.indices) / self.n_processes) / self.batch_size)

    def _order(self) -> Tensor:
        n_cells = len(self.indices)
        order = torch.randperm(n_cells, generator=self.generator) if self.shuffle else torch.arange(n_cells)
        places = torch.arange(self.process, self.process + n_cells, self.n_processes)
        return self.indices[order[places % n_cells]]


class ReadyDataSplitter(DataSplitter):
    """scvi-tools' splitter, which makes the data dense once for all epochs where they take no more than a gigabyte.

    On a GPU they are kept on the device where they take no more than half of its free memory. Data that do not fit are served by
    scvi-tools' loader, minibatch by minibatch. Where fitted layers were not kept and the data do not fit, each minibatch's
    fitted rows are computed from the counts. Of several processes that train together each serves its own share of the cells.
    """

    ready: dict[str, Any] | None = None
    generator: torch.Generator | None = None

    def setup(self, stage: str | None = None) -> None:
        """Split the cells, and get the tensors ready."""
        super().setup(stage)
        inputs = map(input_key, range(len(self.adata_manager.registry["setup_args"]["modalities"])))
        by_request = any(isinstance(self.adata_manager.get_from_registry(key), FittedLayer) for key in inputs)
        several = self._n_processes > 1
        if by_request and not self._can_serve():
            raise ValueError(
                "Arguments of the data loader and sparse tensors need the fitted layers, which were not kept. Write them with "
                "scmag_muon.pp.manifold_fit."
            )
        if several and not self._can_serve():
            raise ValueError("Arguments of the data loader and sparse tensors need one device: set devices=1.")
        if several:  # all processes have the same seed until training starts
            self.generator = torch.Generator().manual_seed(torch.initial_seed())
        fits = self._fits()
        self.ready = self._tensors(dense=fits) if by_request or several or fits else None

    def teardown(self, stage: str | None = None) -> None:
        """Let go of the tensors."""
        super().teardown(stage)
        self.ready = None

    def train_dataloader(self) -> Any:
        """Minibatches of the training cells, in random order."""
        if self.ready is None:
            return super().train_dataloader()
        return self._of_process(self.ready, self.train_idx, shuffle=True)

    def val_dataloader(self) -> Any:
        """Minibatches of the held-out cells."""
        if self.ready is None or len(self.val_idx) == 0:
            return super().val_dataloader()
        return self._of_process(self.ready, self.val_idx, shuffle=False)

    def all_cells(self, keys: Sequence[str], batch_size: int = 1024) -> Any:
        """Minibatches of all cells in their order, of those entries ``keys`` that the registry has.

        Of several processes each gets as many cells that follow each other, and the last ones are filled up with the last cell.
        """
        keys = [key for key in keys if key in self.adata_manager.data_registry]
        n_obs = self.n_obs
        share = math.ceil(n_obs / self._n_processes)
        first = 0 if self.trainer is None else share * self.trainer.global_rank
        indices = np.minimum(np.arange(first, first + share), n_obs - 1)
        if self.ready is not None:
            return Minibatches({key: self.ready[key] for key in keys}, indices, batch_size, shuffle=False)
        return self.data_loader_cls(
            self.adata_manager, indices=indices, batch_size=batch_size, shuffle=False, data_and_attributes=keys
        )

    @property
    def _n_processes(self) -> int:
        return 1 if self.trainer is None else self.trainer.world_size

    def _of_process(self, tensors: dict[str, Any], indices: np.ndarray, *, shuffle: bool) -> Minibatches:
        of_one = tensors, indices, self.data_loader_kwargs["batch_size"]
        if self._n_processes == 1:
            return Minibatches(*of_one, shuffle=shuffle)
        return SharedMinibatches(
            *of_one,
            shuffle=shuffle,
            process=self.trainer.global_rank,
            n_processes=self._n_processes,
            generator=self.generator,
        )

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return int(self.adata_manager.adata.n_obs)

    def _fits(self) -> bool:
        shapes = [self.adata_manager.get_from_registry(key).shape for key in self.adata_manager.data_registry]
        self._bytes = sum(4 * math.prod(shape) for shape in shapes)
        return self._can_serve() and self._bytes <= _MOST_BYTES

    def _can_serve(self) -> bool:
        own = ("batch_size", "distributed_sampler")
        plain = not self.drop_last and not any(
            value for key, value in self.data_loader_kwargs.items() if key not in own
        )
        return bool(plain and not self.load_sparse_tensor)

    def _packed(self) -> dict[str, Any]:
        """Counts of which fitted rows hold a copy."""
        modalities = range(len(self.adata_manager.registry["setup_args"]["modalities"]))
        layers = {counts_key(i): self.adata_manager.get_from_registry(input_key(i)) for i in modalities}
        copies = {key: of.counts for key, of in layers.items() if isinstance(of, FittedLayer)}
        return {key: counts for key, counts in copies.items() if counts is not None}

    def _tensors(self, *, dense: bool) -> dict[str, Any]:
        n_obs = self.adata_manager.adata.n_obs
        tensors: dict[str, Any] = {} if dense else self._packed()
        for key in self.adata_manager.data_registry:
            if key in tensors:
                continue
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
