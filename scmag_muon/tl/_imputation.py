"""Counts of a modality in cells that lack it, and how well they are imputed where they are known but held out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scmag_muon import _mudata, _values
from scmag_muon.manifold.ridge import fit_ridge

if TYPE_CHECKING:
    from mudata import MuData

    from scmag_muon._assays import ModalityKind
    from scmag_muon.manifold.fit import ManifoldFit
    from scmag_muon.model import SCMAG

_MOST_CELLS = 500
_FEWEST_CELLS = 10
_ROWS = 1024  # at a time
_GUESSES = 3


class Imputer:
    """Counts of a modality where it was not measured, from three guesses of the logarithms.

    The three are the network's mean; the mean of the cells over which fitting takes the mean; and a ridge regression on the
    joint space of the other modalities. None of them is best everywhere, and their mean is close to the best or better. A mean of logarithms
    is what a typical cell has; the mean of counts, which the network gives, is led by a few high ones.

    Parameters
    ----------
    counts
        Raw counts of the modality in the reference cells that have it, in the order of the fit, CSR, ``(n_own, n_vars)``.
    fit
        What fitting learnt.
    name
        The modality.
    joint
        Coordinates of the reference's cells in the joint space, ``(n_obs, n_components)``; by default the fit's.
    from_itself
        The regression is on the modality's own coordinates too, for cells in which some of its features were measured. ``joint``
        must rest on these features alone.
    """

    def __init__(
        self,
        counts: sp.csr_array,
        fit: ManifoldFit,
        name: str,
        *,
        joint: np.ndarray | None = None,
        from_itself: bool = False,
    ) -> None:
        self._fit, self._name = fit, name
        self._blocks = [i for i, other in enumerate(fit.names) if from_itself or other != name]
        self._cells = fit.modality(name).cells
        kind = cast("ModalityKind", fit.modality(name).kind)
        values = _values.normalize(counts, kind)
        self._values = sp.csr_array(values) if sp.issparse(values) else np.asarray(values)
        totals = np.asarray(counts.sum(axis=1)).ravel()
        self._median = float(np.median(totals[totals > 0])) if _mudata.ASSAYS[kind].scales and totals.any() else None
        shared = fit.present[self._cells][:, self._blocks].any(axis=1)
        joint = fit.joint if joint is None else joint
        self._ridge = fit_ridge(self._coordinates(joint[self._cells[shared]]), self._values[shared])

    def everywhere(self, decoded: np.ndarray) -> np.ndarray:
        """Counts of all cells, ``(n_obs, n_vars)``: the network's, and imputed ones where the modality was not measured."""
        fit = self._fit
        lacking = np.setdiff1d(np.arange(fit.n_obs), self._cells)
        result = decoded.copy()
        result[lacking] = self(decoded[lacking], fit.operator_rows(self._name, lacking)["rbf"], fit.joint[lacking])
        return result

    def __call__(
        self, decoded: np.ndarray, operator: sp.csr_array, joint: np.ndarray, *, known: np.ndarray | None = None
    ) -> np.ndarray:
        """Imputed counts, float32, ``(n_rows, n_vars)``.

        Parameters
        ----------
        decoded
            The network's mean, ``(n_rows, n_vars)``.
        operator
            Which cells each is fitted by, ``(n_rows, n_obs)``.
        joint
            Coordinates in the joint space, ``(n_rows, n_components)``.
        known
            Numbers of the rows among the reference cells, where these have the modality: their own counts are left out.
        """
        result = np.empty_like(decoded)
        near = sp.csr_array(operator[:, self._cells])
        for start in range(0, len(decoded), _ROWS):
            rows = slice(start, start + _ROWS)
            own = None if known is None else np.searchsorted(self._cells, known[rows])
            x = self._coordinates(joint[rows])
            linear = (
                self._ridge.predict(x) if own is None else self._ridge.predict_without(x, _dense(self._values[own]))
            )
            sizes = self._sizes(decoded[rows])
            logs = np.log1p(decoded[rows] / sizes) + _dense(near[rows] @ self._values) + linear
            result[rows] = np.expm1(np.maximum(logs / _GUESSES, 0)) * sizes
        return result

    def _coordinates(self, joint: np.ndarray) -> np.ndarray:
        blocks = self._fit.blocks(joint)
        return np.hstack([blocks[i] for i in self._blocks]).astype(np.float64)

    def _sizes(self, counts: np.ndarray) -> np.ndarray:
        """By what normalising divides the counts of each cell, ``(n_rows, 1)``."""
        if self._median is None:
            return np.exp(np.log1p(counts).mean(axis=1, keepdims=True))
        return np.maximum(counts.sum(axis=1, keepdims=True), 1e-12) / self._median


def imputation_scores(model: SCMAG, lean: MuData, work: MuData, fit: ManifoldFit) -> dict[str, pd.DataFrame]:
    """For each modality that cells lack, how well it is imputed in cells that have it and another one.

    Up to 500 of these are placed and fitted anew by their other modalities alone, without themselves among their neighbours and in
    the regression, and imputed counts are compared with theirs. Both are normalised first. The decoders have seen these counts
    in training, so that scores of cells that lack the modality may be a little lower.

    Returns
    -------
    For each such modality a row for each of its fitted features: ``"r"``, Pearson correlation over cells, missing where either is
    constant; ``"rmse"``, root of the mean squared error of the logarithms.
    """
    found = {}
    for i, name in enumerate(fit.names):
        both = np.flatnonzero(fit.present[:, i] & (fit.present.sum(axis=1) > 1))
        if fit.present[:, i].all() or len(both) < _FEWEST_CELLS:
            continue
        rows = np.sort(np.random.default_rng(0).permutation(both)[:_MOST_CELLS])
        held_out, joint, operator = _held_out(lean, work, fit, name, rows, model)
        decoded = np.asarray(model.get_normalized_expression(held_out, modality=name, return_numpy=True))
        own_counts = counts_of_own_cells(work, fit, name)
        imputed = Imputer(own_counts, fit, name)(decoded, operator, joint, known=rows)
        counts = sp.csr_array(own_counts[np.searchsorted(fit.modality(name).cells, rows)])
        kind = cast("ModalityKind", fit.modality(name).kind)
        found[name] = _scores(
            _dense(_values.normalize(sp.csr_array(imputed), kind)), _dense(_values.normalize(counts, kind))
        )
        found[name].index = pd.Index(fit.modality(name).features)
    return found


def _held_out(
    lean: MuData, work: MuData, fit: ManifoldFit, name: str, rows: np.ndarray, model: SCMAG
) -> tuple[MuData, np.ndarray, sp.csr_array]:
    """The cells as the network would read them if they lacked the modality, their joint space, and by which cells it is fitted."""
    setup = model.registry_["setup_args"]
    others = [other for other in fit.names if other != name]
    present = {other: fit.present[rows, fit.names.index(other)] for other in others}
    own_counts = {each: counts_of_own_cells(work, fit, each) for each in fit.names}
    counts = {}
    for other in others:
        own = np.searchsorted(fit.modality(other).cells, rows[present[other]])
        counts[other] = sp.csr_array(own_counts[other][own])
    batches = np.asarray(fit.batches, dtype=object)[fit.codes[rows]] if fit.batches else None
    joint = fit.embed(counts, present=present, batches=batches)
    operators = fit.operators(joint)
    mods = {}
    for other in fit.names:
        adata = lean.mod[other]
        of_modality = {kernel: without_self(operator, rows) for kernel, operator in operators[other].items()}
        codes = fit.codes[rows] if fit.batches else None
        layers = {
            setup["input_layer"]: fit.fitted(other, of_modality, counts=own_counts[other], codes=codes),
        }
        zeros = sp.csr_matrix((len(rows), adata.n_vars), dtype=np.float32)
        place = _mudata.layer_of(setup["layer"], other)
        layers |= {} if place is None else {place: zeros}
        obs = lean.obs[[]].iloc[rows]
        mods[other] = AnnData(zeros if place is None else None, obs=obs, var=adata.var, layers=layers, uns=adata.uns)
    held_out = _mudata.make_mudata(mods, lean.obs.iloc[rows])
    held_out.obsm[_mudata.PRESENT] = np.column_stack(
        [present.get(other, np.zeros(len(rows), bool)) for other in fit.names]
    )
    return held_out, joint, without_self(operators[name]["rbf"], rows)


def without_self(operator: sp.csr_array, rows: np.ndarray) -> sp.csr_array:
    """Operator rows with what each gives to the cell itself taken off and the rest scaled to sum to 1 again.

    A row that gives all to the cell itself keeps it.
    """
    data = operator.data.copy()
    row = np.repeat(np.arange(len(rows)), np.diff(operator.indptr))
    own = operator.indices == rows[row]
    rest = np.bincount(row[~own], data[~own], minlength=len(rows))
    data[own & (rest[row] > 0)] = 0
    data /= np.where(rest > 0, rest, 1)[row]
    return sp.csr_array((data, operator.indices, operator.indptr), shape=operator.shape)


def counts_of_own_cells(work: MuData, fit: ManifoldFit, name: str) -> sp.csr_array:
    """Counts of the fit's features in the cells that have the modality, in the order of the fit."""
    adata = work.mod[name]
    columns = adata.var_names.get_indexer(pd.Index(fit.modality(name).features))
    return sp.csr_array(adata.X[:, columns])


def _dense(values: Any) -> np.ndarray:
    return np.asarray(values.toarray() if sp.issparse(values) else values, dtype=np.float64)


def _scores(imputed: np.ndarray, known: np.ndarray) -> pd.DataFrame:
    a, b = imputed - imputed.mean(axis=0), known - known.mean(axis=0)
    scale = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    r = np.divide((a * b).sum(axis=0), scale, out=np.full(len(scale), np.nan), where=scale > 0)
    return pd.DataFrame({"r": r, "rmse": np.sqrt(((imputed - known) ** 2).mean(axis=0))})
