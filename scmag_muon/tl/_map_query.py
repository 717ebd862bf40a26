"""New cells onto a trained reference."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, get_args

import numpy as np

from scmag_muon import _fingerprint, _mudata
from scmag_muon._checks import check_choice
from scmag_muon._keys import Keys, check_key
from scmag_muon._versions import versions_of
from scmag_muon.manifold.threads import in_threads
from scmag_muon.model import SCMAG
from scmag_muon.model._mapping import mapped
from scmag_muon.tl._derived import renew_markers
from scmag_muon.tl._query_reference import map_of, model_and_reference
from scmag_muon.tl._query_results import (
    QueryLayers,
    check_columns,
    forget_earlier,
    frames,
    impute,
    is_denoised,
    tell_batches,
    tell_modalities,
    write,
    write_labels,
)
from scmag_muon.tl._transfer import compared, confidence_of, projected, transferred, unlikeness_of

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from mudata import MuData


logger = logging.getLogger(__name__)

_VERSIONS_OF = ("scmag-muon", "scvi-tools", "torch", "mudata", "anndata", "scikit-learn")


def map_query(
    mdata: MuData,
    reference: str | os.PathLike[str] | SCMAG | MuData,
    *,
    model: SCMAG | None = None,
    labels: str | Sequence[str] | None = None,
    basis: str | None = None,
    layer: str | Mapping[str, str | None] | None = None,
    round_counts: bool = False,
    batch_key: str | None = None,
    fine_tune: bool = False,
    max_epochs: int = 100,
    random_state: int | None = 0,
    key_added: str = Keys.SCMAG,
    accelerator: str = "auto",
    copy: bool = False,
    write_layers: QueryLayers | None = None,
) -> MuData | None:
    """Clusters, coordinates and labels of new cells, from a reference that was trained before.

    Nothing is trained, unless ``fine_tune``, and then only weights of the query's own batches.
    Cells are placed in the joint space of the reference's manifold fit, fitted by their neighbours among the *reference's* cells,
    and embedded by its network. The reference stays as it is, and where a cell lands does not depend on the other cells of the
    query, unless ``batch_key`` is given.

    Parameters
    ----------
    mdata
        Raw counts of one or more of the reference's modalities, under the same names. Cells may lack modalities. Features are
        found by name. Those that were not measured are taken to be what the others let expect, and a warning counts them.
    reference
        The folder of :meth:`scmag_muon.model.SCMAG.save`; or a trained :class:`~scmag_muon.model.SCMAG`, as ``tl.scmag(...,
        return_model=True)`` returns it; or the MuData that it was trained on, for its labels, together with ``model``.
    model
        The model, where ``reference`` is a MuData, which holds no network.
    labels
        Columns of the reference to transfer, such as ``"cell_type"``. A model that ``tl.scmag`` returned knows the columns of text of
        its MuData, a folder those and what :meth:`~scmag_muon.model.SCMAG.save` was given. Missing labels and ``"unknown"`` are
        not transferred.
    basis
        Map of the reference, such as ``"X_umap"``, on which to put each cell of the query among its nearest reference cells, for
        :func:`scmag_muon.pl.query`. ``reference`` is then a MuData that has it.
    layer
        Layer of the raw counts, one for all or by modality; ``None`` is ``.X``.
    round_counts
        Round counts with decimals, as for :func:`~scmag_muon.tl.scmag`.
    batch_key
        Column of batches. A batch that the reference does not know is moved as a whole by the shift that its groups of cells have in
        common against the same groups of the reference, if there is one that is surer than chance (20 cells or more). Its own mean
        plays no part, so a batch may hold sorted cells of one type. Give it where depth, staining or chemistry differ, and where new
        types are sought.
    fine_tune
        Learn decoder weights for batches that the reference does not know (:meth:`scmag_muon.model.SCMAG.load_query_data`), so that
        denoised and imputed counts are of the query's own chemistry and staining. Coordinates, clusters and labels are the same
        with and without.
    max_epochs, random_state
        Of ``fine_tune``.
    key_added
        Name under which results are written.
    accelerator
        ``"auto"``, ``"cpu"``, ``"gpu"``, as in Lightning, where ``reference`` is a folder.
    copy
        Return a changed copy and leave ``mdata`` as it is.
    write_layers
        ``"denoised"`` writes denoised and imputed counts, ``"none"`` does not compute them, nor train for them. ``None`` writes them
        where they have up to 2e8 values, as :func:`~scmag_muon.tl.scmag` does, and a line of the log says where it does not.

    Returns
    -------
    ``None``, or the changed copy if ``copy=True``. Written:

    ``mdata.obs[key_added]``
        Cluster of the reference, categorical.
    ``mdata.obs[f"{key_added}_confidence"]``
        How likely the cell is in the right cluster, 0 to 1: the share of its up to 50 nearest cells of the reference that are in the
        same cluster, in the joint space before manifold fitting and training.
    ``mdata.obs[f"{key_added}_q"]``, ``mdata.obs[f"{key_added}_entropy"]``
        Soft assignment of the cell to its cluster (eq. 31), 0 to 1, and the assignment's entropy in nats.
    ``mdata.obsm[f"X_{key_added}"]``, ``mdata.obsm[f"X_{key_added}_recon"]``
        Zc and Zr in the reference's spaces, float32, ``(n_obs, 16 * n_modalities)``.
    ``mod.layers[key_added]``
        Denoised counts at the median library size of the reference, float32, ``(n_obs, n_vars)``, zeros at features that the reference
        does not have; sparse where these are more than half.
    ``mdata.obsm[f"{key_added}_imputed_{modality}"]``
        For each modality of the reference of which cells or features lack: denoised counts of all cells and all of the reference's
        features, a data frame. What was not measured is imputed: the mean, as logarithms, of what the network says, of the
        reference's cells by which the cell is fitted, and of a ridge regression on the coordinates of what was measured.
    ``mdata.obs[f"{key_added}_measured"]``
        Where cells lack modalities: what each has, as ``"rna+prot"``.
    ``mdata.obs[f"{key_added}_unlikeness"]``
        How far a cell lies from the reference's cells and from each of its clusters; 1 is exceeded by one in a hundred of the
        reference's own. With ``batch_key``, of a cell and its 5 nearest in its batch.
    ``mdata.obs[f"{key_added}_{column}"]``, ``mdata.obs[f"{key_added}_{column}_unlikeness"]``
        For each of ``labels``: the label, categorical, and how far a cell lies from the reference's cells that have a label and from
        each of the labels; the label is ``"unknown"`` where this is above 1.
    ``mdata.obs[f"{key_added}_{column}_probability"]``, ``mdata.obsm[f"{key_added}_{column}_probabilities"]``
        Probability of the most probable label, and of all, a data frame, given that the cell is of one of them. Calibrated on the
        reference's own cells, each classified without itself.
    ``mdata.obsm[f"X_{key_added}_umap"]``
        With ``basis="X_umap"``: the query on the reference's map, ``(n_obs, 2)``.
    ``mdata.uns[key_added]``
        ``params``, ``n_clusters``, ``n_reference``, ``shared_features`` and ``reference_features`` (by modality), ``versions``.

    What an earlier call left under the same name goes: labels, coordinates on a map, and what was made of other clusters.

    Raises
    ------
    ValueError
        Where no modality of the reference is there or one shares less than a quarter of its features, counts are no counts, the
        model holds no fit that can place cells, or labels would take the place of another result; ``mdata`` is then untouched.
    KeyError
        Where a column of labels, a layer or a batch column is not there.
    TypeError
        Where ``mdata`` is no MuData or ``reference`` none of the three.
    FileNotFoundError
        Where there is no such folder.
    RuntimeError
        Where the model has not been trained.

    Notes
    -----
    Labels and unlikeness rest on the principal components of the modalities that a cell has, not on what is imputed for it.
    Where the query lacks features, the reference's cells are compared by the others alone. ``scmag_muon.transfer`` has the two as
    plain functions. Without ``fine_tune``, cells of a batch that the reference does not know are decoded in its largest batch.

    Examples
    --------
    >>> import mudata
    >>> import scmag_muon as smm
    >>> _ = mudata.set_options(pull_on_update=False)  # as mudata 0.4 has it
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=300, n_vars=200, n_prot=20, n_clusters=3)
    >>> reference, query = mdata[:250].copy(), mdata[250:].copy()
    >>> model = smm.tl.scmag(
    ...     reference, n_clusters=3, max_epochs_pretrain=4, max_epochs=2, progress_bar=False, return_model=True
    ... )
    >>> smm.tl.map_query(query, model, labels="cell_type")
    >>> query.obsm["X_scmag"].shape
    (50, 32)
    >>> bool((query.obs["scmag_cell_type"] == query.obs["cell_type"]).mean() > 0.8)
    True
    """
    check_key(key_added, argument="key_added")
    if write_layers is not None:
        check_choice("write_layers", write_layers, get_args(QueryLayers))
    _mudata.check_mudata(mdata)
    columns = [labels] if isinstance(labels, str) else list(dict.fromkeys(labels or ()))
    check_columns(columns, key_added)
    model, of_cells = model_and_reference(reference, model, columns, accelerator)
    given = {column: of_cells.labels(column) for column in columns}
    query = _mudata.read_query(mdata, of_cells.fit, layer=layer, round_counts=round_counts, batch_key=batch_key)
    names = list(query.counts)
    target = None if basis is None else map_of(reference, basis, of_cells)
    _mudata.check_free_query(mdata, names, key_added, columns)
    tell_modalities(names, of_cells.fit.names)
    tell_batches(mdata, model, batch_key)
    denoised = is_denoised(write_layers, model, mdata.n_obs)
    decoder = model
    if fine_tune and denoised:
        decoder = SCMAG.load_query_data(mdata, model, batch_key=batch_key, layer=layer, round_counts=round_counts)
        decoder.train(max_epochs=max_epochs, random_state=random_state)
    found = mapped(decoder, of_cells, query, denoised=denoised)
    impute(found, of_cells, query, model.get_var_names())
    patterns = compared(of_cells.fit, found, query.present)
    confidence = confidence_of(of_cells, found, patterns)
    groups: dict[str | None, np.ndarray] = {None: np.asarray(of_cells.clusters)}
    groups.update(given)
    alike = partial(unlikeness_of, patterns, samples=query.batches)
    unlike = dict(zip(groups, in_threads(alike, groups.values()), strict=True))
    carried = {column: transferred(patterns, values) for column, values in given.items()}
    on_map = None if target is None else projected(patterns, target)
    record = {
        "params": {
            "modalities": names,
            "kinds": [of_cells.fit.modality(name).kind for name in names],
            "batch_key": batch_key,
            "layer": layer,
            "round_counts": round_counts,
            "labels": columns,
            "fine_tune": fine_tune,
            "basis": basis,
        },
        "n_clusters": found.q.shape[1],
        "n_reference": of_cells.fit.n_obs,
        "shared_features": {name: int(measured.sum()) for name, measured in query.measured.items()},
        "reference_features": {modality.name: len(modality.features) for modality in of_cells.fit.modalities},
        "versions": versions_of(*_VERSIONS_OF),
    }
    made_from = {"cells": _fingerprint.of_cells(mdata.obs_names)}
    layers = frames(mdata, model.get_var_names(), query, found, key_added)
    if copy:
        mdata = _mudata.copy_of(mdata)
    _mudata.unview(mdata)
    tables = forget_earlier(mdata, found, key_added)
    write(mdata, found, confidence, layers, of_cells.fit.names, key_added)
    if basis is not None and on_map is not None:
        mdata.obsm[Keys.projected(key_added, basis)] = on_map
    write_labels(mdata, carried, unlike, key_added)
    if not query.present.all():
        mdata.obs[Keys.measured(key_added)] = _mudata.measured(mdata, names)
    mdata.uns[key_added] = _mudata.make_record("map_query", record, made_from=made_from, key=key_added)
    renew_markers(mdata, tables)
    return mdata if copy else None
