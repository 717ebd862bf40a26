"""Coordinates of further cells in the blocks of the joint space whose modalities they have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scmag_muon.manifold.alignment import batch_shift

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import scipy.sparse as sp

    from scmag_muon.manifold.modality import FittedModality

FEWEST_OF_A_BATCH = 20


@dataclass(frozen=True)
class Placed:
    """The reference's cells among which others are placed.

    Parameters
    ----------
    blocks, present
        Their blocks of the joint space, and which of them are measured, ``(n_obs, n_modalities)``.
    batches, codes
        Names of the batches, and the number of each cell's, ``(n_obs,)``.
    """

    blocks: Sequence[np.ndarray]
    present: np.ndarray
    batches: Sequence[str]
    codes: np.ndarray

    def batches_of(self, which: int) -> np.ndarray:
        """Names of the batches of which cells have a modality."""
        names = np.asarray(self.batches, dtype=object)
        return names[np.unique(self.codes[self.present[:, which]])] if len(names) else names


def measured_blocks(
    modalities: Sequence[FittedModality],
    reference: Placed,
    counts: Mapping[str, sp.csr_array],
    present: Mapping[str, np.ndarray],
    batches: Sequence[str] | np.ndarray | None,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Which modalities each cell has, ``(n_new, n_modalities)``, and its blocks, zeros where it lacks one.

    Arguments are as of :meth:`~scmag_muon.manifold.fit.ManifoldFit.embed`. Cells of a batch of the reference are centred as that was.
    """
    n_new = len(next(iter(present.values())))
    have = np.zeros((n_new, len(modalities)), dtype=bool)
    unseen = np.zeros_like(have)
    blocks = [np.zeros((n_new, block.shape[1]), dtype=np.float32) for block in reference.blocks]
    names = None if batches is None else np.asarray(batches, dtype=object).astype(str).astype(object)
    for i, modality in enumerate(modalities):
        if modality.name not in counts:
            continue
        mask = have[:, i] = present[modality.name]
        block = modality.components.scores(modality.recipe.main_view(counts[modality.name]))
        if names is not None:
            known = np.isin(names[mask], reference.batches_of(i))
            codes = np.array([list(reference.batches).index(name) for name in names[mask][known]], dtype=np.int64)
            block[known] -= modality.centers[codes]
            unseen[mask, i] = ~known
        blocks[i][mask] = block * (modality.weight / np.float32(modality.spread))
    if names is not None:
        _move_unseen(blocks, unseen, names, reference)
    return have, blocks


def _move_unseen(blocks: Sequence[np.ndarray], unseen: np.ndarray, batches: np.ndarray, reference: Placed) -> None:
    """Move cells whose blocks are ``unseen``, of a batch of which the reference has no such cells, among its cells.

    Fewer than 20 cells of one batch that have the same such blocks stay where they are.
    """
    for batch in np.unique(batches[unseen.any(axis=1)]):
        of_batch = batches == batch
        for pattern in np.unique(unseen[of_batch], axis=0):
            which = np.flatnonzero(pattern).tolist()
            rows = np.flatnonzero(of_batch & (unseen == pattern).all(axis=1))
            have = reference.present[:, which].all(axis=1)
            if not which or len(rows) < FEWEST_OF_A_BATCH or not have.any():
                continue
            x, among = (
                np.hstack([of[i][chosen] for i in which]) for of, chosen in ((blocks, rows), (reference.blocks, have))
            )
            shift = batch_shift(x, among).astype(np.float32)
            for i, part in zip(
                which, np.split(shift, np.cumsum([blocks[i].shape[1] for i in which])[:-1]), strict=True
            ):
                blocks[i][rows] += part
