"""Multi-kernel manifold fitting of a MuData (paper, section 2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp

from scmag_muon import _fingerprint, _mudata
from scmag_muon._checks import check_choice, check_number, check_random_state
from scmag_muon._cluster import blocks_on_cluster
from scmag_muon._keys import Keys, check_key
from scmag_muon._memory import give_back
from scmag_muon.manifold.fusion import fitted_view
from scmag_muon.manifold.joint import joint_space
from scmag_muon.manifold.modality import VIEWS, make_modality
from scmag_muon.manifold.scratch import only_columns, reordered
from scmag_muon.pp._features import select_features
from scmag_muon.pp._messages import keeps_data, warn_of_little_information, warn_of_single_cells
from scmag_muon.pp._neighborhoods import by_own, by_shared

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData

    from scmag_muon._assays import ModalityKind


Neighborhoods = Literal["shared", "own"]


@blocks_on_cluster()
def manifold_fit(
    mdata: MuData,
    *,
    modalities: Sequence[str] | None = None,
    kinds: Mapping[str, ModalityKind] | None = None,
    layer: str | Mapping[str, str | None] | None = None,
    round_counts: bool = False,
    mask_var: str | None = None,
    batch_key: str | None = None,
    n_neighbors: int = 15,
    n_pcs: int = 30,
    neighborhoods: Neighborhoods = "shared",
    fusion_penalty: float = 1.0,
    step: float = 1.0,
    key_added: str = Keys.MANIFOLD,
    keep_views: bool = False,
    write_layers: bool | None = None,
    random_state: int | None = 0,
    copy: bool = False,
) -> MuData | None:
    """Move each cell onto the manifold of its neighbours, in four views, and fuse the views (section 2.2).

    The counts of each modality are transformed in three ways (log, z-score, CLR; eq. 1-3), paired with kernels to four
    views (eq. 4), moved to the mean of the cells that share most neighbours with each cell (eq. 7-10), and summed with
    weights on the simplex (eq. 11-12).

    Parameters
    ----------
    mdata
        Raw counts of one or more modalities. Cells may lack modalities (``mdata.obsmap``). Rows of zeros are taken as
        measured; where many cells have them, a warning asks. Of a file opened with ``mudata.read_h5mu(path, backed="r")`` blocks
        of cells are read, and where a column of ``var`` chooses features their counts alone are kept in memory.
    modalities
        Names of the modalities, the main one first; by default all that are RNA, proteins or ATAC, in this order.
    kinds
        What modalities measure, ``"rna"``, ``"protein"`` or ``"atac"`` by modality, for example ``{"mod2": "atac"}``. The
        others are recognised by ``var["feature_types"]``, names of features and modalities, and the number of features; a line
        of the log says as what, and why.
    layer
        Layer of the raw counts, one for all or by modality; ``None`` is ``.X``.
    round_counts
        Round counts with decimals, as ambient correction (SoupX, CellBender) and EM (alevin, kallisto) leave them. Normalised
        values are refused all the same.
    mask_var
        Boolean column of ``var`` that chooses features, for each modality that has it; else ``highly_variable``; else up to
        4,000 highly variable genes or 10,000 peaks are chosen.
    batch_key
        Column of batches in ``mdata.obs`` or in a modality's ``obs``: where each batch lies, whichever types it holds,
        is taken off the components before neighbours are sought, and the fitted layers are standardised within each batch.
    n_neighbors
        p, the size of the neighbour lists and of the shared neighbourhoods, the cell included. 1 leaves cells where they are.
    n_pcs
        Principal components of each modality in which neighbours are found.
    neighborhoods
        ``"shared"``: all modalities are fitted by the same neighbourhoods, found in their joint space, in which each weighs
        as much as its neighbourhoods replicate between two random halves of its counts, and less where none of them are
        any other's. ``"own"``: each view of each modality by its own neighbourhoods, as in the paper. See Notes.
    fusion_penalty
        λ of eq. 12, from 1e-6 to 1e6.
    step
        How far a cell moves to the mean of its shared neighbourhood, in (0, 1].
    key_added
        Name under which results are written.
    keep_views
        Also keep the four fitted views, as ``mod.layers[f"{key_added}_{view}"]``.
    write_layers
        Write the fitted layers, of one value for each cell and feature that takes part. ``None`` writes up to 2e8 values in all,
        and no layers above, which a line of the log says. Without layers the stored fit gives their rows:
        :class:`~scmag_muon.model.SCMAG` computes those of each minibatch from the counts. ``neighborhoods="own"`` leaves nothing but
        layers.
    random_state
        Seed of the count splitting and of the principal components' start. Counts are split by the cells' places, so cells in another
        order get modality weights that differ a little. ``None`` draws one, which is recorded.
    copy
        Return a changed copy and leave ``mdata`` as it is.

    Returns
    -------
    ``None``, or the changed copy if ``copy=True``. Written:

    ``mod.layers[key_added]``
        Fused fitted data, standardised per feature (unitless), float32, ``(n_obs, n_vars)``, zeros at features that take no part.
        Dense, 4 bytes a value, where more than half of the features take part; else sparse, 8 bytes for each cell and
        feature that does.
    ``mod.var[key_added]``
        Which features took part.
    ``mod.uns[key_added]``
        ``params``, ``kind`` (what the modality was taken for), ``view_weights`` (α of eq. 11), ``replication`` (0 to 1), ``concordance`` (0 to 1, with the
        modality that it agrees with best; not a number where one does not replicate) and ``modality_weight``.
    ``mdata.obsm[f"X_{key_added}"]``, ``mdata.obsm[f"X_{key_added}_unfitted"]``
        Joint space of all modalities after and before fitting, ready for ``scanpy.pp.neighbors(use_rep=...)``.

    Raises
    ------
    ValueError
        Where cells are not paired, counts are no counts, or an argument is out of range; ``mdata`` is then untouched.
    KeyError
        Where a modality, layer or column is not there.
    TypeError
        Where ``mdata`` is no MuData.
    OSError
        Where counts lie in a file that can't be read.

    Notes
    -----
    The paper fits each view by its own neighbours. Where a modality holds little information these are chance neighbours,
    and averaging over them makes clusters out of noise. Shared, weighted
    neighbourhoods don't do that, which is why they are the default; ``neighborhoods="own"`` is the paper's.

    Weights of the views (eq. 11-12) rest on inner products per entry; of more than a thousand features so many, spread evenly
    over all, stand for the rest.

    The density of eq. 9 has its maximum at the mean of the neighbourhood, always, so fitting is a sparse linear operator.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=150, n_vars=80, n_prot=12, n_clusters=3)
    >>> smm.pp.manifold_fit(mdata)
    >>> mdata["rna"].layers["manifold"].shape
    (150, 80)
    """
    n_neighbors = check_number("n_neighbors", n_neighbors, integer=True, low=1)
    n_pcs = check_number("n_pcs", n_pcs, integer=True, low=1)
    fusion_penalty = check_number("fusion_penalty", fusion_penalty, low=1e-6, high=1e6)
    step = check_number("step", step, above=0, high=1)
    random_state = check_random_state(random_state)
    check_choice("neighborhoods", neighborhoods, ("shared", "own"))
    if write_layers is False and neighborhoods == "own":
        raise ValueError('`write_layers` must not be False with neighborhoods="own", which leaves nothing but layers.')
    names = _mudata.modality_names(mdata, modalities, kinds)
    cells = _mudata.check_cells(mdata, names)
    check_key(key_added, argument="key_added")
    _mudata.check_free_fit(mdata, names, key_added, argument="key_added", views=VIEWS if keep_views else ())
    n_neighbors = min(n_neighbors, mdata.n_obs)
    batches = _mudata.get_batches(mdata, batch_key)
    warn_of_single_cells(batches, batch_key)
    if mask_var is not None and not any(mask_var in mdata.mod[name].var for name in names):
        raise KeyError(f"mask_var={mask_var!r} names no column of var in any of the modalities {list(names)}.")
    of_kind = _mudata.kinds_of(mdata, names, kinds)
    _mudata.check_layer(mdata, layer, names)
    counts = {
        name: _mudata.get_counts(
            mdata.mod[name],
            modality=name,
            layer=_mudata.layer_of(layer, name),
            round_counts=round_counts,
            features=_mudata.features_to_read(mdata.mod[name], name, mask_var, key_added),
        )
        for name in names
    }
    _mudata.warn_of_unmeasured(mdata, counts, cells, layer)
    masks, prepared = {}, []
    for name in names:
        kind = of_kind[name]
        masks[name] = select_features(mdata.mod[name], counts[name], modality=name, kind=kind, mask_var=mask_var)
        modality = make_modality(
            name,
            kind,
            _ordered(only_columns(counts.pop(name), masks[name]), np.argsort(cells[name])),
            features=mdata.mod[name].var_names[masks[name]].to_numpy(),
            main=_mudata.ASSAYS[kind].main,
            scales=_mudata.ASSAYS[kind].scales,
            cells=np.sort(cells[name]),
        )
        prepared.append(modality)

    codes = None if batches is None else np.asarray(batches.codes, dtype=np.int64)
    categories = [] if batches is None else list(batches.categories)
    joint = joint_space(
        prepared, mdata.n_obs, n_pcs=n_pcs, batches=codes, n_batches=len(categories), random_state=random_state
    )
    warn_of_little_information(prepared, joint)
    keep_data = keeps_data(prepared, write_layers) if neighborhoods == "shared" else True
    if not keep_data:  # of small data it costs more time than it saves memory
        give_back()
    params = {
        "modalities": list(names),
        "kinds": [of_kind[name] for name in names],
        "layer": layer,
        "round_counts": round_counts,
        "mask_var": mask_var,
        "batch_key": batch_key,
        "n_neighbors": n_neighbors,
        "n_pcs": n_pcs,
        "neighborhoods": neighborhoods,
        "fusion_penalty": fusion_penalty,
        "step": step,
        "random_state": random_state,
    }
    if neighborhoods == "shared":
        results = by_shared(
            prepared,
            joint,
            batches=categories,
            codes=codes,
            n_neighbors=n_neighbors,
            step=step,
            fusion_penalty=fusion_penalty,
            keep_data=keep_data,
        )
    else:
        results = by_own(
            prepared,
            joint,
            codes=codes,
            n_neighbors=n_neighbors,
            n_pcs=n_pcs,
            step=step,
            fusion_penalty=fusion_penalty,
            random_state=random_state,
        )
    layers = {name: {key_added: results.layers[name]} if name in results.layers else {} for name in names}
    if keep_views:
        for modality in prepared:
            views = modality.views()
            for view, (transform, _), operator in zip(
                VIEWS, VIEWS.values(), results.operators[modality.name], strict=True
            ):
                layers[modality.name][Keys.view_layer(key_added, view)] = fitted_view(views[transform], operator)

    if copy:
        mdata = _mudata.copy_of(mdata)
    _mudata.unview(mdata)
    for i, modality in enumerate(prepared):
        adata, mask = mdata.mod[modality.name], masks[modality.name]
        rows = np.argsort(np.argsort(cells[modality.name]))
        if key_added in adata.layers:
            del adata.layers[key_added]
        for layer_name, values in layers[modality.name].items():
            adata.layers[layer_name] = _mudata.expand_features(_ordered(values, rows), mask)
        adata.var[key_added] = mask
        made_from = {
            "cells": _fingerprint.of_cells(adata.obs_names),
            "counts": _fingerprint.of_counts(_ordered(modality.counts, rows), adata.obs_names, adata.var_names[mask]),
            "batches": None if batches is None else _fingerprint.of_labels(mdata.obs_names, batches),
        }
        contents = {
            "params": params,
            "kind": modality.kind,
            "view_weights": dict(zip(VIEWS, results.view_weights[modality.name].tolist(), strict=True)),
            "replication": float(joint.replications[i]),
            "concordance": float(joint.concordances[i]),
            "modality_weight": float(joint.weights[i]),
        }
        adata.uns[key_added] = _mudata.make_record("manifold_fit", contents, made_from=made_from)
    mdata.obsm[Keys.joint_embedding(key_added)] = joint.values
    mdata.obsm[Keys.fitted_embedding(key_added)] = results.joint
    _mudata.drop_fit(mdata, key_added)
    if results.fit is not None:
        _mudata.write_fit(mdata, results.fit, key_added)
    if not keep_data:
        give_back()
    return mdata if copy else None


def _ordered(x: Any, rows: np.ndarray) -> Any:
    """The rows of ``x`` in an order; itself where that is its own."""
    if np.array_equal(rows, np.arange(len(rows))):
        return x
    return reordered(x, rows) if isinstance(x, sp.csr_array) else x[rows]
