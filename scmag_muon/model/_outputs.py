"""Getters: coordinates, clusters, gates, denoised counts, as arrays."""

from __future__ import annotations

import logging
import math
import numbers
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from scvi import REGISTRY_KEYS
from scvi.model.base import BaseModelClass

from scmag_muon.model._clustering import group_sums
from scmag_muon.model._new_cells import (
    cells_signature,
    check_cells,
    check_fitted,
    feature_names,
    fit_signature,
    minibatches,
    registered_counts,
)
from scmag_muon.model._placing import placed
from scmag_muon.model._reference import Reference, reference_of
from scmag_muon.model._rows import rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mudata import MuData

    from scmag_muon.model._module import SCMAGModule

logger = logging.getLogger(__name__)

LatentKind = Literal["clustering", "reconstruction", "fused", "variational"]

_LATENT = {"clustering": "zc", "reconstruction": "zr", "fused": "z1", "variational": "mean"}
_ONE_ANSWER = "Its answers are means, one for each cell."
_NOT_OFFERED = {
    "adata": "The cells are called `mdata` here.",
    "dataloader": "Give the cells as `mdata`.",
    "give_mean": _ONE_ANSWER,
    "mc_samples": _ONE_ANSWER,
    "n_samples": _ONE_ANSWER,
    "n_samples_overall": _ONE_ANSWER,
    "return_mean": _ONE_ANSWER,
    "return_dist": _ONE_ANSWER,
    "weights": _ONE_ANSWER,
    "transform_batch": "Each cell is decoded in its own batch.",
    "protein_list": "Name them as `features`, with `modality`.",
}


class OutputsMixin(BaseModelClass):
    """Coordinates, clusters, gates and denoised counts, as arrays."""

    module: SCMAGModule
    modalities_: tuple[str, ...]
    fit_: str | None
    cells_: str | None

    _reference: Reference | None = None
    _clusters: np.ndarray | None = None

    @property
    def reference(self) -> Reference | None:
        """All that further cells are mapped by; ``None`` where manifold fitting left nothing that could place them."""
        found = self._without_clusters()
        if found is None or found.clusters is not None or not (self.is_trained_ and self.module.clustering_started):
            return found
        if self._clusters is None:
            self.get_cluster_assignments()
        return replace(found, clusters=self._clusters)

    def _without_clusters(self) -> Reference | None:
        """The reference, unless it was loaded without the clusters of its cells, which must be computed."""
        return reference_of(self.adata, self.registry_) if self._reference is None else self._reference

    def _asked(self, mdata: MuData | None, indices: Any, batch_size: Any) -> tuple[MuData, np.ndarray, int]:
        """The cells asked about, once it is sure that they fit the model, which rows of them, and how many at a time."""
        self._check_if_trained(
            warn=False, message="The model has not been trained, so it can tell nothing yet: call model.train() first."
        )
        cells = self.adata if mdata is None else mdata
        if cells is None:
            raise ValueError("The model was loaded without cells: say which are meant, as `mdata`.")
        check_cells(cells, self.registry_)
        found = self._placed(cells) if self._is_of_other_fit(cells) else cells
        if found is cells:
            check_fitted(cells, self.registry_)
        cells = found
        return cells, rows_of(indices, cells.obs_names), _checked_batch_size(batch_size)

    def _is_of_other_fit(self, cells: MuData) -> bool:
        """Whether the cells are not those of the training and were fitted without them."""
        found = fit_signature(cells, self.registry_["setup_args"])
        if self.fit_ is None or found is None or self.fit_ == found or cells_signature(cells) == self.cells_:
            return False
        own = self.adata
        everyone = own is not None and cells_signature(own) == self.cells_ and own.obs_names.isin(cells.obs_names).all()
        return not everyone

    def _placed(self, cells: MuData) -> MuData:
        """The cells fitted by the reference's fit, if the model has it and the cells have counts."""
        key = self.registry_["setup_args"]["input_layer"]
        what = (
            f"The layers {key!r} of these {cells.n_obs} cells were fitted without the reference, the cells that the model was "
            "trained on. "
        )
        reference = self._without_clusters()
        if reference is not None:
            try:
                found = placed(cells, reference, self.registry_)
            except ValueError as error:
                logger.warning("%sThey can't be fitted by the reference's fit: %s", what, error)
                return cells
            logger.warning("%sThey are fitted anew by the reference's fit, from their counts.", what)
            return found
        logger.warning(
            "%sCells fitted by themselves can land in other clusters, above all where they are few or of one type. Fit them "
            "together with the reference, on the model's features.",
            what,
        )
        return cells

    @torch.inference_mode()
    def _inferred(
        self, cells: MuData, rows: np.ndarray, batch_size: int, *, counts: bool = False, batches: bool = False
    ) -> Iterator[tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]]:
        self.module.eval()
        inputs = None
        if cells is self.adata and self.adata_manager is not None:  # a model of a query has none
            inputs = [self.adata_manager.get_from_registry(key) for key in self.module.input_keys]
        for tensors in minibatches(
            cells, self.registry_, rows, batch_size, counts=counts, batches=batches, inputs=inputs
        ):
            yield tensors, self.module.inference(**self.module._get_inference_input(tensors))

    def _of_all(self, cells: MuData, rows: np.ndarray, batch_size: int, *what: str) -> list[np.ndarray]:
        """Some of the network's outputs, put in place minibatch by minibatch: parts and whole would be held side by side."""
        found, start = [np.empty((len(rows), 0), dtype=np.float32) for _ in what], 0
        for _, inference in self._inferred(cells, rows, batch_size):
            parts = [inference[name].cpu().numpy() for name in what]
            if start == 0:
                found = [np.empty((len(rows), part.shape[1]), dtype=part.dtype) for part in parts]
            for whole, part in zip(found, parts, strict=True):
                whole[start : start + len(part)] = part
            start += len(parts[0])
        return found

    def of_run(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What a run writes of its own cells: Q, Zc, Zr, and the mean gate of each cluster, ``(K, 16 * n_modalities)``.

        In two passes over the cells, and without the gate of each cell.
        """
        cells, rows, size = self._asked(None, None, None)
        latent, reconstruction = self._of_all(cells, rows, size, "zc", "zr")
        q = self._assigned(latent)
        self._clusters = q.argmax(axis=1).astype(np.int32)
        of_cluster, sizes, start = np.zeros((q.shape[1], latent.shape[1])), np.zeros((q.shape[1], 1)), 0
        for _, inference in self._inferred(cells, rows, size):
            gate = inference["gate"].cpu().double()
            labels = torch.from_numpy(self._clusters[start : start + len(gate)])
            n_cells, sums = group_sums(gate, labels, len(sizes))
            sizes += n_cells.numpy()[:, None]
            of_cluster += sums.numpy()
            start += len(gate)
        return q, latent, reconstruction, of_cluster / sizes.clip(min=1)

    def get_latent_representation(
        self,
        mdata: MuData | None = None,
        indices: Any = None,
        *,
        kind: LatentKind = "clustering",
        batch_size: int | None = None,
        **arguments: Any,
    ) -> np.ndarray:
        """Coordinates of the cells in one of the network's spaces, float32, shape ``(n_obs, 16 * n_modalities)``.

        Parameters
        ----------
        mdata
            Cells to embed, by default those of the training. They need the model's features and fitted layers; more features,
            or another order, do no harm. The MuData is not written to.
        indices
            Cells to embed: positions (below 0 from the end), names, a boolean for each, or a slice.
        kind
            ``"clustering"``: Zc, gated (eq. 17); ``"fused"``: Z1 (eq. 15); ``"variational"``: the mean of Z2 (eq. 15);
            ``"reconstruction"``: Zr at that mean (eq. 16).
        batch_size
            Cells in a minibatch.
        **arguments
            Those of scvi-tools that are not offered are refused by name.

        Raises
        ------
        RuntimeError
            Where the model has not been trained.
        ValueError
            Where the cells are not paired, lack features, or were fitted on too few of the model's; or an argument is out of
            range.
        KeyError
            Where a modality, layer or cell is not there.
        IndexError
            Where ``indices`` are out of range.
        """
        _refuse(arguments)
        if kind not in list(_LATENT):
            raise ValueError(f"`kind` must be one of {sorted(_LATENT)}, got {kind!r}.")
        asked = self._asked(mdata, indices, batch_size)
        return self._of_all(*asked, _LATENT[kind])[0]

    def get_cluster_assignments(
        self,
        mdata: MuData | None = None,
        indices: Any = None,
        *,
        soft: bool = False,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Cluster of each cell, integers of shape ``(n_obs,)``, or with ``soft`` the matrix Q (eq. 31), ``(n_obs, K)``.

        ``mdata``, ``indices`` and ``batch_size`` are as in :meth:`get_latent_representation`. A cluster that the training left without cells, or joined with another, keeps its column of Q, all zeros.

        Raises
        ------
        RuntimeError
            Where the training has not reached the clustering stage.
        """
        if not self.module.clustering_started:
            raise RuntimeError("There are no clusters yet: train with max_epochs of at least 1.")
        q = self._assigned(self.get_latent_representation(mdata, indices, batch_size=batch_size))
        labels = q.argmax(axis=1)
        if mdata is None and indices is None:
            self._clusters = labels.astype(np.int32)
        return q if soft else labels

    @torch.inference_mode()
    def _assigned(self, latent: np.ndarray) -> np.ndarray:
        """Q of cells at these coordinates."""
        return self.module.assign(torch.from_numpy(latent).to(self.device)).cpu().numpy()

    def get_gate(
        self,
        mdata: MuData | None = None,
        indices: Any = None,
        *,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Values of the gate (eq. 17), 0 (closed) to 1 (open), shape ``(n_obs, 16 * n_modalities)``.

        Each modality's code has 16 dimensions, in the order of the modalities (eq. 15). All values are 1 before stage 3 and
        without a gate.
        """
        asked = self._asked(mdata, indices, batch_size)
        return self._of_all(*asked, "gate")[0]

    def get_normalized_expression(
        self,
        mdata: MuData | None = None,
        indices: Any = None,
        *,
        modality: str | None = None,
        features: Sequence[str] | None = None,
        gene_list: Sequence[str] | None = None,
        library_size: Literal["median", "observed"] | float = "median",
        batch_size: int | None = None,
        return_numpy: bool = False,
        **arguments: Any,
    ) -> pd.DataFrame | np.ndarray:
        """Denoised counts of a modality: mean μ of the negative binomial (eq. 20-21), shape ``(n_obs, n_features)``.

        Parameters
        ----------
        mdata, indices, batch_size
            As in :meth:`get_latent_representation`.
        modality
            Name of the modality; by default the first.
        features
            Names of the features to return, in this order; by default all of the model's.
        gene_list
            scvi-tools' name for ``features``.
        library_size
            ``"median"``: each cell at the median total count, so that cells compare; ``"observed"``: at its own total, for
            which raw counts must be there; a number: each cell at this total count.
        return_numpy
            An array in place of a data frame with cell and feature names.
        **arguments
            Those of scvi-tools that are not offered are refused by name.

        Raises
        ------
        KeyError
            Where a modality, feature, layer, column or cell is not there.
        ValueError
            Where the model has not seen a cell's batch, or as in :meth:`get_latent_representation`.

        Notes
        -----
        This is M of the paper, without the dropout probability: the expected *observed* count is (1 - π) μ.

        Where ``library_size="observed"`` finds values that are no raw counts, as after normalisation, it says so in a logged
        warning and takes the median.
        """
        _refuse(arguments)
        which = 0 if modality is None else self._modality_index(modality)
        columns = self._columns(which, features, gene_list)
        totals = _checked_library_size(library_size)
        cells, rows, size = self._asked(mdata, indices, batch_size)
        observed = library_size == "observed" and self._has_counts(cells, which)
        names = feature_names(self.registry_, which)
        names = names if columns is None else names[columns]
        values, done = np.empty((len(rows), len(names)), dtype=np.float32), 0
        with torch.inference_mode():
            for tensors, inference in self._inferred(cells, rows, size, counts=observed, batches=True):
                if observed:
                    inputs = self.module._get_generative_input(tensors, inference)
                else:
                    median, zr = self.module.median_totals, inference["zr"]
                    sizes = median if totals is None else torch.full_like(median, totals)
                    inputs = {
                        "zr": zr,
                        "totals": sizes.expand(len(zr), -1),
                        "batch_index": tensors[REGISTRY_KEYS.BATCH_KEY],
                    }
                mean = self.module.log_mean(which, **self.module.generative(**inputs)).exp().cpu().numpy()
                values[done : done + len(mean)] = mean if columns is None else mean[:, columns]
                done += len(mean)
        return values if return_numpy else pd.DataFrame(values, index=cells.obs_names[rows], columns=names)

    def get_reconstruction_error(
        self, mdata: MuData | None = None, indices: Any = None, *, batch_size: int | None = None
    ) -> dict[str, float]:
        """Give the mean negative log-likelihood of the cells' counts in each modality (eq. 26-27), at the mean of Z2.

        In nats for a cell; for a feature of a cell with ``reduction="mean"``. Arguments and errors are as in
        :meth:`get_latent_representation`; raw counts and known batches are needed.
        """
        losses = self._losses(mdata, indices, batch_size)
        return {name: float(losses[name].mean()) for name in self.modalities_}

    def get_elbo(self, mdata: MuData | None = None, indices: Any = None, *, batch_size: int | None = None) -> float:
        """Give the mean evidence lower bound of the cells: log-likelihood less KL divergence (eq. 26-28), unweighted.

        As :meth:`get_reconstruction_error`; higher is better.
        """
        return -float(self._losses(mdata, indices, batch_size).sum(axis=1).mean())

    def _losses(self, mdata: MuData | None, indices: Any, batch_size: int | None) -> pd.DataFrame:
        cells, rows, size = self._asked(mdata, indices, batch_size)
        for name in self.modalities_:
            registered_counts(cells, name, self.registry_["setup_args"])
        tables = []
        with torch.inference_mode():
            for tensors, inference in self._inferred(cells, rows, size, counts=True, batches=True):
                tensors = {key: value.to(self.device) for key, value in tensors.items()}
                generative = self.module.generative(**self.module._get_generative_input(tensors, inference))
                output = self.module.loss(tensors, inference, generative)
                terms = [*output.reconstruction_loss.values(), output.kl_local["kl"]]
                tables.append(torch.stack(terms, dim=1).cpu().double().numpy())
        return pd.DataFrame(np.concatenate(tables), columns=[*self.modalities_, "kl"])

    def get_var_names(self, legacy_mudata_format: bool = False) -> dict[str, np.ndarray]:  # noqa: FBT001, FBT002
        """Names of the model's features in each modality, in the network's order; there without cells, too."""
        if legacy_mudata_format:
            raise ValueError("`legacy_mudata_format` is not offered. Features are named by modality.")
        return {name: feature_names(self.registry_, i).to_numpy().copy() for i, name in enumerate(self.modalities_)}

    def _columns(
        self, which: int, features: Sequence[str] | None, gene_list: Sequence[str] | None
    ) -> np.ndarray | None:
        if features is not None and gene_list is not None:
            raise TypeError("`gene_list` is another name for `features`: give one of them.")
        chosen = gene_list if features is None else features
        if chosen is None:
            return None
        chosen = pd.Index([chosen] if isinstance(chosen, str) else list(chosen), dtype=object)
        columns = feature_names(self.registry_, which).get_indexer(chosen)
        if (columns < 0).any():
            missing = chosen[columns < 0]
            raise KeyError(
                f"The model has no features {list(missing[:5])} in modality {self.modalities_[which]!r}, {len(missing)} in all. "
                "model.get_var_names() lists those that it has."
            )
        return columns

    def _has_counts(self, cells: MuData, which: int) -> bool:
        name = self.modalities_[which]
        try:
            registered_counts(cells, name, self.registry_["setup_args"])
        except ValueError as error:
            logger.warning('library_size="observed" needs raw counts: %s The median library size is taken.', error)
            return False
        return True

    def _modality_index(self, modality: str) -> int:
        if modality not in self.modalities_:
            raise KeyError(f"No modality {modality!r} in this model, which has {list(self.modalities_)}.")
        return self.modalities_.index(modality)


def _checked_batch_size(batch_size: Any) -> int:
    if batch_size is None:
        return 1024
    if not isinstance(batch_size, (int, np.integer)) or isinstance(batch_size, bool) or batch_size < 1:
        raise ValueError(f"`batch_size` must be a whole number of at least 1, got {batch_size!r}.")
    return int(batch_size)


def _checked_library_size(library_size: Any) -> float | None:
    """A number of counts, or ``None`` for a choice by name."""
    if isinstance(library_size, str) and library_size in ("median", "observed"):
        return None
    is_number = isinstance(library_size, numbers.Real) and not isinstance(library_size, bool)
    if not is_number or not math.isfinite(library_size) or library_size <= 0:
        raise ValueError(
            f'`library_size` must be "median", "observed" or a finite number of counts above 0, got {library_size!r}.'
        )
    return float(library_size)


def _refuse(arguments: dict[str, Any]) -> None:
    for name in arguments:
        raise TypeError(f"`{name}` is not offered by scMAG. {_NOT_OFFERED.get(name, 'There is no such argument.')}")
