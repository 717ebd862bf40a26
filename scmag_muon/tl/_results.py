"""What a trained network says of the cells of a run, and where it is written."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
from scipy.stats import entropy

from scmag_muon import _mudata
from scmag_muon._checks import check_choice
from scmag_muon._keys import Keys
from scmag_muon.model._confidence import confidence
from scmag_muon.tl._imputation import Imputer, counts_of_own_cells, imputation_scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

    from scmag_muon.manifold.fit import ManifoldFit
    from scmag_muon.model import SCMAG
    from scmag_muon.model._mapping import Mapped

logger = logging.getLogger(__name__)

Layers = Literal["all", "fitted", "denoised", "none"]


@dataclass(frozen=True)
class Results:
    """Arrays with a row for each cell; features are those that took part."""

    q: np.ndarray
    confidence: np.ndarray
    latent: np.ndarray
    reconstruction_latent: np.ndarray
    gate: pd.DataFrame
    denoised: dict[str, np.ndarray]
    imputation: dict[str, pd.DataFrame] = field(default_factory=dict)

    @property
    def labels(self) -> np.ndarray:
        """Cluster of each cell."""
        return self.q.argmax(axis=1)

    @property
    def clusters(self) -> np.ndarray:
        """Clusters that hold any cell."""
        return np.unique(self.labels)


def check_layers(asked: str | None) -> None:
    """Raise unless ``write_layers`` is one of its choices."""
    if asked is not None:
        check_choice("write_layers", asked, get_args(Layers))


def layers_to_write(asked: Layers | None, work: MuData, names: Sequence[str], manifold_key: str) -> Layers:
    """Those asked for; else all, or none where they are large, which a line of the log says."""
    if asked is not None:
        return asked
    if not _mudata.are_large(work, names, manifold_key):
        return "all"
    logger.info(
        "Fitted and denoised layers are not written: each would hold more than %.3g values. Ask for them with "
        'write_layers="all", "fitted" or "denoised" (--layers on the command line), or choose fewer features.',
        _mudata.LARGE,
    )
    return "none"


def collect(
    model: SCMAG,
    lean: MuData,
    work: MuData,
    names: Sequence[str],
    fit: ManifoldFit | None,
    *,
    manifold_key: str,
    denoised: bool = True,
) -> Results:
    """Ask the model for all that a run writes; with ``fit``, where cells lack modalities, also how well it imputes."""
    q, latent, reconstruction_latent, gate = model.of_run()
    labels = q.argmax(axis=1)
    return Results(
        q=q,
        confidence=confidence(np.asarray(work.obsm[Keys.joint_embedding(manifold_key)]), latent, labels),
        latent=latent,
        reconstruction_latent=reconstruction_latent,
        gate=_gate_by_cluster(gate, np.unique(labels), names),
        denoised=_denoised(model, work, names, fit) if denoised else {},
        imputation={} if fit is None else imputation_scores(model, lean, work, fit),
    )


def _denoised(model: SCMAG, work: MuData, names: Sequence[str], fit: ManifoldFit | None) -> dict[str, np.ndarray]:
    """Counts of all cells by modality; with ``fit``, imputed ones where a modality was not measured."""
    found = {name: model.get_normalized_expression(modality=name, return_numpy=True) for name in names}
    for name in names:
        if fit is not None and len(fit.modality(name).cells) < fit.n_obs:
            imputer = Imputer(counts_of_own_cells(work, fit, name), fit, name)
            found[name] = imputer.everywhere(found[name])
    return found


def write_cells(mdata: MuData, found: Results | Mapped, confidence: np.ndarray, *, key: str) -> None:
    """Write clusters, how sure they are, and coordinates."""
    clusters = found.q.argmax(axis=1)
    mdata.obs[key] = pd.Categorical(clusters.astype(str), categories=[str(of) for of in np.unique(clusters)])
    mdata.obs[Keys.confidence(key)] = confidence
    mdata.obs[Keys.entropy(key)] = entropy(found.q, axis=1)
    mdata.obsm[Keys.latent(key)] = found.latent
    mdata.obsm[Keys.reconstruction_latent(key)] = found.reconstruction_latent


def write(
    mdata: MuData,
    results: Results,
    names: Sequence[str],
    *,
    key: str,
    manifold_key: str,
    record: Any,
    leaves: np.ndarray,
) -> None:
    """Write the results of a run into the MuData that has its fit."""
    write_cells(mdata, results, results.confidence, key=key)
    mdata.obs[Keys.q(key)] = results.q.max(axis=1)
    mdata.obs[Keys.leaf(key)] = leaves
    complete = _mudata.is_complete(mdata, names)
    if not complete:
        mdata.obs[Keys.measured(key)] = _mudata.measured(mdata, names)
    for name in names:
        adata = mdata.mod[name]
        mask = adata.var[manifold_key].to_numpy()
        values = results.denoised.get(name)
        if values is not None:
            adata.layers[key] = _mudata.expand_features(_mudata.rows_of(values, mdata, name), mask)
        elif key in adata.layers:
            del adata.layers[key]
        adata.uns[key] = _mudata.make_record("scmag", {}, made_from={}, key=key)
        _forget_imputation(mdata, name, key)
        if values is not None and adata.n_obs < mdata.n_obs:
            mdata.obsm[Keys.imputed(key, name)] = pd.DataFrame(
                values, index=mdata.obs_names, columns=pd.Index(_mudata.column_names(adata.var_names))[mask]
            )
        if name in results.imputation:
            for score, of_features in results.imputation[name].items():
                adata.var[Keys.imputation(key, str(score))] = of_features.reindex(adata.var_names).to_numpy()
    if complete and Keys.measured(key) in mdata.obs:
        del mdata.obs[Keys.measured(key)]
    mdata.uns[key] = record


def _forget_imputation(mdata: MuData, name: str, key: str) -> None:
    if Keys.imputed(key, name) in mdata.obsm:
        del mdata.obsm[Keys.imputed(key, name)]
    for column in (Keys.imputation(key, score) for score in ("r", "rmse")):
        if column in mdata.mod[name].var:
            del mdata.mod[name].var[column]


def _gate_by_cluster(gate: np.ndarray, clusters: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """Mean gate of each cluster that holds any cell; columns are named after the modality whose code the dimension is (eq. 15)."""
    width = gate.shape[1] // len(names)
    columns = [f"{name} {i + 1}" for name in names for i in range(width)]
    index = pd.Index(clusters.astype(str), name="cluster")
    return pd.DataFrame(gate[clusters].astype(np.float32), index=index, columns=columns)
