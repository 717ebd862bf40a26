"""The joint space: components of all modalities side by side, foretold where a cell lacks a modality."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from scmag_muon.manifold.alignment import batch_positions
from scmag_muon.manifold.components import Components, fit_components
from scmag_muon.manifold.information import Halves, concordances, modality_weights, replication, split_halves
from scmag_muon.manifold.modality import MANY
from scmag_muon.manifold.neighbors import indicator, nearest_in, nearest_neighbors
from scmag_muon.manifold.threads import in_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import scipy.sparse as sp

    from scmag_muon.manifold.modality import Modality

_DONORS = 15
_FEWEST_COMMON = 100


@dataclass(frozen=True)
class Joint:
    """Joint space of the cells, and how each modality has its place there.

    Parameters
    ----------
    values
        Blocks of the modalities side by side, float32, ``(n_obs, n_components)``.
    present
        Which cells have which modality, ``(n_obs, n_modalities)``.
    components, centers, spreads
        Of each modality, as in :class:`~scmag_muon.manifold.modality.FittedModality`.
    replications, concordances, weights
        Of each modality, ``(n_modalities,)``.
    """

    values: np.ndarray
    present: np.ndarray
    components: list[Components]
    centers: list[np.ndarray]
    spreads: list[float]
    replications: np.ndarray
    concordances: np.ndarray
    weights: np.ndarray


def joint_space(
    modalities: Sequence[Modality],
    n_obs: int,
    *,
    n_pcs: int = 30,
    batches: np.ndarray | None = None,
    n_batches: int = 0,
    random_state: int | None = 0,
) -> Joint:
    """Principal components of the modalities side by side, each block of unit variance times the modality's weight.

    Weights follow from what replicates of each modality and whether the others agree
    (:func:`~scmag_muon.manifold.information.modality_weights`). With batches, numbers from 0 below ``n_batches``, the
    where each batch lies (:func:`~scmag_muon.manifold.alignment.batch_positions`) is taken off. What a cell lacks is foretold from cells that have it (:func:`foretell`).
    """
    present = np.zeros((n_obs, len(modalities)), dtype=bool)
    for i, modality in enumerate(modalities):
        present[modality.cells, i] = True
    check_linked(present, [modality.name for modality in modalities])
    seed = int(np.random.default_rng().integers(2**31)) if random_state is None else random_state

    def components(modality: Modality) -> tuple[np.ndarray, Components]:
        return fit_components(modality.main_view(), n_pcs, random_state=random_state)

    # each has stretches that keep a single core busy: side by side they fill one another's gaps. Of many counts
    # they are made one after the other, since their memory would add up
    work: list[Callable[[], Any]] = [
        *(partial(components, modality) for modality in modalities),
        *(partial(_halves, modality, modality.counts, seed) for modality in modalities),
    ]
    many = max(modality.counts.nnz for modality in modalities) > MANY
    done = [part() for part in work] if many else in_threads(lambda part: part(), work)
    scored, halves = done[: len(modalities)], done[len(modalities) :]
    shares = np.array([replication(of.tables) for of in halves])
    agreement = concordances(halves, random_state=seed) if present.all() else _concordances(modalities, present, seed)
    weights = modality_weights(shares, agreement)
    centers, spreads, blocks = [], [], []
    for modality, (scores, _), weight in zip(modalities, scored, weights, strict=True):
        codes = None if batches is None else batches[modality.cells]
        centers.append(batch_positions(scores, codes, n_batches, random_state=seed))
        own = scores if codes is None else scores - centers[-1][codes]
        spreads.append(float(max(np.sqrt(own.var(axis=0).sum()), 1e-12)))
        block = np.zeros((n_obs, own.shape[1]), dtype=np.float32)
        block[modality.cells] = float(weight) * own / np.float32(spreads[-1])
        blocks.append(block)
    values = np.hstack(foretell(blocks, present, blocks, present, weights))
    return Joint(values, present, [of for _, of in scored], centers, spreads, shares, agreement, weights)


def check_linked(present: np.ndarray, names: Sequence[str]) -> None:
    """Raise unless every cell has a modality and cells that have several link each modality to every other."""
    nothing = np.flatnonzero(~present.any(axis=1))
    if len(nothing):
        raise ValueError(
            f"{len(nothing)} cells have none of the modalities {list(names)}, the first is number {nothing[0]}."
        )
    reached = linked(present)
    if not reached.all():
        apart = [name for name, link in zip(names, reached, strict=True) if not link]
        raise ValueError(
            f"Modality {apart[0]!r} shares no cell with {names[0]!r}, and no chain of other modalities links them. "
            "Add cells in which both are measured, or fit them apart."
        )


def linked(present: np.ndarray) -> np.ndarray:
    """Which modalities a chain of cells that have several links to the first, bool, ``(n_modalities,)``."""
    common = present.T.astype(np.int64) @ present > 0
    reached = np.zeros(present.shape[1], dtype=bool)
    reached[0] = True
    for _ in reached:
        reached = common[reached].any(axis=0)
    return reached


def _halves(modality: Modality, counts: sp.csr_array, seed: int) -> Halves:
    return split_halves(counts, modality.recipe.main, scale=modality.recipe.median > 0, random_state=seed)


def _concordances(modalities: Sequence[Modality], present: np.ndarray, seed: int) -> np.ndarray:
    """For each modality the best concordance with another, each pair on the cells that have both, where these are a hundred."""
    found = np.full(len(modalities), np.nan)
    for i in range(len(modalities)):
        for j in range(i):
            common = np.flatnonzero(present[:, i] & present[:, j])
            if len(common) < _FEWEST_COMMON:
                continue
            pair = [modalities[i], modalities[j]]
            halves = [_halves(of, of.counts[np.searchsorted(of.cells, common)], seed) for of in pair]
            found[[i, j]] = np.fmax(found[[i, j]], concordances(halves, random_state=seed))
    return found


def foretell(
    blocks: Sequence[np.ndarray],
    present: np.ndarray,
    donor_blocks: Sequence[np.ndarray],
    donors_have: np.ndarray,
    weights: np.ndarray,
    *,
    spread: bool = True,
) -> list[np.ndarray]:
    r"""Blocks of the joint space with the rows filled that a cell lacks.

    For a block that a cell lacks, its 15 nearest are sought among the donors that have it, in the blocks that cell and donors
    share. Their mean alone would be less spread than measured cells are, and set apart the cells that lack something. So what
    the nearest of them departs by from the mean of its *own* 15 nearest is added, times :math:`\sqrt{14 / 16}`. No number is
    drawn: the order of the cells plays no part.

    Where no donor has both the block and one of the cell's own, the blocks that were filled in the round before serve.

    Parameters
    ----------
    blocks, present
        Blocks of the cells, each ``(n_obs, n_components)``, and which of them are measured, ``(n_obs, n_modalities)``.
    donor_blocks, donors_have
        The same of the cells to learn from.
    weights
        Of the modalities: where several sets of blocks may serve, the one of the largest weight does.
    spread
        Add the departure; else the mean is taken.
    """
    filled = [np.array(block, dtype=np.float32) for block in blocks]
    known = present.copy()
    while not known.all():
        before = known.copy()
        for pattern in np.unique(before[~before.all(axis=1)], axis=0):
            rows = np.flatnonzero((before == pattern).all(axis=1))
            for lacking in np.flatnonzero(~pattern).tolist():
                shared = _shared_blocks(pattern, lacking, donors_have, weights)
                if shared is None:
                    continue
                donors = np.flatnonzero(donors_have[:, lacking] & donors_have[:, shared].all(axis=1))
                x = np.hstack([filled[i][rows] for i in shared])
                of_donors = np.hstack([donor_blocks[i][donors] for i in shared])
                filled[lacking][rows] = _transfer(x, of_donors, donor_blocks[lacking][donors], spread=spread)
                known[rows, lacking] = True
        if (known == before).all():
            raise ValueError("Some modality shares no cell with the modalities of some cells.")
    return filled


def _shared_blocks(pattern: np.ndarray, lacking: int, have: np.ndarray, weights: np.ndarray) -> list[int] | None:
    """The blocks of a cell in which to seek donors: of largest weight, among sets that fifteen donors have where there are."""
    sets: set[tuple[int, ...]] = {
        tuple(np.flatnonzero(row & pattern).tolist()) for row in np.unique(have[have[:, lacking]], axis=0)
    }
    sets.discard(())
    if not sets:
        return None

    def rank(of: Iterable[int]) -> tuple[int, float, tuple[int, ...]]:
        blocks = tuple(of)
        n_donors = int((have[:, lacking] & have[:, list(blocks)].all(axis=1)).sum())
        return min(n_donors, _DONORS), float(np.square(weights[list(blocks)]).sum()), blocks

    return list(max(sets, key=rank))


def _transfer(x: np.ndarray, of_donors: np.ndarray, values: np.ndarray, *, spread: bool) -> np.ndarray:
    p = min(_DONORS, max(len(of_donors) - 1, 1))
    nearest = nearest_in(x, of_donors, p)
    mean = (indicator(nearest, len(of_donors)) @ values) / p
    if not spread or len(of_donors) == 1:
        return mean
    others = nearest_neighbors(of_donors, p + 1)[:, 1:]
    departure = values - (indicator(others, len(of_donors)) @ values) / p
    return mean + np.float32(np.sqrt((p - 1) / (p + 1))) * departure[nearest[:, 0]]
