"""Further cells among the reference, the cells that a model was trained on: fitted by the reference's fit, not by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scmag_muon import _mudata
from scmag_muon._keys import Keys
from scmag_muon.model._new_cells import feature_names

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
    counts = {name: _counts(cells, name, setup) for name in names}
    of_fit = {name: cells.mod[name].var_names.get_indexer(pd.Index(fit.modality(name).features)) for name in names}
    batches = None
    codes = np.full(n_obs, -1)
    if batch_key is not None and fit.batches:
        batches = np.asarray(_mudata.get_batches(cells, batch_key), dtype=object)
        codes = pd.Index(fit.batches).get_indexer(pd.Index(batches))
    joint = fit.embed(
        {name: counts[name][present[:, i]][:, of_fit[name]] for i, name in enumerate(names) if present[:, i].any()},
        present={name: present[:, i] for i, name in enumerate(names)},
        batches=batches,
    )
    operators = fit.operators(joint)
    mods = {}
    for i, name in enumerate(names):
        wanted = feature_names(registry, i)
        own = _counts(reference, name, setup)[fit.modality(name).cells]
        columns = reference.mod[name].var_names.get_indexer(pd.Index(fit.modality(name).features))
        layer = np.zeros((n_obs, len(wanted)), dtype=np.float32)
        layer[:, wanted.get_indexer(pd.Index(fit.modality(name).features))] = fit.fitted(
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
    obs = None
    if batch_key is not None:
        obs = pd.DataFrame({batch_key: np.asarray(_mudata.get_batches(cells, batch_key))}, index=cells.obs_names)
    result = _mudata.make_mudata(mods, obs)
    if present_key is not None:
        result.obsm[present_key] = present
    return result


def _counts(mdata: MuData, name: str, setup: Mapping[str, Any]) -> sp.csr_array:
    return _mudata.get_counts(
        mdata.mod[name],
        modality=name,
        layer=_mudata.layer_of(setup["layer"], name),
        round_counts=bool(setup.get("round_counts")),
    )
