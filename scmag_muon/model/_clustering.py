"""Soft assignment, clustering loss and the gate that selects what to cluster on (paper, eq. 17-18, 29-32)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from scipy.spatial.distance import cdist, pdist
from sklearn.metrics import adjusted_rand_score
from torch import Tensor, nn

from scmag_muon.metrics._stability import agreements

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_STANDARD_ERRORS = 2
AGREE = 0.6
"""Agreement of clusters before and after fitting from which on fitting is believed."""
ALIKE = 0.9
"""Agreement of clusters with and without the network from which on those without are taken."""
DOUBTFUL = 0.5
"""Agreement of clusters with and without the network below which they are doubted."""
_MOST_COMPARED = 50_000
_MOST_ELEMENTS = 2**22  # of what is computed of all cells at once


def squared_distances(z: Tensor, centers: Tensor) -> Tensor:
    """Squared Euclidean distance of each cell to each centre (eq. 29), shape ``(n_cells, n_clusters)``.

    Differences are taken before they are squared, for products would lose digits far from the origin; and of some cells at a
    time, since differences of all of them would be ``n_latent`` times as large as the distances.
    """
    parts = blocks(z, centers.numel())
    return torch.cat([(part.unsqueeze(1) - centers).square().sum(dim=-1) for part in parts])


def blocks(cells: Tensor, n_elements: int) -> tuple[Tensor, ...]:
    """The cells in parts for which ``n_elements`` numbers a cell are not too many."""
    return cells.split(max(_MOST_ELEMENTS // max(n_elements, 1), 1))


def soft_assignment(distances: Tensor) -> Tensor:
    """Soft assignment Q of eq. 30-31: softmax of the centred distances, squared and normalised again, rows sum to 1.

    The softmax is the same whatever is taken off a row: here its minimum in place of its mean, for distances may be infinite.
    """
    centered = distances - distances.amin(dim=1, keepdim=True)
    q = torch.softmax(-centered, dim=1).square()
    return q / q.sum(dim=1, keepdim=True)


def clustering_loss(distances: Tensor, q: Tensor) -> Tensor:
    r"""Weighted soft k-means loss of eq. 32: mean over cells of :math:`\sum_j d_{ij} q_{ij}`."""
    return (distances * q).sum(dim=1).mean()


def total_variance(z: Tensor) -> Tensor:
    """Sum over dimensions of the variance over cells."""
    center = z.mean(dim=0)
    return torch.cat([(part - center).square().sum(dim=1) for part in blocks(z, z.shape[1])]).mean()


def within_covariance(
    products: Tensor, n_cells: int, centers: Tensor, weight: Tensor, sums: Tensor, *, shrinkage: float = 0.1
) -> Tensor:
    """Covariance of cells around their centres, pooled over clusters, shrunk towards its mean variance.

    Parameters
    ----------
    products
        :math:`Z^T Z` of the cells, shape ``(n_latent, n_latent)``.
    n_cells
        Number of cells.
    centers
        Shape ``(n_clusters, n_latent)``.
    weight, sums
        Sum over the cells of their assignments, ``(n_clusters,)``, and of these times Z, ``(n_clusters, n_latent)``.
    shrinkage
        Share of the mean variance.

    Returns
    -------
    Shape ``(n_latent, n_latent)``.
    """
    crossed = centers.T @ sums
    scatter = products - crossed - crossed.T + (centers.T * weight) @ centers
    covariance = scatter / n_cells
    even = torch.eye(len(products), dtype=products.dtype, device=products.device) * covariance.diagonal().mean()
    return (1 - shrinkage) * covariance + shrinkage * even


def whitening(covariance: Tensor) -> Tensor:
    """Matrix W with W W^T the inverse of the covariance: ``z @ W`` has unit variance in each direction."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors / values.clamp_min(1e-8).sqrt()


def group_sums(z: Tensor, groups: Tensor, n_groups: int) -> tuple[Tensor, Tensor]:
    """Number of cells of each group, ``(n_groups,)``, and the sum of their coordinates, ``(n_groups, n_latent)``.

    By products of some cells at a time: a GPU adds by index in another order each time.
    """
    sizes, sums = z.new_zeros(n_groups), z.new_zeros(n_groups, z.shape[1])
    for part, members in zip(blocks(z, n_groups), blocks(groups, n_groups), strict=True):
        q = nn.functional.one_hot(members.long(), n_groups).to(z.dtype)
        sizes += q.sum(dim=0)
        sums += q.T @ part
    return sizes, sums


def join_communities(
    z: Tensor,
    communities: Tensor,
    n_clusters: int,
    profiles: Sequence[np.ndarray] | None = None,
    profile_weight: float = 1.0,
) -> Tensor:
    """Join communities of cells to ``n_clusters`` by the distances of their means, in units of the spread within them.

    Measured so, two communities are near if their cells overlap, however long or wide the direction between them is; and a
    small one is as far as a large one, so that a small type is kept before a large one is cut. What was joined has the mean of all its cells.

    With ``profiles``, the squared distance in ``z`` and that of the mean expression are added, each over its median. Of the
    latter, first, four times what chance gives to groups of a and b cells, :math:`4 (1/a + 1/b)`, is taken off: a group of few
    cells is kept apart only as far as its expression differs by more than two standard errors.

    Parameters
    ----------
    z
        Space in which they are joined, shape ``(n_cells, n_latent)``.
    communities
        Integers from 0, shape ``(n_cells,)``; or ``(n_cells, n_partitions)`` for several divisions into communities. Each of these
        is joined by itself, and what comes out is joined by how often cells are together: whether two neighbouring types
        stay apart can hang on a single community, and most divisions are right on most of them.
    n_clusters
        K.
    profiles
        For each division the mean expression of its communities, ``(n_communities, n_dimensions)``, in units in which that of
        a single cell scatters within its community with a variance of 1.
    profile_weight
        How much the squared distance in expression counts beside that in ``z``.

    Returns
    -------
    Integers from 0, shape ``(n_cells,)``.
    """
    joined = join_each(z, communities, n_clusters, profiles, profile_weight)
    return torch.as_tensor(_consensus(list(joined.T), n_clusters).astype(np.int64), device=z.device)


@dataclass(frozen=True)
class Joined:
    """Clusters, integers from 0, ``(n_cells,)``, and how well two ways to find them agree, 1 where there is but one way.

    ``fit_agreement`` is the adjusted Rand index of clusters from fitted and unfitted divisions, ``network_agreement`` that of clusters
    with and without the network. ``are_plain`` where the latter are taken.
    """

    labels: Tensor
    fit_agreement: float = 1.0
    network_agreement: float = 1.0
    are_plain: bool = False


def join_before_and_after(
    z: Tensor,
    communities: Tensor,
    n_clusters: int,
    profiles: Sequence[np.ndarray] | None = None,
    profile_weight: float = 1.0,
    *,
    n_unfitted: int,
    plain: np.ndarray | None = None,
) -> Joined:
    """Join communities as :func:`join_communities` does, where some divisions are of the space before manifold fitting.

    These are the last ``n_unfitted``. Fitted and unfitted divisions are joined apart first. If the two outcomes agree (adjusted
    Rand index of .6 or more) all divisions are joined together, else the unfitted ones alone: fitting may make a cluster
    clearer, but where it changes what the clusters are, it made them up.

    With ``plain`` each division has a second outcome, and all are in one consensus: Z1 tells groups apart that the data hardly do,
    but lets a small group run into its neighbour. If that consensus is nearly the one of the unfitted divisions without the network
    (.9 or more), there was nothing to tell apart, and the latter is taken.

    Parameters
    ----------
    z, communities, n_clusters, profiles, profile_weight
        As for :func:`join_communities`.
    n_unfitted
        How many divisions, the last ones, are of the space before fitting.
    plain
        The clusters to which each division is joined in the space before fitting (:func:`join_each`), ``(n_cells, n_partitions)``.
    """
    table = join_each(z, communities, n_clusters, profiles, profile_weight)
    unfitted = np.arange(table.shape[1]) >= table.shape[1] - n_unfitted
    fit_agreement, network_agreement, are_plain = 1.0, 1.0, False
    if unfitted.any() and not unfitted.all():
        kinds = (_consensus(_chosen(table, kind), n_clusters) for kind in (~unfitted, unfitted))
        fit_agreement = float(adjusted_rand_score(*kinds))
    believed = unfitted if fit_agreement < AGREE else np.ones_like(unfitted)
    outcomes = _chosen(table, believed) + ([] if plain is None else _chosen(plain, believed))
    labels = _consensus(outcomes, n_clusters)
    if plain is not None and unfitted.any():
        without = _consensus(_chosen(plain, unfitted), n_clusters)
        network_agreement = float(adjusted_rand_score(labels, without))
        are_plain = network_agreement >= ALIKE
        labels = without if are_plain else labels
    clusters = torch.as_tensor(labels.astype(np.int64), device=z.device)
    return Joined(clusters, fit_agreement, network_agreement, are_plain)


def join_each(
    z: Tensor, communities: Tensor, n_clusters: int, profiles: Sequence[np.ndarray] | None, weight: float
) -> np.ndarray:
    """Each division joined by itself as by :func:`join_communities`, int16, ``(n_cells, n_partitions)``."""
    divisions = communities.reshape(len(communities), -1)
    joined = np.empty(tuple(divisions.shape), dtype=np.int16)
    for i in range(divisions.shape[1]):
        of_division = None if profiles is None else profiles[i]
        joined[:, i] = _join(z, divisions[:, i].long(), of_division, n_clusters, weight=weight).cpu().numpy()
    return joined


def _chosen(table: np.ndarray, columns: np.ndarray) -> list[np.ndarray]:
    """Some columns, of which no copy is made."""
    return [table[:, column] for column in np.flatnonzero(columns)]


def _consensus(clusterings: Sequence[np.ndarray], n_clusters: int) -> np.ndarray:
    """One clustering from several, each of shape ``(n_cells,)``: evidence accumulation (Fred and Jain 2005).

    Cells are points whose squared distance is the number of clusterings that hold them apart, and are joined by the distances
    of their means. With many clusters of few cells these joins can run into one another. So what comes out must agree with the
    clusterings, by the mean adjusted Rand index, at least as well as the most typical of them does, which is taken otherwise.
    """
    if len(clusterings) == 1:
        return clusterings[0]
    kinds, index = _distinct_rows(clusterings)
    points = np.hstack([np.eye(column.max() + 1)[column] for column in kinds.T]) / np.sqrt(2)
    found = centroid_linkage(points, np.bincount(index), n_clusters)[index]
    step = -(-len(found) // _MOST_COMPARED)
    compared = [each[::step] for each in clusterings]
    typical = (agreements(compared).sum(axis=0) - 1) / (len(compared) - 1)
    best = int(typical.argmax())
    reached = np.mean([adjusted_rand_score(found[::step], each) for each in compared])
    is_better = reached < typical[best] and len(np.unique(clusterings[best])) <= n_clusters
    return clusterings[best] if is_better else found


def _distinct_rows(columns: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Rows that occur, sorted, and which of them each row is: column by column, for NumPy holds several copies of all rows."""
    index = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        values, codes = np.unique(column, return_inverse=True)
        index = pd.factorize(index * len(values) + codes, sort=True)[0]
    first = np.empty(index.max() + 1, dtype=np.int64)
    first[index[::-1]] = np.arange(len(index))[::-1]
    return np.column_stack([column[first] for column in columns]), index


def join_overlapping(z: Tensor, communities: Tensor) -> Tensor:
    """Join communities whose means lie within two standard deviations of each other, integers from 0, shape ``(n_cells,)``.

    The mixture of two normals of the same size and covariance has one mode up to that distance, and two beyond it. Distances
    are those of :func:`join_communities`.
    """
    return _join(z, communities.long(), None, 1, below=2.0)


def _join(
    z: Tensor,
    communities: Tensor,
    profile: np.ndarray | None,
    n_clusters: int,
    *,
    weight: float = 1.0,
    below: float = np.inf,
) -> Tensor:
    n_communities = int(communities.max()) + 1
    if n_communities <= n_clusters:
        return communities
    sizes, sums = group_sums(z, communities, n_communities)
    means = sums / sizes.clamp_min(1).unsqueeze(1)
    points = (means @ whitening(within_covariance(z.T @ z, len(z), means, sizes, sums))).cpu().numpy()
    chance = 0.0
    if profile is not None:
        unit = median_distance(profile) / np.sqrt(weight)
        points = np.hstack([points / median_distance(points), profile / unit])
        chance = (_STANDARD_ERRORS / unit) ** 2
    joined = centroid_linkage(points, sizes.cpu().numpy(), n_clusters, below=below, chance=chance)
    return torch.as_tensor(joined, device=z.device)[communities]


def median_distance(points: np.ndarray) -> float:
    return max(float(np.median(pdist(points))), 1e-12)


def centroid_linkage(
    means: np.ndarray, sizes: np.ndarray, n_clusters: int, *, below: float = np.inf, chance: float = 0.0
) -> np.ndarray:
    """Join groups of points to ``n_clusters``, always the two whose means are nearest; the mean is of their points.

    Of the squared distance of groups of a and b points ``chance * (1 / a + 1 / b)`` is taken off. More than ``n_clusters`` are
    left where no two means lie nearer than ``below``.

    SciPy's ``linkage(method="centroid")`` starts from single points; here each row stands for as many as ``sizes`` says, as in
    ``hclust(members=)`` of R.

    Returns
    -------
    Integers from 0, shape ``(n_groups,)``.
    """
    cluster = np.arange(len(means))
    for one, other in centroid_joins(means, sizes, n_clusters, below=below, chance=chance):
        cluster[cluster == other] = one
    return np.unique(cluster, return_inverse=True)[1]


def centroid_joins(
    means: np.ndarray,
    sizes: np.ndarray,
    n_clusters: int,
    *,
    below: float = np.inf,
    chance: float = 0.0,
    within: np.ndarray | None = None,
) -> list[tuple[int, int]]:
    """The joins of :func:`centroid_linkage` in their order: of each the group that goes on and the one that becomes part of it.

    Groups for which ``within``, integers of shape ``(n_groups,)``, differs are never joined. Each group's nearest one is kept and
    sought again only where one of these two was joined.
    """
    means, sizes = means.copy(), sizes.astype(float)
    apart = cdist(means, means, "sqeuclidean") - chance * np.add.outer(1 / sizes, 1 / sizes)
    np.fill_diagonal(apart, np.inf)
    if within is not None:
        apart[within[:, None] != within] = np.inf
    groups = np.arange(len(means))
    nearest = apart.argmin(axis=1)
    shortest = apart[groups, nearest]
    joins = []
    for _ in range(len(means) - n_clusters):
        one = shortest.argmin()
        other = nearest[one]
        if shortest[one] > below**2 or np.isinf(shortest[one]):
            break
        joins.append((int(one), int(other)))
        means[one] = np.average(means[[one, other]], axis=0, weights=sizes[[one, other]])
        sizes[one] += sizes[other]
        means[other] = np.inf
        distances = cdist(means[[one]], means, "sqeuclidean")[0] - chance * (1 / sizes[one] + 1 / sizes)
        distances[one] = np.inf
        if within is not None:
            distances[within != within[one]] = np.inf
        apart[one] = apart[:, one] = distances
        apart[other] = apart[:, other] = np.inf
        # of groups at the same distance the first is the nearest
        nearer = (distances < shortest) | ((distances == shortest) & (one < nearest))
        lost = np.isin(nearest, (one, other))
        lost[[one, other]] = True
        nearest[nearer] = one
        nearest[lost] = apart[lost].argmin(axis=1)
        shortest = apart[groups, nearest]
    return joins


class SelectiveGate(nn.Module):
    """Forget gate of the SER strategy, :math:`Z_c = σ(W [Z_c, Q] + b) ∘ Z_1` (eq. 17).

    The equation is circular: Zc needs the gate, the gate needs Zc and Q. It is iterated from Zc = Z1.

    Parameters
    ----------
    n_latent, n_clusters
        Width of Z1 and number of clusters.
    bias
        Initial b. The gate starts with W = 0, so that it passes σ(b) of every dimension: 3 is open, 0 halves Z1.
    n_iterations
        How often Q (expectation) and gate (maximisation) alternate.
    """

    def __init__(self, n_latent: int, n_clusters: int, *, bias: float, n_iterations: int = 2) -> None:
        super().__init__()
        self.n_iterations = n_iterations
        self.linear = nn.Linear(n_latent + n_clusters, n_latent)
        nn.init.zeros_(self.linear.weight)
        nn.init.constant_(self.linear.bias, bias)

    def forward(self, z1: Tensor, assign: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Clustering space Zc and the gate's values, each ``(n_cells, n_latent)``; ``assign`` gives Q of a Zc."""
        zc, gate = z1, torch.ones_like(z1)
        for _ in range(self.n_iterations):
            q = assign(zc).detach()
            gate = torch.sigmoid(self.linear(torch.cat([zc, q], dim=-1))).to(z1.dtype)
            zc = gate * z1
        return zc, gate
