"""The whole run in one call: fit, train, cluster, write back."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from scmag_muon import _fingerprint, _mudata
from scmag_muon._checks import check_number, check_random_state
from scmag_muon._cluster import blocks_on_cluster
from scmag_muon._keys import Keys
from scmag_muon._made_from import of_counts
from scmag_muon._memory import give_back
from scmag_muon._versions import versions_of
from scmag_muon.model import SCMAG
from scmag_muon.model._checkpoint import check_folder
from scmag_muon.model._clustering import AGREE, DOUBTFUL
from scmag_muon.tl._arguments import ABLATIONS, check_further, check_keys, check_paper
from scmag_muon.tl._cut import check_levels, write_levels
from scmag_muon.tl._derived import forget_derived, older_maps, renew_markers, same_run
from scmag_muon.tl._epochs import most_epochs
from scmag_muon.tl._fit import Asked, features_of_run, fingerprint_of_batches, fit_or_reuse, is_fitted
from scmag_muon.tl._levels import grow_levels, space_of_leaves, support, to_record
from scmag_muon.tl._progress import stages
from scmag_muon.tl._results import Layers, check_layers, collect, layers_to_write, write
from scmag_muon.tl._start import initial_clusters

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Mapping, Sequence

    from mudata import MuData

    from scmag_muon._assays import ModalityKind

logger = logging.getLogger(__name__)

_VERSIONS_OF = ("scmag-muon", "scvi-tools", "torch", "mudata", "anndata", "scanpy")
_BEFORE_TRAINING = ("counts", "manifold fitting", "communities")
_PAPER_PLAN: dict[str, Any] = {"label_tolerance": 0.0, "cluster_patience": None, "lr": 1e-3, "cluster_lr": 1e-3}


@blocks_on_cluster()
def scmag(
    mdata: MuData,
    *,
    n_clusters: int | Sequence[int] | None = None,
    modalities: Sequence[str] | None = None,
    kinds: Mapping[str, ModalityKind] | None = None,
    batch_key: str | None = None,
    layer: str | Mapping[str, str | None] | None = None,
    round_counts: bool = False,
    mask_var: str | None = None,
    settings: Literal["default", "paper"] = "default",
    manifold_key: str = Keys.MANIFOLD,
    key_added: str = Keys.SCMAG,
    max_epochs_pretrain: int | None = None,
    max_epochs: int | None = None,
    batch_size: int = 256,
    accelerator: str = "auto",
    precision: Literal["32-true", "bf16-mixed"] = "32-true",
    random_state: int | None = 0,
    progress_bar: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
    ablate: Collection[Literal["manifold", "two_stage", "gate"]] = (),
    return_model: bool = False,
    copy: bool = False,
    write_layers: Layers | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    plan_kwargs: Mapping[str, Any] | None = None,
    trainer_kwargs: Mapping[str, Any] | None = None,
) -> MuData | SCMAG | tuple[MuData, SCMAG] | None:
    """Clusters of cells from all their modalities, from raw counts, in one call.

    Runs :func:`scmag_muon.pp.manifold_fit` where there is no fit of these cells, counts and arguments, trains :class:`scmag_muon.model.SCMAG` and writes
    what it learned.

    Parameters
    ----------
    mdata
        Raw counts of one or more modalities. Cells may lack modalities (``mdata.obsmap``).
    n_clusters
        Number of clusters K. ``None`` takes the Leiden communities of the joint space before fitting, and their number, at that
        resolution from 0.5 to 1 whose communities agree best with those at the others (:func:`~scmag_muon.tl.n_clusters`); the
        true number can't be known from the data alone. With ``batch_key``, communities that turn out to be one in Z1, as those of
        one type in two batches may, are joined: closer than two standard deviations their mixture has one mode.

        Several numbers, as ``[6, 8, 10]``, train once, with the middle one (with ``settings="paper"`` the largest), and cut the
        tree of that run at each (:func:`~scmag_muon.tl.cut`).
    modalities
        Names of the modalities; by default all that are RNA, proteins or ATAC, in this order.
    kinds
        What modalities measure where it is not recognised, for example ``{"mod2": "atac"}`` (see
        :func:`~scmag_muon.pp.manifold_fit`).
    batch_key
        Column of batches in ``mdata.obs`` or in a modality's ``obs``.
    layer
        Layer of the raw counts, one for all or by modality; ``None`` is ``.X``.
    round_counts
        Round counts with decimals, as ambient correction (SoupX, CellBender) and EM (alevin, kallisto) leave them. Normalised
        values are refused all the same.
    mask_var
        Boolean column of ``var`` that chooses features (see :func:`~scmag_muon.pp.manifold_fit`).
    settings
        ``"default"``, or ``"paper"`` for the paper's configuration: neighbourhoods of each view's own, first layer of 256
        (not 128), noise 2 and 1.5, likelihood averaged over features, dispersion of each cell, weights .01 and .001,
        centres by k-means, 400 + 100 epochs without early end.
    manifold_key
        Name of the fitted layers to use or make.
    key_added
        Name under which results are written.
    max_epochs_pretrain, max_epochs
        Most epochs before and with clustering. Stages end earlier on convergence. ``None`` is 400 and 100; above 50,000 cells as
        many as make 12,000 and 4,000 minibatches, at least 4 and 2.
    batch_size
        Cells in a minibatch.
    accelerator
        ``"auto"``, ``"cpu"``, ``"gpu"``, as in Lightning.
    precision
        As in Lightning. ``"bf16-mixed"`` takes matrix products in half precision, which is several times faster on processors
        that have instructions for it (``avx512_bf16``, ``amx_bf16``) and much slower on others; the likelihood keeps all digits.
    random_state
        Seed of everything random. The same seed on the same machine gives the same labels. Cells in another order are another draw:
        random numbers go to cells by their place. ``None`` draws a seed, which is recorded in ``params``.
    progress_bar
        Show stage, epoch and loss.
    checkpoint
        Folder for the state of the training: where the run was killed, the same call goes on from there and gives the same
        clusters and coordinates (see :meth:`scmag_muon.model.SCMAG.train`). The last state stays: delete the folder once results are saved.
    ablate
        Ideas of the paper to leave out, as in its figure 4: ``"manifold"`` (the network sees transformed data as they are),
        ``"two_stage"`` (one variational space for reconstruction and clustering), ``"gate"`` (clusters on Z1).
    return_model
        Return the trained model. It holds the features that took part.
    copy
        Return a changed copy and leave ``mdata`` as it is.
    write_layers
        Layers to write: ``"all"``, ``"fitted"``, ``"denoised"`` or ``"none"``. Each holds a value for each cell and feature that takes
        part; denoised counts that are not to be written are not computed either. ``None`` writes all up to 2e8 values a
        layer and none above, which a line of the log says. Nothing but :func:`scmag_muon.pl.marker_comparison` reads denoised counts. A fit whose layers
        were not kept is made again by the next run.
    model_kwargs, plan_kwargs
        Further arguments of :class:`~scmag_muon.model.SCMAG` and of its training plan.
    trainer_kwargs
        Further arguments of Lightning's trainer, as ``{"devices": 2, "strategy": "ddp"}`` (see :meth:`scmag_muon.model.SCMAG.train`).

    Returns
    -------
    ``None``; the changed copy if ``copy``; the model if ``return_model``; a pair of them if both. Written:

    ``mdata.obs[key_added]``
        Clusters, categorical, ``"0"`` the largest.
    ``mdata.obs[f"{key_added}_{K}"]``
        The clusters at each of several ``n_clusters``, with confidences and what else :func:`~scmag_muon.tl.cut` writes.
    ``mdata.obs[f"{key_added}_confidence"]``
        How likely the cell is in the right cluster, 0 to 1: the share of its up to 50 nearest cells that are in the same
        cluster. One half is the share in the clustering space, the other the mean of the shares in the even and in the odd
        dimensions of the joint space before manifold fitting and training, which pull cells to their clusters.
    ``mdata.obs[f"{key_added}_q"]``
        Soft assignment of the cell to its own cluster (eq. 31), 0 to 1. As the paper defines it, it is close to 1 for most cells,
        also for those between two clusters.
    ``mdata.obs[f"{key_added}_entropy"]``
        Entropy of the soft assignment, in nats: 0 where one cluster takes all, log K where none is preferred.
    ``mdata.obs[f"{key_added}_leaf"]``
        Leaf of the tree of clusters (:func:`~scmag_muon.tl.cut`) that holds the cell, integers from 0.
    ``mdata.obsm[f"X_{key_added}"]``
        Clustering space Zc (eq. 17), float32, ``(n_obs, 16 * n_modalities)``: for neighbours, UMAP and distances.
    ``mdata.obsm[f"X_{key_added}_recon"]``
        Reconstruction space Zr (eq. 16), float32, ``(n_obs, 16 * n_modalities)``.
    ``mod.layers[key_added]``
        Denoised counts: the mean μ of eq. 20-21 at the *median* library size, so size factors and dropout are *not* in it.
        float32, ``(n_obs, n_vars)``, zeros at features that took no part (``mod.var[manifold_key]``). Dense, 4 bytes a value, where
        more than half of the features took part; else sparse, 8 bytes for each cell and feature that did.
    ``mod.uns[key_added]``
        A note of who wrote the layer.
    ``mdata.obs[f"{key_added}_measured"]``
        Where cells lack modalities: what each has, as ``"rna+prot"``.
    ``mdata.obsm[f"{key_added}_imputed_{modality}"]``
        For each modality that cells lack: its denoised counts in all cells, imputed where it was not measured, a data frame
        (names as ``"CD45R/B220"`` have ``"_"`` for what files can't hold); written with the denoised layers. Imputed is the mean, as logarithms, of what the network says, of the neighbours that have
        the modality, and of a ridge regression on the joint space of the other modalities.
    ``mod.var[f"{key_added}_imputation_r"]``, ``mod.var[f"{key_added}_imputation_rmse"]``
        For each of its features: Pearson correlation, and root mean squared error, of imputed with held-out counts, both as
        log(1 + normalised count), over up to 500 cells that have it and another modality.
    ``mdata.uns[key_added]``
        ``params``, ``n_clusters``, ``fit_agreement`` (adjusted Rand index of clusters from communities before and after manifold
        fitting; below .6 those before fitting alone decide), ``network_agreement`` (the same of clusters with and without the network;
        from .9 on those without it are the start; not there where K is estimated or cells lack a modality), ``history`` (a row per epoch, the stage and a column per term of eq. 33), ``converged``
        (whether stage 3 ended because cells stopped changing clusters), ``gate`` (mean gate of eq. 17 in each cluster, 0 to
        1, a row per cluster, a column per latent dimension named after its modality), ``versions``; ``tree``, arrays: ``joins`` (the
        two nodes of each, as in SciPy's ``linkage``), ``separation`` and ``height`` of each join, ``n_cells`` and ``cluster`` of each
        leaf. Where the number of clusters was not given, ``levels``: for the levels of the tree near it the ``agreement`` with
        communities at the resolutions 0.5 to 1 (mean adjusted Rand index) and the ``separation`` of its two nearest
        clusters; and ``as_good``, the levels that agree as well as the one taken, or less than .02 worse.

    and, where the fit is new, the slots of :func:`~scmag_muon.pp.manifold_fit`. A fit of one's own, with other arguments, is used as
    long as cells, counts, features, batches and seed are those of this call; else it is renewed with its own arguments, and a
    line of the log says why. What was made from an earlier run under the same name (markers, trajectory, stability and the
    like, neighbours, colours and dendrogram of scanpy) is deleted, unless clusters and latent space are the same.

    Raises
    ------
    ValueError
        Where cells are not paired, counts are no counts, or an argument is out of range; ``mdata`` is then untouched.
    KeyError
        Where a modality, layer or column is not there.
    TypeError
        Where ``mdata`` is no MuData, or ``n_clusters`` no integer.
    OSError
        Where ``checkpoint`` can't be written to, holds other files, or another process uses it, or counts lie in a file that can't be read.

    Notes
    -----
    ``docs/method.md`` lists where ``settings="default"`` departs from the paper, ``docs/benchmarks/parts.md`` what each part is worth on
    public sets. The centres start from many small communities of the neighbour graph of the fitted data, joined to K by
    the distances of their means in the latent space of stage 2 and in expression, in place of k-means, which the paper's
    ancestors use. Two standard errors are taken off the difference in expression, so that a few odd cells are no cluster. This is
    done for communities of up to six sizes, twice, of the space before fitting and of that after, and the outcomes are joined by how
    often they hold two cells together. If the clusters before and after fitting disagree, the latter are left out, and a warning
    says so.

    Examples
    --------
    >>> import scmag_muon as smm
    >>> mdata = smm.datasets.simulate_citeseq(n_obs=150, n_vars=80, n_prot=12, n_clusters=3)
    >>> smm.tl.scmag(mdata, n_clusters=3, max_epochs_pretrain=4, max_epochs=2, progress_bar=False)
    >>> mdata.obsm["X_scmag"].shape
    (150, 32)
    """
    if settings not in ("default", "paper"):
        raise ValueError(f'`settings` must be "default" or "paper", got {settings!r}.')
    check_further(ablate, model_kwargs, plan_kwargs, trainer_kwargs)
    if max_epochs is not None and check_number("max_epochs", max_epochs, integer=True) < 1:
        raise ValueError(f"`max_epochs` must be at least 1 to get clusters, got {max_epochs}.")
    check_layers(write_layers)
    check_folder(checkpoint, random_state)
    random_state = check_random_state(random_state)
    names = _mudata.modality_names(mdata, modalities, kinds)
    _mudata.check_cells(mdata, names)
    batch_size = check_number("batch_size", batch_size, integer=True, low=1)
    max_epochs_pretrain, max_epochs = most_epochs(
        max_epochs_pretrain, max_epochs, n_obs=mdata.n_obs, batch_size=batch_size, paper=settings == "paper"
    )
    complete = _mudata.is_complete(mdata, names)
    if settings == "paper":
        check_paper(mdata, names, complete=complete)
    n_clusters, wanted = check_levels(mdata, n_clusters, key_added, paper=settings == "paper")
    batches = _mudata.get_batches(mdata, batch_key)
    check_keys(mdata, names, key_added, manifold_key, {"layer": layer, "batch_key": batch_key})

    fitted = is_fitted(mdata, names, manifold_key)
    of_kind = _mudata.kinds_of(mdata, names, kinds, recorded_under=manifold_key if fitted else None)
    asked = Asked(
        names=names,
        key=manifold_key,
        result=key_added,
        kinds=of_kind,
        layer=layer,
        mask_var=mask_var,
        batch_key=batch_key,
        random_state=random_state,
        paper=settings == "paper",
        ablated="manifold" in ablate,
        round_counts=round_counts,
        write_layers=True if write_layers in ("all", "fitted") else None,
    )
    estimated = n_clusters is None
    join = n_clusters is None and batch_key is not None and settings == "default"
    with stages(_BEFORE_TRAINING, shown=progress_bar) as begin:
        begin()
        features = features_of_run(mdata, names, manifold_key, mask_var)
        work = _mudata.working_copy(mdata, names, layer, batch_key, round_counts=round_counts, features=features)
        # of what is read here: hours later the file may be another, or gone
        of_work = _fingerprints_of_counts(mdata, work, layer)
        begin()
        refit = fit_or_reuse(mdata, work, asked)
        fit = None if complete else _mudata.read_fit(work, manifold_key)
        begin()
        n_clusters, start = initial_clusters(work, n_clusters, manifold_key, batch_key, settings, random_state, fit)
    lean = _mudata.complete_mudata(work, names, manifold_key, layer, fit)
    written = layers_to_write(write_layers, work, names, manifold_key)
    if refit and written not in ("all", "fitted"):
        for name in names:
            work.mod[name].layers.pop(manifold_key, None)
    if _mudata.are_large(work, names, manifold_key):
        give_back()
    with SCMAG.lent(lean):
        SCMAG.setup_mudata(
            lean,
            modalities=names,
            kinds=of_kind,
            layer=layer,
            round_counts=round_counts,
            input_layer=manifold_key,
            batch_key=batch_key,
            present_key=None if complete else _mudata.PRESENT,
        )
        network = {key: value for idea in ablate for key, value in ABLATIONS.get(idea, {}).items()} | dict(
            model_kwargs or {}
        )
        model = SCMAG(lean, n_clusters=n_clusters, settings=settings, random_state=random_state, **network)
        model.train(
            max_epochs_pretrain=max_epochs_pretrain,
            max_epochs=max_epochs,
            initial_labels=start.labels,
            initial_profiles=start.profiles,
            batch_size=batch_size,
            accelerator=accelerator,
            precision=precision,
            random_state=random_state,
            progress_bar=progress_bar,
            checkpoint=checkpoint,
            train_size=1.0 if settings == "paper" else 0.9,
            plan_kwargs={
                "join_overlapping": join,
                "profile_weight": start.profile_weight,
                "n_unfitted": start.n_unfitted,
                "plain_labels": start.plain,
                **(_PAPER_PLAN if settings == "paper" else {}),
                **(plan_kwargs or {}),
            },
            **(trainer_kwargs or {}),
        )
        results = collect(
            model, lean, work, names, fit, manifold_key=manifold_key, denoised=written in ("all", "denoised")
        )
    if not return_model:
        model.forget_data()
    agreement = float(model.module.fit_agreement)
    if agreement < AGREE:
        logger.warning(
            "Clusters change with manifold fitting (adjusted Rand index %.2f of those before and after), so it was left out of their "
            "start. Types may be hard to tell in these data.",
            agreement,
        )
    if (of_network := float(model.module.network_agreement)) < DOUBTFUL:
        logger.warning(
            "Clusters with and without the network differ (adjusted Rand index %.2f). Types may be hard to tell in these data: trust "
            "clusters that have markers of their own.",
            of_network,
        )
    present = results.clusters
    if len(present) < n_clusters:
        if join:
            logger.info("n_clusters=%d: of %d communities some are one in Z1.", len(present), n_clusters)
        else:
            logger.warning("Only %d of n_clusters=%d clusters hold any cell.", len(present), n_clusters)
    levels = grow_levels(
        results.labels,
        start,
        space=np.asarray(work.obsm[space_of_leaves(manifold_key, complete=fit is None)]),
        latent=results.latent,
        random_state=random_state,
    )
    fingerprint = _fingerprint.of_labels(mdata.obs_names, results.labels.astype(str))
    of_batches = fingerprint_of_batches(mdata, batches)
    made_from: dict[str, Any] = {
        "cells": _fingerprint.of_cells(mdata.obs_names),
        "obs": {key_added: fingerprint, **({} if batch_key is None else {batch_key: of_batches})},
        "counts": of_work,
        "layers": {name: _mudata.layer_of(layer, name) for name in names},
        "fit": _fingerprint.of_values(_mudata.plain(work.mod[names[0]].uns[manifold_key])),
    }
    contents = {
        "params": {
            "modalities": names,
            "kinds": [of_kind[name] for name in names],
            "batch_key": batch_key,
            "layer": layer,
            "round_counts": round_counts,
            "mask_var": mask_var,
            "settings": settings,
            "ablate": list(ablate),
            "manifold_key": manifold_key,
            "max_epochs_pretrain": max_epochs_pretrain,
            "max_epochs": max_epochs,
            "batch_size": batch_size,
            "precision": precision,
            "random_state": random_state,
            "n_clusters_estimated": estimated,
            "model_kwargs": _mudata.to_json(model_kwargs or {}),
            "plan_kwargs": _mudata.to_json(plan_kwargs or {}),
            **({"trainer_kwargs": str(dict(trainer_kwargs))} if trainer_kwargs else {}),
        },
        "n_clusters": len(present) if join else n_clusters,
        "history": model.training_history,
        "converged": model.converged_,
        "fit_agreement": agreement,
        **({} if start.plain is None else {"network_agreement": of_network}),
        "gate": results.gate,
        "tree": to_record(levels, mdata.obs_names),
        **(support(levels, start.compared) if start.compared is not None else {}),
        "versions": versions_of(*_VERSIONS_OF),
    }
    record = _mudata.make_record("scmag", contents, made_from=made_from, key=key_added)

    if return_model:
        _mudata.unshare_counts(lean, mdata, layer)
        model.adata_manager.forget_fitted_rows()
        model.take_data_along()
        for column, values in _mudata.text_columns(mdata.obs).items():
            if column not in lean.obs:
                lean.obs[column] = pd.Categorical(values)  # labels that the model may transfer to other cells
        lean.obs[key_added] = pd.Categorical(results.labels.astype(str))
    if copy:
        mdata = _mudata.copy_of(mdata)
    _mudata.unview(mdata)
    tables: dict[str, dict[str, Any]] = {}
    if not same_run(mdata, key_added, fingerprint, results.latent):
        record |= {"older_maps": older_maps(mdata, key_added)}
        tables = forget_derived(mdata, key_added)
    if refit:
        _mudata.copy_fitted(work, mdata, names, manifold_key, layers=written in ("all", "fitted"))
    write(mdata, results, names, key=key_added, manifold_key=manifold_key, record=record, leaves=levels.leaves)
    write_levels(mdata, levels, wanted, key=key_added)
    renew_markers(mdata, tables)
    returned = tuple(x for x, wanted in ((mdata, copy), (model, return_model)) if wanted)
    return returned[0] if len(returned) == 1 else returned or None


def _fingerprints_of_counts(
    mdata: MuData, work: MuData, layer: str | Mapping[str, str | None] | None
) -> dict[str, str]:
    found = {}
    for name, adata in work.mod.items():
        of_layer = _mudata.layer_of(layer, name)
        if _mudata.counts_in_file(
            mdata.mod[name], modality=name, layer=of_layer
        ):  # the copy holds some of the features
            found[name] = of_counts(mdata, name, of_layer)
        else:
            found[name] = _fingerprint.of_counts(adata.X, adata.obs_names, adata.var_names)
    return found
