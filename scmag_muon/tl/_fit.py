"""The fit that a run needs: the one that is there where it is of the same data and arguments, else a new one."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scmag_muon import _fingerprint, _mudata, pp
from scmag_muon._keys import Keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from mudata import MuData

logger = logging.getLogger(__name__)

_KEPT = ("n_neighbors", "n_pcs", "neighborhoods", "fusion_penalty", "step")
_N_NEIGHBORS = 15
_USER, _RUN = "pp.manifold_fit", "tl.scmag"
_NO_LAYERS = "its layers were not kept"
_CHOSEN = "_chosen"  # no user's column can have this name


@dataclass(frozen=True)
class Asked:
    """What a run asks of its fit."""

    names: Sequence[str]
    key: str
    result: str
    kinds: Mapping[str, _mudata.ModalityKind]
    layer: str | Mapping[str, str | None] | None
    mask_var: str | None
    batch_key: str | None
    random_state: int | None
    paper: bool
    ablated: bool
    round_counts: bool = False
    write_layers: bool | None = None

    @property
    def of_run(self) -> dict[str, Any]:
        """Arguments that a run gives to a fit of its own."""
        return {"neighborhoods": "own" if self.paper else "shared", "n_neighbors": 1 if self.ablated else _N_NEIGHBORS}


def fit_or_reuse(mdata: MuData, work: MuData, asked: Asked) -> bool:
    """Put a fit into ``work``, which holds the counts of ``mdata`` in ``.X``: that of ``mdata``, or a new one.

    Returns whether it is new. A fit of the user's own, with other arguments than a run takes, is used as long as nothing that is
    asked differs; where something does, it is renewed with its own arguments and those asked.
    """
    if not is_fitted(mdata, asked.names, asked.key):
        _fit(work, asked, asked.of_run, asked.mask_var, made_by=_RUN)
        return True
    record = mdata.mod[asked.names[0]].uns[asked.key]
    kept = {name: _mudata.plain(record["params"][name]) for name in _KEPT if name in record["params"]}
    kept |= {"neighborhoods": "own"} if asked.paper else {}
    own = str(record.get("made_by", _USER)) == _RUN
    kept |= asked.of_run if own else {}
    if asked.ablated and kept.get("n_neighbors") != 1:
        raise ValueError(
            f"The fit {asked.key!r} is there already, so nothing is left to ablate. Give another `manifold_key`."
        )
    mask_var = asked.mask_var if asked.mask_var is not None else _mudata.plain(record["params"].get("mask_var"))
    reasons = _differences(mdata, work, asked, kept, mask_var)
    if not reasons:
        _tell_layer(record["params"], asked)
        _mudata.copy_fitted(mdata, work, asked.names, asked.key)
        return False
    if reasons == [_NO_LAYERS]:
        logger.info("The fit %r is made again with its own arguments: %s.", asked.key, _NO_LAYERS)
    else:
        logger.warning("The fit %r is renewed: %s.%s", asked.key, "; ".join(reasons), _others(mdata, asked))
    kept["keep_views"] = any(_mudata.view_layers(mdata.mod[name], asked.key) for name in asked.names)
    own_mask = mask_var is not None and not any(mask_var in work.mod[name].var for name in asked.names)
    _fit(
        work,
        asked,
        kept,
        mask_var,
        own_mask=own_mask and asked.mask_var is None,
        made_by=_RUN if own else _USER,
    )
    if reasons == [_NO_LAYERS]:
        _keep_account(mdata, work, asked)
    return True


def features_of_run(
    mdata: MuData, names: Sequence[str], key: str, mask_var: str | None
) -> dict[str, np.ndarray | None]:
    """Features whose counts a run may need, for each modality."""
    found = {}
    for name in names:
        record = mdata.mod[name].uns.get(key)
        if mask_var is None and _mudata.is_record(record, "manifold_fit"):
            mask_var = _mudata.plain(record.get("params", {}).get("mask_var"))
        found[name] = _mudata.features_to_read(mdata.mod[name], name, mask_var, key)
    return found


def _keep_account(mdata: MuData, work: MuData, asked: Asked) -> None:
    """Tell of the arguments as the fit did before it was made again, so that results that rest on it still know it."""
    for name in asked.names:
        before, record = mdata.mod[name].uns[asked.key], work.mod[name].uns[asked.key]
        made_by = {"made_by": before["made_by"]} if "made_by" in before else {}
        rest = {part: value for part, value in record.items() if part != "made_by"}
        work.mod[name].uns[asked.key] = {**rest, "params": before["params"], **made_by}


def _tell_layer(params: Mapping[str, Any], asked: Asked) -> None:
    """Say where the fit is of another layer that holds the same counts."""
    before, now = (
        {name: _mudata.layer_of(layer, name) for name in asked.names}
        for layer in (_mudata.plain(params.get("layer")), asked.layer)
    )
    if before != now:
        logger.warning(
            "The fit %r was made with layer=%s. It is used again, for layer=%s holds the same counts.",
            asked.key,
            before,
            now,
        )


def is_fitted(mdata: MuData, names: Sequence[str], key: str) -> bool:
    slots = all(key in mdata.mod[n].var and _mudata.is_record(mdata.mod[n].uns.get(key), "manifold_fit") for n in names)
    return slots and Keys.fitted_embedding(key) in mdata.obsm and Keys.joint_embedding(key) in mdata.obsm


def _differences(
    mdata: MuData, work: MuData, asked: Asked, arguments: dict[str, Any], mask_var: str | None
) -> list[str]:
    found = []
    for name in asked.names:
        record = mdata.mod[name].uns[asked.key]
        if "made_from" not in record:
            return [f"an earlier release made it and did not note of which counts of {name!r}"]
        params = {slot: _mudata.plain(value) for slot, value in record["params"].items()}
        kinds = [asked.kinds[each] for each in asked.names]
        wanted = {"modalities": list(asked.names), "kinds": kinds, "random_state": asked.random_state, **arguments}
        wanted["n_neighbors"] = min(wanted["n_neighbors"], mdata.n_obs)
        found += [f"{s}={v!r} is asked, it had {params.get(s)!r}" for s, v in wanted.items() if params.get(s) != v]
        found += _of_data(mdata, work, name, asked, record["made_from"])
        found += _of_features(mdata, work, name, asked.key, mask_var)
    if Keys.fit(asked.key) in mdata.uns and (gone := _mudata.deleted_part(mdata, asked.key)) is not None:
        found.append(f"{gone} was deleted")
    if any(asked.key not in mdata.mod[name].layers for name in asked.names) and not _serves_without(mdata, asked):
        found.append(_NO_LAYERS)
    return list(dict.fromkeys(found))


def _serves_without(mdata: MuData, asked: Asked) -> bool:
    """Whether a fit is used again without its layers: where they are large, and its rows can be computed."""
    large = asked.write_layers is None and _mudata.are_large(mdata, asked.names, asked.key)
    return large and Keys.fit(asked.key) in mdata.uns


def _of_data(mdata: MuData, work: MuData, name: str, asked: Asked, made_from: Mapping[str, str]) -> list[str]:
    cells = mdata.mod[name].obs_names
    if _fingerprint.of_cells(cells) != made_from["cells"]:
        before = _fingerprint.n_cells(made_from["cells"])
        return [f"it is of other cells ({before} then, {len(cells)} now)"]
    found = []
    adata, mask = work.mod[name], mdata.mod[name].var[asked.key].to_numpy()
    if _fingerprint.of_counts(adata.X, adata.obs_names, adata.var_names, mask) != made_from["counts"]:
        found.append(f"the counts of {name!r} are others")
    batches = fingerprint_of_batches(work, _mudata.get_batches(work, asked.batch_key))
    if batches != made_from.get("batches"):
        found.append(f"batch_key={asked.batch_key!r} is asked, it had other batches or none")
    return found


def fingerprint_of_batches(mdata: MuData, batches: pd.Categorical | None) -> str | None:
    return None if batches is None else _fingerprint.of_labels(mdata.obs_names, batches)


def _of_features(mdata: MuData, work: MuData, name: str, key: str, mask_var: str | None) -> list[str]:
    adata = work.mod[name]
    column = mask_var if mask_var is not None and mask_var in adata.var else "highly_variable"
    if column not in adata.var or column == key:
        return []
    chosen = _mudata.feature_mask(adata.var[column], name)
    detected = np.asarray(adata.X.sum(axis=0)).ravel() > 0
    if np.array_equal(chosen & detected, mdata.mod[name].var[key].to_numpy()):
        return []
    return [f"{column!r} chooses other features of {name!r}"]


def _others(mdata: MuData, asked: Asked) -> str:
    """Results that rest on the fit which is to be renewed."""
    runs = [
        str(slot)
        for slot, record in mdata.uns.items()
        if slot != asked.result
        and _mudata.is_record(record, "scmag")
        and str(record["params"].get("manifold_key")) == asked.key
    ]
    return f" Results made from it: {', '.join(map(repr, runs))}; another manifold_key keeps both." if runs else ""


def _fit(
    work: MuData,
    asked: Asked,
    arguments: Mapping[str, Any],
    mask_var: str | None,
    *,
    made_by: str,
    own_mask: bool = False,
) -> None:
    """Fit the working copy; where the column that chose features is gone, or is the fit's own, with the fit's features."""
    own_mask = own_mask or mask_var == asked.key
    layers = {name: _mudata.layer_of(asked.layer, name) for name in asked.names}
    for name, layer in layers.items():
        if layer is not None:  # where the user has the counts, so that what a warning names is there
            work.mod[name].layers[layer] = work.mod[name].X
        var = work.mod[name].var
        if own_mask:
            var[_CHOSEN] = var[asked.key].to_numpy(dtype=bool)
        if asked.key in var:
            del var[asked.key]
    pp.manifold_fit(
        work,
        modalities=asked.names,
        kinds=asked.kinds,
        layer=layers,
        mask_var=_CHOSEN if own_mask else mask_var,
        batch_key=asked.batch_key,
        key_added=asked.key,
        write_layers=asked.write_layers,
        random_state=asked.random_state,
        **arguments,
    )
    for name, layer in layers.items():
        if layer is not None:
            del work.mod[name].layers[layer]
        params = work.mod[name].uns[asked.key]["params"]
        told = _mudata.to_uns({"layer": asked.layer, "mask_var": mask_var, "round_counts": asked.round_counts})
        work.mod[name].uns[asked.key] |= {"params": {**params, **told}, "made_by": made_by}
