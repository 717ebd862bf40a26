"""What a trained network says of cells that are mapped onto its reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch
from scvi import REGISTRY_KEYS

from scmag_muon.model._new_cells import feature_names
from scmag_muon.model._placing import as_seen_by, embedded, network_cells
from scmag_muon.model._query_data import ONE_BATCH, known_batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

    from scmag_muon._mudata import Query
    from scmag_muon.model._reference import Reference
    from scmag_muon.model._scmag import SCMAG

_BLOCK, _MINIBATCH = 4096, 1024


@dataclass(frozen=True)
class Mapped:
    """Arrays with a row for each cell of the query.

    Parameters
    ----------
    joint
        Coordinates in the joint space of manifold fitting, ``(n_obs, n_components)``.
    reference_joint
        Those of the reference's cells by the features that the query has, ``(n_reference, n_components)``.
    operators
        For each modality which reference cells it is fitted by, rows that sum to 1, ``(n_obs, n_reference)``.
    q
        Soft assignment to the reference's clusters, ``(n_obs, K)``.
    latent, reconstruction_latent
        Zc and Zr, ``(n_obs, n_latent)``.
    denoised
        For each modality of the reference its denoised counts, as the network gives them, ``(n_obs, n_features)``; empty where they
        were not wanted.
    """

    joint: np.ndarray
    reference_joint: np.ndarray
    operators: dict[str, sp.csr_array]
    q: np.ndarray
    latent: np.ndarray
    reconstruction_latent: np.ndarray
    denoised: dict[str, np.ndarray]


def mapped(model: SCMAG, reference: Reference, query: Query, *, denoised: bool = True) -> Mapped:
    """Place the cells and ask the network about them, some thousands at a time.

    Cells of a batch that the model does not know are decoded in the largest batch of the reference.
    """
    seen = as_seen_by(query, reference)
    joint = embedded(query, seen)
    batch_key = model.registry_["setup_args"]["batch_key"]
    batches = None if batch_key is None else _decoded_in(model, query, reference, len(joint))
    if not (model.is_trained_ and model.module.clustering_started):
        raise RuntimeError("The model has no clusters yet: call model.train() with max_epochs of at least 1 first.")
    parts, by_modality = [], []
    sizes = [len(feature_names(model.registry_, i)) for i in range(len(model.modalities_))] if denoised else []
    decoded = [np.empty((len(joint), size), dtype=np.float32) for size in sizes]
    for start in range(0, len(joint), _BLOCK):
        rows = slice(start, start + _BLOCK)
        operators = reference.fit.operators(joint[rows])
        cells = network_cells(query, operators, reference, model.registry_, rows=rows)
        if batches is not None:
            cells.obs[batch_key] = batches[rows]
        parts += _asked_once(model, cells, [of[rows] for of in decoded])
        by_modality.append({name: of["rbf"] for name, of in operators.items()})
    q, latent, reconstruction = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Mapped(
        joint,
        seen.joint,
        {name: sp.csr_array(sp.vstack([of[name] for of in by_modality])) for name in reference.fit.names},
        q,
        latent,
        reconstruction,
        dict(zip(model.modalities_, decoded, strict=True)) if denoised else {},
    )


@torch.inference_mode()
def _asked_once(model: SCMAG, cells: MuData, decoded: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
    """Of each minibatch Q, Zc and Zr, as the getters give them; in the same pass denoised counts by modality, put into ``decoded``."""
    module, found, start = model.module, [], 0
    for tensors, inference in model._inferred(cells, np.arange(cells.n_obs), _MINIBATCH, batches=True):
        zr = inference["zr"]
        if decoded:
            totals = module.median_totals.expand(len(zr), -1)
            of_counts = module.generative(zr=zr, totals=totals, batch_index=tensors[REGISTRY_KEYS.BATCH_KEY])
            for i, into in enumerate(decoded):
                into[start : start + len(zr)] = module.log_mean(i, **of_counts).exp().cpu().numpy()
        start += len(zr)
        found.append([of.cpu().numpy() for of in (module.assign(inference["zc"]), inference["zc"], zr)])
    return found


def _decoded_in(model: SCMAG, query: Query, reference: Reference, n_obs: int) -> np.ndarray:
    known, codes = known_batches(model.registry_), reference.fit.codes
    batches = np.full(n_obs, ONE_BATCH, dtype=object) if query.batches is None else query.batches.astype(str)
    largest = reference.fit.batches[int(np.bincount(codes).argmax())] if reference.fit.batches else known[0]
    return np.where(np.isin(batches, known), batches, largest).astype(object)
