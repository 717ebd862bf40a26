"""All that further cells are mapped by: the reference's fit, the counts that its neighbours need, its labels."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scmag_muon import _mudata
from scmag_muon._keys import Keys
from scmag_muon.manifold.fit import ManifoldFit
from scmag_muon.model._new_cells import registered_counts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reference:
    """The cells that a model was trained on, as far as mapping others needs them.

    Parameters
    ----------
    fit
        What manifold fitting learnt of them.
    counts
        For each modality the raw counts of the cells that have it and of the features that took part, CSR, ``(n_own, n_vars)``.
    obs
        Columns of text about the cells, such as their types, ``(n_obs, n_columns)``; missing values are ``None``.
    clusters
        Number of each cell's cluster, ``(n_obs,)``; ``None`` where the model has none yet.
    """

    fit: ManifoldFit
    counts: dict[str, sp.csr_array]
    obs: pd.DataFrame
    clusters: np.ndarray | None = None

    def labels(self, column: str) -> np.ndarray:
        """A column of labels, ``None`` where missing, ``(n_obs,)``."""
        if column not in self.obs:
            raise KeyError(
                f"The reference has no labels {column!r}, only {list(self.obs.columns)}. Give a model more with "
                "model.save(folder, labels=mdata.obs[[...]]), or give the reference as its MuData, with model=."
            )
        return self.obs[column].to_numpy(dtype=object)

    def with_labels(self, labels: pd.DataFrame | pd.Series) -> Reference:
        """The reference with further columns of labels, found by the names of the cells."""
        frame = labels.to_frame() if isinstance(labels, pd.Series) else labels
        lacking = self.obs.index.difference(frame.index)
        if len(lacking):
            raise ValueError(
                f"`labels` lack {len(lacking)} of the model's {len(self.obs)} cells, among them {str(lacking[0])!r}. Give a column "
                "of the MuData that the model was trained on, for example mdata.obs[['cell_type']]."
            )
        added = _mudata.text_columns(frame.reindex(self.obs.index))
        others = [column for column in frame if column not in added]
        if others:
            raise ValueError(
                f"`labels` must be text, categories or booleans of at most {_mudata.MOST_CATEGORIES} kinds; {others[0]!r} are none."
            )
        kept = self.obs.drop(columns=[column for column in added if column in self.obs])
        return replace(self, obs=pd.concat([kept, added], axis=1))

    def to_dict(self) -> dict[str, Any]:
        """Plain arrays, numbers and strings, in dictionaries, that hold all of it (:meth:`from_dict`)."""
        fit = self.fit.to_dict()
        tables = {id(of): name for name, of in reversed(self.fit.neighborhoods.items())}
        same = {name: tables[id(of)] for name, of in self.fit.neighborhoods.items()}
        fit["neighborhoods"] = {name: fit["neighborhoods"][name] for name in set(same.values())}
        return {
            "fit": fit,
            "same_neighborhoods": same,
            "counts": {name: _packed(x) for name, x in self.counts.items()},
            "obs_names": self.obs.index.to_numpy(dtype=object),
            "obs": {
                column: {"categories": categories, "codes": codes.astype(np.int32)}
                for column in self.obs
                for codes, categories in [pd.factorize(self.obs[column], sort=True)]
            },
            **({} if self.clusters is None else {"clusters": self.clusters}),
        }

    @classmethod
    def from_dict(cls, of: Mapping[str, Any]) -> Reference:
        """What :meth:`to_dict` held, to the bit."""
        tables = {name: dict(kernels) for name, kernels in of["fit"]["neighborhoods"].items()}
        neighborhoods = {name: tables[first] for name, first in of["same_neighborhoods"].items()}
        obs = pd.DataFrame(index=pd.Index(of["obs_names"], dtype=object))
        for column, values in of["obs"].items():
            categories = np.array([*values["categories"], None], dtype=object)  # the last is that of code -1
            obs[column] = categories[np.asarray(values["codes"])]
        return cls(
            fit=ManifoldFit.from_dict({**of["fit"], "neighborhoods": neighborhoods}),
            counts={
                name: sp.csr_array(
                    (x["data"].astype(np.float32), x["indices"].astype(np.int32), x["indptr"]), shape=tuple(x["shape"])
                )
                for name, x in of["counts"].items()
            },
            obs=obs,
            clusters=np.asarray(of["clusters"]) if "clusters" in of else None,
        )


def _packed(counts: sp.csr_array) -> dict[str, Any]:
    """Counts in as few bytes as they need."""
    largest = int(counts.data.max(initial=0))
    kind = next((kind for kind in (np.uint8, np.int16) if largest <= np.iinfo(kind).max), np.int32)
    index = np.int16 if counts.shape[1] <= np.iinfo(np.int16).max else np.int32
    return {
        "data": counts.data.astype(kind),
        "indices": counts.indices.astype(index),
        "indptr": counts.indptr.astype(np.int64),
        "shape": np.array(counts.shape),
    }


def reference_of(mdata: MuData | None, registry: Mapping[str, Any]) -> Reference | None:
    """What the cells of a model hold of it; ``None`` where their fit can't place further cells."""
    setup = registry["setup_args"]
    key, present_key = setup["input_layer"], setup.get("present_key")
    if mdata is None or Keys.fit(key) not in mdata.uns:
        return None
    present = None if present_key is None else np.asarray(mdata.obsm[present_key])
    try:
        fit = _mudata.read_fit(mdata, key, present=present)
    except (KeyError, ValueError) as error:
        logger.warning("The model can't place other cells. %s", error.args[0])
        return None
    counts = {}
    for modality in fit.modalities:
        columns = mdata.mod[modality.name].var_names.get_indexer(pd.Index(modality.features))
        try:
            own = registered_counts(mdata, modality.name, setup)
        except ValueError as error:
            raise ValueError(
                f"{error} These are the cells that the model was trained on, and others are mapped by their counts. Put the counts back; "
                "model.save(folder, reference=False) keeps the network without them."
            ) from error
        counts[modality.name] = sp.csr_array(own[modality.cells][:, columns])
    return Reference(fit, counts, _mudata.text_columns(mdata.obs))
