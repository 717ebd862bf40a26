"""From where the centres start: K where nobody gave it, communities, and their expression."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch

from scmag_muon import _mudata
from scmag_muon._keys import Keys
from scmag_muon.metrics._stability import most_typical
from scmag_muon.model._clustering import join_each
from scmag_muon.tl._graph_clusters import communities, community_profiles, fine_communities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

    from scmag_muon.manifold.fit import ManifoldFit

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """From what the centres start, as :meth:`SCMAG.train` takes it; without labels, from k-means in the network."""

    labels: np.ndarray | None = None
    profiles: list[np.ndarray] | None = None
    profile_weight: float = 1.0
    n_unfitted: int = 0
    plain: np.ndarray | None = None
    """Clusters to which each division is joined in the unfitted space, without the network, ``(n_obs, n_partitions)``."""
    compared: list[np.ndarray] | None = None
    """Communities at several resolutions, where K is the number of those that agree best with the others."""


def initial_clusters(
    work: MuData,
    n_clusters: int | None,
    manifold_key: str,
    batch_key: str | None,
    settings: str,
    random_state: int | None,
    fit: ManifoldFit | None,
) -> tuple[int, Start]:
    """K, where it is not given that of the joint space, and the start that the settings take."""
    start = Start()
    if n_clusters is None:
        compared = communities(work.obsm[Keys.joint_embedding(manifold_key)], random_state=random_state)
        labels = compared[most_typical(compared)]
        n_clusters = int(labels.max() + 1)
        logger.info("n_clusters is taken as %d, the communities of the joint space.", n_clusters)
        start = Start(labels if settings == "default" else None, compared=compared)
    elif settings == "default":
        spaces = [Keys.fitted_embedding(manifold_key)]
        if fit is None:  # before fitting, blocks of modalities that a cell lacks are guesses
            spaces.append(Keys.joint_embedding(manifold_key))
        start = communities_to_join(work, spaces, n_clusters, manifold_key, batch_key, random_state, fit)
    return n_clusters, start


def communities_to_join(
    work: MuData,
    spaces: Sequence[str],
    n_clusters: int,
    manifold_key: str,
    batch_key: str | None,
    random_state: int | None,
    fit: ManifoldFit | None = None,
) -> Start:
    """Fine communities of one or more spaces, those of the second counted as unfitted, and their mean expression."""
    divisions = [fine_communities(work.obsm[space], n_clusters, random_state=random_state) for space in spaces]
    narrow = max(int(each.max()) for each in divisions) <= np.iinfo(np.int16).max
    labels = np.hstack(divisions, dtype=np.int16 if narrow else np.int32, casting="same_kind")
    batches = _mudata.get_batches(work, batch_key)
    counts = expression(work, manifold_key, fit, random_state or 0)
    profiles, weight = community_profiles(work, labels, counts=counts, manifold_key=manifold_key, batches=batches)
    n_unfitted = sum(each.shape[1] for each in divisions[1:])
    plain = None
    if n_unfitted:
        unfitted = torch.from_numpy(np.require(work.obsm[spaces[-1]], requirements="W"))
        plain = join_each(unfitted, torch.as_tensor(labels), n_clusters, profiles, weight)
    return Start(labels, profiles, weight, n_unfitted=n_unfitted, plain=plain)


def expression(work: MuData, manifold_key: str, fit: ManifoldFit | None, random_state: int) -> dict[str, sp.csr_array]:
    """Counts of the fitted features of all cells, where a modality was not measured those of a neighbour."""
    counts = {name: _fitted_features(adata.X, adata.var[manifold_key].to_numpy()) for name, adata in work.mod.items()}
    if fit is None:
        return counts
    return {name: _mudata.borrowed(x, fit, name, random_state=random_state) for name, x in counts.items()}


def _fitted_features(counts: sp.csr_array, mask: np.ndarray) -> sp.csr_array:
    return sp.csr_array(counts if mask.all() else counts[:, mask])
