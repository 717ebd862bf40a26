"""The same run once more: on other cells or with another seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scmag_muon import _mudata, pp
from scmag_muon._keys import Keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData

_RUN = ("modalities", "batch_key", "settings", "max_epochs_pretrain", "max_epochs", "batch_size", "precision", "ablate")
_FIT = ("batch_key", "n_neighbors", "n_pcs", "neighborhoods", "fusion_penalty", "step")


def recorded_run(mdata: MuData, key: str) -> dict[str, Any]:
    """The arguments of the recorded :func:`scmag_muon.tl.scmag`, as that takes them, also where they were read from disk."""
    if key not in mdata.uns or "params" not in mdata.uns[key]:
        raise KeyError(f"No run in mdata.uns[{key!r}]. Make it with scmag_muon.tl.scmag(mdata, key_added={key!r}).")
    record = mdata.uns[key]
    params = {name: _plain(record["params"][name]) for name in _RUN if name in record["params"]}
    params |= {name: record["params"].get(name) or {} for name in ("model_kwargs", "plan_kwargs")}
    if "kinds" in record["params"]:
        params["kinds"] = dict(zip(params["modalities"], _plain(record["params"]["kinds"]), strict=True))
    params["ablate"] = [str(idea) for idea in params.get("ablate") or []]
    return {**params, "n_clusters": int(record["n_clusters"])}


def refit(mdata: MuData, work: MuData, key: str, random_state: int | None) -> None:
    """Fit ``work``, which holds counts in ``.X``, with the features and arguments with which ``mdata`` was fitted."""
    manifold_key = str(mdata.uns[key]["params"]["manifold_key"])
    names = [str(name) for name in mdata.uns[key]["params"]["modalities"]]
    for name in names:
        work.mod[name].var[manifold_key] = mdata.mod[name].var[manifold_key].to_numpy()
    params = mdata.mod[names[0]].uns[manifold_key]["params"]
    pp.manifold_fit(
        work,
        modalities=names,
        kinds={name: kind for name in names if (kind := _mudata.recorded_kind(mdata.mod[name], manifold_key))},
        mask_var=manifold_key,
        key_added=Keys.MANIFOLD,
        random_state=random_state,
        **{name: _plain(params[name]) for name in _FIT if name in params},
    )


def layers_of_run(mdata: MuData, key: str) -> str | Mapping[str, str | None] | None:
    """The layer of raw counts of the recorded run."""
    return _plain(mdata.uns[key]["params"].get("layer"))


def subset(mdata: MuData, rows: np.ndarray) -> MuData:
    """Some rows of a working copy."""
    mods = {name: adata[rows].copy() for name, adata in mdata.mod.items()}
    return _mudata.make_mudata(mods, mdata.obs.iloc[rows])


def best_markers(table: Any, per_group: int, used: Mapping[str, Sequence[str]]) -> dict[str, list[tuple[str, str]]]:
    """For each group its best features by AUROC, ``(modality, feature)``, so many of each modality, among those used."""
    found: dict[str, list[tuple[str, str]]] = {}
    for (group, modality), rows in table.groupby(["cluster", "modality"], observed=True, sort=False):
        ranked = rows.sort_values("auroc", ascending=False)
        names = [str(name) for name in ranked["feature"] if str(name) in set(used[str(modality)])][:per_group]
        found.setdefault(str(group), []).extend((str(modality), name) for name in names)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    return value.item() if isinstance(value, np.generic) else value
