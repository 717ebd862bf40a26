"""Further cells among the reference, the cells that a model was trained on: fitted by the reference's fit, not by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scmag_muon import _mudata
from scmag_muon._keys import Keys
from scmag_muon.model._new_cells import feature_names, registered_counts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData

    from scmag_muon.manifold.fit import ManifoldFit


def reference_fit(reference: MuData | None, setup: Mapping[str, Any]) -> ManifoldFit | None:
    """The fit that the reference holds, if there is one that can place further cells."""
    key, present_key = setup["input_layer"], setup.get("present_key")
    if reference is None or Keys.fit(key) not in reference.uns:
        return None
    present = None if present_key is None else np.asarray(reference.obsm[present_key])
    return _mudata.read_fit(reference, key, present=present)


def placed(cells: MuData, reference: MuData, fit: ManifoldFit, registry: Mapping[str, Any]) -> MuData:
    """The cells with the model's features and rows fitted over the reference's cells, as the network takes them.

    Raises
    ------
    ValueError
        Where counts of the cells are no counts.
    """
    setup = registry["setup_args"]
    names, present_key, batch_key = setup["modalities"], setup.get("present_key"), setup["batch_key"]
    n_obs = cells.n_obs
    present = np.ones((n_obs, len(names)), bool) if present_key is None else np.asarray(cells.obsm[present_key])
    counts = {name: registered_counts(cells, name, setup) for name in names}
    fitted = {name: pd.Index(fit.modality(name).features) for name in names}
    batches = None if batch_key is None else np.asarray(_mudata.get_batches(cells, batch_key), dtype=object)
    centered = batches is not None and bool(fit.batches)
    codes = pd.Index(fit.batches).get_indexer(pd.Index(batches)) if centered else np.full(n_obs, -1)
    joint = fit.embed(
        {
            name: counts[name][present[:, i]][:, cells.mod[name].var_names.get_indexer(fitted[name])]
            for i, name in enumerate(names)
            if present[:, i].any()
        },
        present={name: present[:, i] for i, name in enumerate(names)},
        batches=batches if centered else None,
    )
    operators = fit.operators(joint)
    mods = {}
    for i, name in enumerate(names):
        wanted = feature_names(registry, i)
        own = registered_counts(reference, name, setup)[fit.modality(name).cells]
        columns = reference.mod[name].var_names.get_indexer(fitted[name])
        layer = np.zeros((n_obs, len(wanted)), dtype=np.float32)
        layer[:, wanted.get_indexer(fitted[name])] = fit.fitted(
            name, operators[name], counts=own[:, columns], codes=codes
        )
        place = _mudata.layer_of(setup["layer"], name)
        of_model = sp.csr_matrix(counts[name][:, cells.mod[name].var_names.get_indexer(wanted)])
        mods[name] = AnnData(
            of_model if place is None else None,
            obs=cells.mod[name].obs[[]],
            var=pd.DataFrame(index=wanted.astype(str)),
            layers={setup["input_layer"]: layer, **({} if place is None else {place: of_model})},
        )
    obs = None if batches is None else pd.DataFrame({batch_key: batches}, index=cells.obs_names)
    result = _mudata.make_mudata(mods, obs)
    if present_key is not None:
        result.obsm[present_key] = present
    return result
