"""A query as part of a model: the decoders get weights for its batches, and nothing else changes."""

from __future__ import annotations

import dataclasses
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from scvi import REGISTRY_KEYS
from scvi.model.base import BaseModelClass

from scmag_muon import _mudata
from scmag_muon._checks import check_number, check_random_state
from scmag_muon.model._context import seeded
from scmag_muon.model._module import PRESENT
from scmag_muon.model._new_batches import DecodedModality, fit_new_batches
from scmag_muon.model._new_cells import batch_codes, feature_names, registered_counts
from scmag_muon.model._placing import as_seen_by, embedded, network_cells

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from mudata import MuData

    from scmag_muon._mudata import Query
    from scmag_muon.model._module import SCMAGModule
    from scmag_muon.model._reference import Reference

NO_REFERENCE = (
    "The model holds no fit that can place other cells. Fit with the default neighborhoods='shared', and save with "
    "reference=True; a folder of an earlier version is loaded with its cells, SCMAG.load(folder, adata=mdata), and saved again."
)
_BATCH_KEY, ONE_BATCH, _BEFORE = "batch", "query", "reference"


@dataclasses.dataclass(frozen=True)
class QueryCells:
    """Which of the model's batches were there before the query, and which features were measured in it, by modality."""

    n_before: int
    measured: dict[str, np.ndarray]


class QueryMixin(BaseModelClass):
    """Queries by scvi-tools' names (``ArchesMixin``), as far as a MuData allows."""

    module: SCMAGModule
    reference: Any
    modalities_: tuple[str, ...]
    _query: Any

    @classmethod
    def load_query_data(
        cls,
        mdata: MuData,
        reference_model: str | os.PathLike[str] | Any,
        *,
        batch_key: str | None = None,
        layer: str | Mapping[str, str | None] | None = None,
        round_counts: bool = False,
        accelerator: str = "auto",
        device: int | str = "auto",
    ) -> Self:
        """Make a model of a query from the model of its reference, with decoder weights for each new batch.

        The encoders know no batches, so coordinates, clusters and labels need no training, and that of the new weights changes
        none of them. What :meth:`train` learns is how the query's own chemistry, staining and depth show in its counts, for
        denoised counts and likelihoods in the query's own batch.

        Parameters
        ----------
        mdata
            Raw counts of one or more of the reference's modalities, as for :func:`scmag_muon.tl.map_query`. It is not written to.
        reference_model
            A trained model, or the folder of a saved one.
        batch_key
            Column of the query's batches; by default all cells are of one, ``"query"``.
        layer, round_counts
            As for :func:`scmag_muon.tl.map_query`.
        accelerator, device
            As in Lightning, where ``reference_model`` is a folder.

        Returns
        -------
        A model whose getters speak of the query's cells. The reference's model stays as it is.

        Raises
        ------
        ValueError, KeyError, TypeError, FileNotFoundError
            As :func:`scmag_muon.tl.map_query`.

        Examples
        --------
        >>> import mudata
        >>> import scmag_muon as smm
        >>> _ = mudata.set_options(pull_on_update=False)  # as mudata 0.4 has it
        >>> mdata = smm.datasets.simulate_citeseq(n_obs=200, n_vars=60, n_prot=10, n_clusters=3)
        >>> reference, query = mdata[:150].copy(), mdata[150:].copy()
        >>> model = smm.tl.scmag(
        ...     reference, n_clusters=3, max_epochs_pretrain=4, max_epochs=2, progress_bar=False, return_model=True
        ... )
        >>> of_query = smm.model.SCMAG.load_query_data(query, model)
        >>> of_query.train(max_epochs=5)
        >>> of_query.get_normalized_expression(modality="prot").shape
        (50, 10)
        """
        base = reference_model if isinstance(reference_model, cls) else None
        if base is None:
            base = cls.load(reference_model, adata=False, accelerator=accelerator, device=device)
        reference = base.reference
        if reference is None:
            raise ValueError(NO_REFERENCE)
        query = _mudata.read_query(mdata, reference.fit, layer=layer, round_counts=round_counts, batch_key=batch_key)
        return cls._of_query(base, reference, query, batch_key)

    @classmethod
    def _of_query(cls, base: Any, reference: Reference, query: Query, batch_key: str | None) -> Self:
        names = np.full(len(query.obs_names), ONE_BATCH, dtype=object) if query.batches is None else query.batches
        known = known_batches(base.registry_)
        batches = [*known, *sorted(set(names.astype(str)) - set(known))]
        key = base.registry_["setup_args"]["batch_key"] or batch_key or _BATCH_KEY
        registry = _with_batches(base.registry_, batches, key)
        state = {name: deepcopy(value) for name, value in vars(base).items() if name.endswith("_")}
        state.pop("registry_")
        state["module"] = _widened(base.module, len(batches))
        model = cls._restored(None, registry, state)
        operators = reference.fit.operators(embedded(query, as_seen_by(query, reference)))
        cells = network_cells(query, operators, reference, registry, counts=_model_counts(query, reference, registry))
        cells.obs[key] = names
        cells.obsm[PRESENT] = query.present
        model._adata, model._reference = cells, reference
        model._query = QueryCells(len(known), dict(query.measured))
        model.to_device(base.device)
        model.module.eval()
        return model

    def _train_new_batches(self, *, max_epochs: int, batch_size: int, random_state: int | None) -> None:
        """Fit the weights of the batches that the reference does not have; all others stay as they are, to the bit."""
        check_number("max_epochs", max_epochs, integer=True, low=1)
        check_number("batch_size", batch_size, integer=True, low=1)
        n_before = self._query.n_before
        codes = torch.from_numpy(batch_codes(self.adata, self.registry_)) - n_before
        data = [self._decoded(self.modalities_.index(name), of) for name, of in self._query.measured.items()]
        with seeded(check_random_state(random_state)):
            self.query_loss_ = fit_new_batches(data, codes.to(self.device), n_before, max_epochs, batch_size)

    def _decoded(self, which: int, measured: np.ndarray) -> DecodedModality:
        """A modality's counts and what its decoder makes of the cells before their batch is added."""
        name, cells, module = self.modalities_[which], self.adata, self.module
        features = self.reference.fit.modality(name)
        kept = np.sort(feature_names(self.registry_, which).get_indexer(pd.Index(features.features)[measured]))
        counts = sp.csr_array(registered_counts(cells, name, self.registry_["setup_args"])[:, kept])
        means = features.recipe.standards.mean
        median = float(module.median_totals[which]) * float(means[measured].sum() / max(means.sum(), 1e-12))
        zr = torch.from_numpy(self.get_latent_representation(kind="reconstruction")).to(self.device)
        return DecodedModality(
            decoder=module._decoders[which],
            kept=torch.from_numpy(kept).to(self.device),
            counts=counts,
            has=cells.obsm[PRESENT][:, which],
            log_size=np.log(np.maximum(counts.sum(axis=1) / median, 1e-4)).astype(np.float32),
            zr=zr,
        )


def known_batches(registry: Mapping[str, Any]) -> list[str]:
    """Batches of a model; those of a model without any are one."""
    if registry["setup_args"]["batch_key"] is None:
        return [_BEFORE]
    state = registry["field_registries"][REGISTRY_KEYS.BATCH_KEY]["state_registry"]
    return [str(batch) for batch in state["categorical_mapping"]]


def _with_batches(registry: Mapping[str, Any], batches: list[str], key: str) -> dict[str, Any]:
    """The registry of a model with these batches."""
    result = deepcopy(dict(registry))
    result["setup_args"]["batch_key"] = key
    field = result["field_registries"][REGISTRY_KEYS.BATCH_KEY]
    field["state_registry"] = {"categorical_mapping": np.array(batches, dtype=object), "original_key": key}
    field["summary_stats"] = {**field["summary_stats"], "n_batch": len(batches)}
    return result


def _widened(module: SCMAGModule, n_batch: int) -> dict[str, torch.Tensor]:
    """Weights of the network with columns for further batches, which begin at the mean of those that are there, or at zero."""
    state = {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
    for i, decoder in enumerate(module._decoders):
        name = f"decoders.{i}.trunk.0.weight"
        before = state[name]
        rest, own = before[:, : module.n_latent], before[:, module.n_latent :]
        n_before = max(decoder.n_batch, 1)
        if not own.shape[1]:
            own = before.new_zeros(len(before), n_before)
        further = own.mean(dim=1, keepdim=True).repeat(1, n_batch - n_before)
        state[name] = torch.cat([rest, own, further], dim=1) if n_batch > 1 else before
    return state


def _model_counts(query: Query, reference: Reference, registry: Mapping[str, Any]) -> dict[str, sp.csr_matrix]:
    """Counts of all cells and of the model's features, zeros where they were not measured."""
    result = {}
    for i, name in enumerate(registry["setup_args"]["modalities"]):
        wanted = feature_names(registry, i)
        which = reference.fit.names.index(name)
        shape = len(query.obs_names), len(wanted)
        if name not in query.counts:
            result[name] = sp.csr_matrix(shape, dtype=np.float32)
            continue
        places = wanted.get_indexer(pd.Index(reference.fit.modality(name).features))
        own = _mudata.padded(query.counts[name], np.flatnonzero(query.present[:, which]), shape[0])
        result[name] = sp.csr_matrix((own.data, places[own.indices], own.indptr), shape=shape)
    return result
