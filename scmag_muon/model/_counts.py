"""Counts for the network as :func:`scmag_muon._mudata.get_counts` reads them, whatever their storage."""

from __future__ import annotations

from typing import Any

from scvi.data import AnnDataManager

from scmag_muon import _mudata
from scmag_muon.model._module import counts_key


class CountsManager(AnnDataManager):
    """scvi-tools' manager, which would hand on the user's matrix: repeated entries, decimals, a backed file."""

    def get_from_registry(self, registry_key: str) -> Any:
        """The registered data; counts checked, canonical and rounded where :meth:`SCMAG.setup_mudata` was told to."""
        setup = self.registry["setup_args"]
        if registry_key not in map(counts_key, range(len(setup["modalities"]))):
            return super().get_from_registry(registry_key)
        field = self.data_registry[registry_key]
        return _mudata.get_counts(
            self.adata.mod[field.mod_key],
            modality=field.mod_key,
            layer=field.attr_key if field.attr_name == "layers" else None,
            round_counts=bool(setup.get("round_counts")),
            may_be_empty=True,
        )
