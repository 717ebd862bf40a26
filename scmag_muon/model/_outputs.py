"""What a trained model tells about cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import torch
from scvi.model.base import BaseModelClass

from scmag_muon.model._module import counts_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mudata import MuData

    from scmag_muon.model._module import SCMAGModule

LatentKind = Literal["clustering", "reconstruction", "fused", "variational"]

_LATENT = {"clustering": "zc", "reconstruction": "zr", "fused": "z1", "variational": "mean"}


class OutputsMixin(BaseModelClass):
    """Coordinates, clusters, gates and denoised counts, as arrays."""

    module: SCMAGModule
    modalities_: tuple[str, ...]

    @torch.inference_mode()
    def _batches(
        self, mdata: MuData | None, indices: Sequence[int] | None, batch_size: int | None
    ) -> Iterator[tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]]:
        self._check_if_trained(warn=False)
        mdata = self._validate_anndata(mdata)
        loader = self._make_data_loader(adata=mdata, indices=indices, batch_size=batch_size or 1024)
        for tensors in loader:
            yield tensors, self.module.inference(**self.module._get_inference_input(tensors))

    def get_latent_representation(
        self,
        mdata: MuData | None = None,
        indices: Sequence[int] | None = None,
        *,
        kind: LatentKind = "clustering",
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Coordinates of the cells in one of the network's spaces, float32, shape ``(n_obs, 16 * n_modalities)``.

        Parameters
        ----------
        mdata
            Cells to embed, with the same features and layers; by default those of the training.
        indices
            Rows to embed.
        kind
            ``"clustering"``: Zc, gated (eq. 17); ``"fused"``: Z1 (eq. 15); ``"variational"``: the mean of Z2 (eq. 15);
            ``"reconstruction"``: Zr at that mean (eq. 16).
        batch_size
            Cells in a minibatch.
        """
        if kind not in _LATENT:
            raise ValueError(f"`kind` must be one of {sorted(_LATENT)}, got {kind!r}.")
        parts = [inference[_LATENT[kind]].cpu() for _, inference in self._batches(mdata, indices, batch_size)]
        return torch.cat(parts).numpy()

    def get_cluster_assignments(
        self,
        mdata: MuData | None = None,
        indices: Sequence[int] | None = None,
        *,
        soft: bool = False,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Cluster of each cell, integers of shape ``(n_obs,)``, or with ``soft`` the matrix Q (eq. 31), ``(n_obs, K)``.

        A cluster that the training left without cells, or joined with another, keeps its column of Q, all zeros.

        Raises
        ------
        RuntimeError
            Where the training has not reached the clustering stage.
        """
        if not self.module.clustering_started:
            raise RuntimeError("There are no clusters yet: train with max_epochs of at least 1.")
        zc = torch.from_numpy(self.get_latent_representation(mdata, indices, batch_size=batch_size))
        with torch.inference_mode():
            q = self.module.assign(zc.to(self.device)).cpu().numpy()
        return q if soft else q.argmax(axis=1)

    def get_gate(
        self,
        mdata: MuData | None = None,
        indices: Sequence[int] | None = None,
        *,
        batch_size: int | None = None,
    ) -> np.ndarray:
        """Values of the gate (eq. 17), 0 (closed) to 1 (open), shape ``(n_obs, 16 * n_modalities)``.

        Each modality's code has 16 dimensions, in the order of the modalities (eq. 15). All values are 1 before stage 3 and
        without a gate.
        """
        return torch.cat(
            [inference["gate"].cpu() for _, inference in self._batches(mdata, indices, batch_size)]
        ).numpy()

    def get_normalized_expression(
        self,
        mdata: MuData | None = None,
        indices: Sequence[int] | None = None,
        *,
        modality: str | None = None,
        library_size: Literal["median", "observed"] = "median",
        batch_size: int | None = None,
        return_numpy: bool = False,
    ) -> pd.DataFrame | np.ndarray:
        """Denoised counts of a modality: mean μ of the negative binomial (eq. 20-21), shape ``(n_obs, n_features)``.

        Parameters
        ----------
        mdata, indices, batch_size
            As in :meth:`get_latent_representation`.
        modality
            Name of the modality; by default the first.
        library_size
            ``"median"``: each cell at the median total count, so that cells compare; ``"observed"``: at its own total.
        return_numpy
            An array in place of a data frame with cell and feature names.

        Notes
        -----
        This is M of the paper, without the dropout probability: the expected *observed* count is (1 - π) μ.
        """
        which = 0 if modality is None else self._modality_index(modality)
        blocks = []
        with torch.inference_mode():
            for tensors, inference in self._batches(mdata, indices, batch_size):
                inputs = self.module._get_generative_input(tensors, inference)
                if library_size == "median":
                    inputs["totals"] = self.module.median_totals.expand(len(inputs["zr"]), -1)
                blocks.append(self.module.log_mean(which, **self.module.generative(**inputs)).exp().cpu().numpy())
        values = np.concatenate(blocks)
        if return_numpy:
            return values
        mdata = self.adata if mdata is None else mdata
        names = mdata.obs_names if indices is None else mdata.obs_names[indices]
        return pd.DataFrame(values, index=names, columns=self._feature_names(which))

    def _feature_names(self, which: int) -> np.ndarray:
        return self.registry_["field_registries"][counts_key(which)]["state_registry"]["column_names"]

    def _modality_index(self, modality: str) -> int:
        if modality not in self.modalities_:
            raise KeyError(f"No modality {modality!r} in this model, which has {list(self.modalities_)}.")
        return self.modalities_.index(modality)
