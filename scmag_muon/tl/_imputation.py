"""How well counts of a modality are imputed where they are known but held out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scmag_muon import _mudata, _values

if TYPE_CHECKING:
    from mudata import MuData

    from scmag_muon._assays import ModalityKind
    from scmag_muon.manifold.fit import ManifoldFit
    from scmag_muon.model import SCMAG

_MOST_CELLS = 500
_FEWEST_CELLS = 10


def imputation_scores(model: SCMAG, lean: MuData, work: MuData, fit: ManifoldFit) -> dict[str, pd.DataFrame]:
    """For each modality that cells lack, how well it is imputed in cells that have it and another one.

    Up to 500 of these are placed and fitted anew by their other modalities alone, without themselves among their neighbours, and
    the network's imputed counts are compared with theirs. Both are normalised first. The decoders have seen these counts in
    training, so that scores of cells that lack the modality may be a little lower.

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
        held_out = _held_out(lean, work, fit, name, rows, model)
        imputed = model.get_normalized_expression(held_out, modality=name, return_numpy=True)
        counts = sp.csr_array(_own_counts(work, fit, name)[np.searchsorted(fit.modality(name).cells, rows)])
        kind = cast("ModalityKind", fit.modality(name).kind)
        found[name] = _scores(
            _dense(_values.normalize(sp.csr_array(imputed), kind)), _dense(_values.normalize(counts, kind))
        )
        found[name].index = pd.Index(fit.modality(name).features)
    return found


def _held_out(lean: MuData, work: MuData, fit: ManifoldFit, name: str, rows: np.ndarray, model: SCMAG) -> MuData:
    """The cells as the network would read them if they lacked the modality."""
    setup = model.registry_["setup_args"]
    others = [other for other in fit.names if other != name]
    present = {other: fit.present[rows, fit.names.index(other)] for other in others}
    own_counts = {each: _own_counts(work, fit, each) for each in fit.names}
    counts = {}
    for other in others:
        own = np.searchsorted(fit.modality(other).cells, rows[present[other]])
        counts[other] = sp.csr_array(own_counts[other][own])
    batches = np.asarray(fit.batches, dtype=object)[fit.codes[rows]] if fit.batches else None
    operators = fit.operators(fit.embed(counts, present=present, batches=batches))
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
    return held_out


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


def _own_counts(work: MuData, fit: ManifoldFit, name: str) -> sp.csr_array:
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
