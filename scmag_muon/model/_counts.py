"""Counts and batches for the network as the rest of the package reads them, whatever their storage and type."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from scvi.data import AnnDataManager
from scvi.data.fields import CategoricalObsField, LayerField, MuDataWrapper

from scmag_muon import _mudata
from scmag_muon.model._module import PRESENT, counts_key, input_key


class CountsManager(AnnDataManager):
    """scvi-tools' manager, which would hand on the user's matrix: repeated entries, decimals, a backed file."""

    def get_from_registry(self, registry_key: str) -> Any:
        """The registered data; counts checked, canonical and rounded where :meth:`SCMAG.setup_mudata` was told to.

        Fitted layers that were not kept are rows by request (:class:`~scmag_muon._mudata.FittedLayer`), made once.
        """
        setup = self.registry["setup_args"]
        modalities = range(len(setup["modalities"]))
        for i in modalities:
            if registry_key == input_key(i):
                return self._fitted(i, setup)
        if registry_key not in map(counts_key, modalities):
            return super().get_from_registry(registry_key)
        field = self.data_registry[registry_key]
        return _mudata.get_counts(
            self.adata.mod[field.mod_key],
            modality=field.mod_key,
            layer=field.attr_key if field.attr_name == "layers" else None,
            round_counts=bool(setup.get("round_counts")),
            may_be_empty=True,
        )

    def forget_fitted_rows(self) -> None:
        """Make rows by request anew when they are next asked for: those made before read counts that may have been the user's."""
        self.__dict__.pop("_fitted_layers", None)

    def _fitted(self, which: int, setup: Any) -> Any:
        name, key = setup["modalities"][which], setup["input_layer"]
        if key in self.adata.mod[name].layers:
            return self.adata.mod[name].layers[key]
        made: dict[int, Any] = self.__dict__.setdefault("_fitted_layers", {})
        if which not in made:
            present = self.get_from_registry(PRESENT) if PRESENT in self.data_registry else None
            fit = _mudata.read_fit(self.adata, key, present=present)
            for i, each in enumerate(setup["modalities"]):
                counts = partial(self.get_from_registry, counts_key(i))
                made[i] = _mudata.fitted_layer(self.adata, each, key, counts=counts, present=present, fit=fit)
        return made[which]


class _FittedField(LayerField):
    """scvi-tools' layers, which would have to be there."""

    def validate_field(self, adata: Any) -> None:
        """Nothing: :meth:`SCMAG.setup_mudata` has looked for the layer, or the fit that gives its rows."""


FittedField = MuDataWrapper(_FittedField)


class _TextField(CategoricalObsField):
    """scvi-tools' categories, which would take mixed types for an error, and numbers in another order than text."""

    def register_field(self, adata: Any) -> dict[str, Any]:
        """Number the batches of a MuData's cells."""
        if self.is_default:
            return dict(super().register_field(adata))
        return self._numbered(adata, _batches(adata, self._original_attr_key).categories.to_numpy(dtype=object))

    def transfer_field(self, state_registry: dict[str, Any], adata_target: Any, **kwargs: Any) -> dict[str, Any]:
        """Number them as another MuData's were."""
        if self.is_default:
            return dict(super().transfer_field(state_registry, adata_target, **kwargs))
        known = np.array([str(batch) for batch in state_registry[self.CATEGORICAL_MAPPING_KEY]], dtype=object)
        return self._numbered(adata_target, known)

    def validate_field(self, adata: Any) -> None:
        """Raise where there is no such column."""
        if not self.is_default:
            _batches(adata, self._original_attr_key)

    def _numbered(self, mdata: Any, known: np.ndarray) -> dict[str, Any]:
        batches = _batches(mdata, self._original_attr_key)
        unseen = batches.categories.difference(known)
        if len(unseen):
            raise ValueError(
                f"batch_key={self._original_attr_key!r}: {list(unseen)} are not among the batches {list(known)}."
            )
        mdata.obs[self.attr_key] = batches.set_categories(list(known)).codes
        return {self.CATEGORICAL_MAPPING_KEY: known, self.ORIGINAL_ATTR_KEY: self._original_attr_key}


def _batches(mdata: Any, batch_key: str) -> Any:
    return _mudata.get_batches(mdata, batch_key)


BatchField = MuDataWrapper(_TextField)
