"""Paired counts of known clusters that lie on a curved sheet."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scmag_muon._mudata import make_mudata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Seed = np.random.SeedSequence

# Tuned so that k-means on principal components gives an ARI of about 0.7 with one modality and 0.9 with both.
_N_PROGRAMS = 16
_ARC = 1.5 * math.pi
_SPREAD = 0.2  # standard deviation of a cluster, in steps between neighbouring clusters
_LIBRARY_SD = 0.35
_CHUNK = 2048  # cells sampled at once, so that no dense matrix of all cells is ever made


class _Assay(NamedTuple):
    """How one modality sees the sheet: RNA one direction better, the others the other, so that none is enough alone."""

    prefix: str
    feature_type: str
    log_mean: tuple[float, float]  # mean and standard deviation over features
    informative: float  # share of features that vary over the sheet
    signal: float
    view: tuple[float, ...]  # how well it sees each part of the coordinates: along and across the sheet; or each axis
    dispersion: float
    background: float = 0.0


_RNA = _Assay("gene", "Gene Expression", (-0.7, 1.2), 0.3, 1.2, view=(1.0, 0.6), dispersion=2.0)
_PROTEIN = _Assay("prot", "Antibody Capture", (2.5, 0.8), 0.7, 1.3, view=(0.7, 1.0), dispersion=5.0, background=5.0)
_ATAC = _Assay("peak", "Peaks", (-2.0, 0.7), 0.4, 0.9, view=(0.6, 1.0), dispersion=3.0)

# In simulate_trimodal all see the lineages, and each an axis of its own that the others do not see at all.
_TRIMODAL = {
    "rna": _RNA._replace(view=(0.6, 1.4, 0.0, 0.0), signal=1.5),
    "prot": _PROTEIN._replace(view=(0.6, 0.0, 1.4, 0.0), signal=2.0),
    "atac": _ATAC._replace(view=(0.6, 0.0, 0.0, 1.4), signal=1.5),
}


def simulate_citeseq(
    n_obs: int = 1000,
    *,
    n_vars: int = 1000,
    n_prot: int = 30,
    n_clusters: int = 6,
    n_batches: int = 1,
    batch_strength: float = 0.5,
    dropout: float = 0.0,
    cluster_sizes: Sequence[float] | None = None,
    random_state: int | None = 0,
) -> MuData:
    r"""Simulate paired RNA and protein counts of known clusters on a curved sheet.

    Clusters sit on a grid on a sheet that is bent in six dimensions, and cells vary smoothly around their cluster's
    place. Each modality sees the coordinates :math:`z_i` through a random map of its own, weighted by :math:`s`:

    .. math::

        \mu_{if} = \ell_i \, e^{\delta_{b_i f}} \left( e^{\beta_f + a_f^\top \tanh(W (s \circ z_i) + c)} + g_f \right),
        \qquad x_{if} \sim \mathrm{NB}(\mu_{if}, \theta_f), \quad \operatorname{Var} x_{if} = \mu_{if} + \mu_{if}^2 / \theta_f .

    :math:`\ell_i` is the cell's library factor, :math:`g_f` the ambient background (protein only),
    :math:`\delta_{b f} \sim N(0, \texttt{batch\_strength}^2)` the shift of batch :math:`b`, absent with one batch.

    Parameters
    ----------
    n_obs, n_vars, n_prot
        Number of cells, of genes and of surface proteins.
    n_clusters, n_batches
        Number of clusters and of batches; batches are of equal size and independent of clusters.
    batch_strength
        Standard deviation over features of a batch's shift of the log-mean.
    dropout
        Probability, in ``[0, 1)``, that an entry of either modality is set to zero on top of the count noise.
    cluster_sizes
        Relative cluster sizes, one per cluster; equal by default.
    random_state
        Seed of everything, the feature maps included. ``None`` differs each time.

    Returns
    -------
    MuData
        Modalities ``"rna"``, shape ``(n_obs, n_vars)``, and ``"prot"``, shape ``(n_obs, n_prot)``, with integer counts
        in ``.X`` (CSR, float32) and the true :math:`\theta_f` in ``.var["dispersion"]``.

        - ``.obs["cell_type"]`` -- true cluster of each cell, categorical ``"type_0"``, ``"type_1"``, ...
        - ``.obs["batch"]`` -- batch of each cell, categorical; only where ``n_batches > 1``
        - ``.obsm["manifold"]`` -- true coordinates :math:`z_i`, shape ``(n_obs, 6)``

    Raises
    ------
    ValueError
        If an argument is out of its range, or a cluster would get no cell.

    Examples
    --------
    >>> from scmag_muon.datasets import simulate_citeseq
    >>> mdata = simulate_citeseq(200, n_clusters=4, cluster_sizes=[4, 3, 2, 1])
    >>> mdata.obs["cell_type"].value_counts(sort=False).to_list()
    [80, 60, 40, 20]
    """
    _check_at_least(1, n_vars=n_vars, n_prot=n_prot)
    obs, manifold, seeds = _draw_cells(n_obs, n_clusters, n_batches, cluster_sizes, random_state)
    rna = _draw_modality(_RNA, n_vars, obs, manifold, batch_strength, dropout, seeds[0])
    prot = _draw_modality(_PROTEIN, n_prot, obs, manifold, batch_strength, dropout, seeds[1])
    mdata = make_mudata({"rna": rna, "prot": prot}, obs)
    mdata.obsm["manifold"] = manifold
    return mdata


def simulate_multiome(
    n_obs: int = 1000,
    *,
    n_vars: int = 1000,
    n_peaks: int = 2000,
    n_clusters: int = 6,
    n_batches: int = 1,
    batch_strength: float = 0.5,
    dropout: float = 0.0,
    cluster_sizes: Sequence[float] | None = None,
    random_state: int | None = 0,
) -> MuData:
    r"""Simulate paired RNA and ATAC counts of known clusters on a curved sheet.

    The model is that of :func:`simulate_citeseq`; peaks have low counts, no background, and about five of six entries
    are zero. With the same ``random_state``, cells and RNA equal those of :func:`simulate_citeseq`.

    Parameters
    ----------
    n_obs, n_vars, n_peaks
        Number of cells, of genes and of peaks.
    n_clusters, n_batches, batch_strength, dropout, cluster_sizes, random_state
        As for :func:`simulate_citeseq`.

    Returns
    -------
    MuData
        Modalities ``"rna"``, shape ``(n_obs, n_vars)``, and ``"atac"``, shape ``(n_obs, n_peaks)``; otherwise as
        returned by :func:`simulate_citeseq`.

    Raises
    ------
    ValueError
        If an argument is out of its range, or a cluster would get no cell.

    Examples
    --------
    >>> from scmag_muon.datasets import simulate_multiome
    >>> mdata = simulate_multiome(120, n_vars=300, n_peaks=500, n_batches=2)
    >>> mdata["atac"].shape, mdata.obs["batch"].nunique()
    ((120, 500), 2)
    """
    _check_at_least(1, n_vars=n_vars, n_peaks=n_peaks)
    obs, manifold, seeds = _draw_cells(n_obs, n_clusters, n_batches, cluster_sizes, random_state)
    rna = _draw_modality(_RNA, n_vars, obs, manifold, batch_strength, dropout, seeds[0])
    atac = _draw_modality(_ATAC, n_peaks, obs, manifold, batch_strength, dropout, seeds[1])
    mdata = make_mudata({"rna": rna, "atac": atac}, obs)
    mdata.obsm["manifold"] = manifold
    return mdata


def simulate_trimodal(
    n_obs: int = 1000,
    *,
    n_vars: int = 1000,
    n_prot: int = 30,
    n_peaks: int = 2000,
    n_clusters: int = 9,
    n_batches: int = 1,
    batch_strength: float = 0.5,
    dropout: float = 0.0,
    cluster_sizes: Sequence[float] | None = None,
    random_state: int | None = 0,
) -> MuData:
    r"""Simulate RNA, protein and ATAC counts of the same cells, with types that only two of the three can tell apart, in turn.

    There are three lineages, which all modalities see, and three axes. RNA sees the first axis only, proteins the second, ATAC
    the third; an axis that a modality does not see has no effect on its counts. Types of the first lineage differ along the
    first and second axis, so RNA and proteins are needed to tell them apart; types of the second lineage along the second and
    third (proteins and ATAC); types of the third along the third and first (ATAC and RNA). Any two modalities leave out one axis,
    and the types that differ along it alone have the same expected counts in both. Of nine types two pairs are then one, which
    caps the ARI of two modalities at .79.

    Type i is of lineage i mod 3. The first of a lineage lies low on both of its axes, the second is high on one, the third on
    the other, the fourth on both. The counts are drawn as in :func:`simulate_citeseq`.

    Parameters
    ----------
    n_obs, n_vars, n_prot, n_peaks
        Number of cells, of genes, of surface proteins and of peaks.
    n_clusters
        Number of types; with more than twelve the second axis of a lineage gets more than two places.
    n_batches, batch_strength, dropout, cluster_sizes, random_state
        As for :func:`simulate_citeseq`.

    Returns
    -------
    MuData
        Modalities ``"rna"``, ``"prot"`` and ``"atac"`` of ``n_obs`` cells each; the rest as returned by
        :func:`simulate_citeseq`, with ``.obsm["manifold"]`` of shape ``(n_obs, 12)``.

    Raises
    ------
    ValueError
        If an argument is out of its range, or a cluster would get no cell.

    Examples
    --------
    >>> from scmag_muon.datasets import simulate_trimodal
    >>> mdata = simulate_trimodal(120, n_vars=300, n_peaks=500)
    >>> [adata.shape for adata in mdata.mod.values()]
    [(120, 300), (120, 30), (120, 500)]
    """
    _check_at_least(1, n_vars=n_vars, n_prot=n_prot, n_peaks=n_peaks)
    obs, manifold, seeds = _draw_cells(n_obs, n_clusters, n_batches, cluster_sizes, random_state, lineages=True)
    n_features = {"rna": n_vars, "prot": n_prot, "atac": n_peaks}
    mods = {
        name: _draw_modality(assay, n_features[name], obs, manifold, batch_strength, dropout, seed)
        for (name, assay), seed in zip(_TRIMODAL.items(), seeds, strict=True)
    }
    mdata = make_mudata(mods, obs)
    mdata.obsm["manifold"] = manifold
    return mdata


def _check_at_least(minimum: int, **arguments: object) -> None:
    for name, value in arguments.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < minimum:
            raise ValueError(f"`{name}` must be an integer of at least {minimum}, got {value!r}.")


def _draw_cells(
    n_obs: int,
    n_clusters: int,
    n_batches: int,
    cluster_sizes: Sequence[float] | None,
    random_state: int | None,
    *,
    lineages: bool = False,
) -> tuple[pd.DataFrame, Floats, list[Seed]]:
    """Labels and coordinates of the cells, on the sheet or in lineages, and a seed for each modality: two, or three."""
    _check_at_least(1, n_clusters=n_clusters, n_batches=n_batches)
    _check_at_least(max(n_clusters, n_batches), n_obs=n_obs)
    _check_at_least(0, random_state=0 if random_state is None else random_state)
    # Streams of their own keep cells the same whatever is asked of features, batches and dropout.
    *seeds, seed, seed_batch = np.random.SeedSequence(random_state).spawn(5 if lineages else 4)
    rng = np.random.default_rng(seed)
    cluster = rng.permutation(np.repeat(np.arange(n_clusters), _cells_per_cluster(n_obs, n_clusters, cluster_sizes)))
    manifold = _lineages(cluster, rng) if lineages else _sheet(cluster, n_clusters, rng)
    obs = pd.DataFrame(index=[f"cell_{i}" for i in range(n_obs)])
    obs["cell_type"] = pd.Categorical.from_codes(cluster, [f"type_{i}" for i in range(n_clusters)])
    if n_batches > 1:
        batch = np.random.default_rng(seed_batch).permutation(np.arange(n_obs) % n_batches)
        obs["batch"] = pd.Categorical.from_codes(batch, [f"batch_{i}" for i in range(n_batches)])
    return obs, manifold, seeds


def _sheet(cluster: NDArray[np.intp], n_clusters: int, rng: np.random.Generator) -> Floats:
    """Coordinates on a sheet that is bent in six dimensions, where clusters sit in two rows, ``(n_obs, 6)``."""
    rows = min(2, n_clusters)
    along, across = _SPREAD * rng.standard_normal((2, len(cluster)))
    angle = _ARC * (cluster // rows + 0.5 + along) / math.ceil(n_clusters / rows)
    height = cluster % rows - 0.5 * (rows - 1) + across
    cos, sin = np.cos(angle), np.sin(angle)
    return np.column_stack([cos, sin, 0.5 * np.sin(2 * angle), height, 0.5 * height * cos, 0.5 * height * sin])


def _lineages(cluster: NDArray[np.intp], rng: np.random.Generator) -> Floats:
    """Coordinates of lineages on an arc and along three bent axes, three columns each, ``(n_obs, 12)``.

    The types of a lineage differ along two of the axes, those of the next along the next two.
    """
    lineage, member = cluster % 3, cluster // 3
    places = np.zeros((3, len(cluster)))
    cells = np.arange(len(cluster))
    places[lineage, cells] = member % 2 - 0.5
    places[(lineage + 1) % 3, cells] = member // 2 - 0.5
    places += _SPREAD * rng.standard_normal(places.shape)
    angle = 2 * math.pi * (lineage + _SPREAD * rng.standard_normal(len(cluster))) / 3
    arc = np.column_stack([np.cos(angle), np.sin(angle), 0.5 * np.sin(2 * angle)])
    return np.hstack([arc, *(np.column_stack([x, np.sin(2 * x), np.cos(2 * x)]) for x in places)])


def _cells_per_cluster(n_obs: int, n_clusters: int, cluster_sizes: Sequence[float] | None) -> NDArray[np.intp]:
    """Split ``n_obs`` in proportion, each share rounded up or down (largest remainder)."""
    sizes = np.ones(n_clusters) if cluster_sizes is None else np.asarray(cluster_sizes, dtype=np.float64)
    if sizes.shape != (n_clusters,) or not np.isfinite(sizes).all() or (sizes <= 0).any():
        raise ValueError(f"`cluster_sizes` must hold {n_clusters} positive numbers, got {cluster_sizes!r}.")
    exact = n_obs * sizes / sizes.sum()
    counts = np.floor(exact).astype(np.intp)
    counts[np.argsort(counts - exact, kind="stable")[: n_obs - counts.sum()]] += 1
    if not counts.all():
        raise ValueError(f"`cluster_sizes` leaves a cluster without any of the {n_obs} cells; enlarge its share.")
    return counts


def _draw_modality(
    assay: _Assay, n_features: int, obs: pd.DataFrame, manifold: Floats, strength: float, dropout: float, seed: Seed
) -> AnnData:
    if not 0 <= strength < math.inf:
        raise ValueError(f"`batch_strength` must be finite and not negative, got {strength!r}.")
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must lie in [0, 1), got {dropout!r}.")
    rng, rng_batch, rng_counts, rng_dropout = (np.random.default_rng(child) for child in seed.spawn(4))
    base = rng.normal(*assay.log_mean, n_features)
    dispersion = assay.dispersion * rng.lognormal(0.0, 0.5, n_features)
    background = assay.background * rng.lognormal(0.0, 0.3, n_features)
    weights = rng.standard_normal((_N_PROGRAMS, n_features)) * (assay.signal / math.sqrt(_N_PROGRAMS))
    weights *= rng.random(n_features) < assay.informative
    visible = manifold * np.repeat(assay.view, 3)
    programs = visible @ rng.standard_normal((visible.shape[1], _N_PROGRAMS)) + rng.uniform(-1.0, 1.0, _N_PROGRAMS)
    batch = obs["batch"].cat.codes.to_numpy() if "batch" in obs else np.zeros(len(obs), dtype=np.intp)
    shift = strength * ("batch" in obs) * rng_batch.standard_normal((batch.max() + 1, n_features))
    library = rng_counts.lognormal(-0.5 * _LIBRARY_SD**2, _LIBRARY_SD, (len(obs), 1))
    blocks = []
    for start in range(0, len(obs), _CHUNK):
        rows = slice(start, start + _CHUNK)
        mean = np.exp(base + np.tanh(programs[rows]) @ weights) + background
        mean *= library[rows] * np.exp(shift[batch[rows]])
        counts = _negative_binomial(rng_counts, mean, dispersion)
        counts[rng_dropout.random(counts.shape) < dropout] = 0
        blocks.append(sp.csr_matrix(counts.astype(np.float32)))
    var = pd.DataFrame({"feature_types": assay.feature_type, "dispersion": dispersion})
    var.index = pd.Index([f"{assay.prefix}_{i}" for i in range(n_features)])
    return AnnData(sp.vstack(blocks, format="csr"), obs=obs[[]], var=var)


def _negative_binomial(rng: np.random.Generator, mean: Floats, dispersion: Floats) -> NDArray[np.int64]:
    """Poisson draws with gamma-distributed rates: variance ``mean + mean**2 / dispersion``."""
    return rng.poisson(rng.gamma(dispersion, mean / dispersion))
