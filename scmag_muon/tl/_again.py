"""The same run once more: on other cells or with another seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scmag_muon import _fingerprint, _mudata, pp
from scmag_muon._keys import Keys
from scmag_muon._made_from import differences

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from mudata import MuData

_RUN = ("modalities", "batch_key", "settings", "max_epochs_pretrain", "max_epochs", "batch_size", "precision", "ablate")
_CHOSEN = "_chosen"  # no user's column can have this name
_FIT = ("batch_key", "n_neighbors", "n_pcs", "neighborhoods", "fusion_penalty", "step")


def recorded_run(mdata: MuData, key: str) -> dict[str, Any]:
    """The arguments of the recorded :func:`scmag_muon.tl.scmag`, as that takes them, also where they were read from disk."""
    _mudata.check_mudata(mdata)
    if not _mudata.is_record(mdata.uns.get(key), "scmag"):
        raise KeyError(f"No run in mdata.uns[{key!r}]. Make it with scmag_muon.tl.scmag(mdata, key_added={key!r}).")
    record = mdata.uns[key]
    _check_same(mdata, key)
    params: dict[str, Any] = {"batch_key": None}
    params |= {name: _mudata.plain(record["params"][name]) for name in _RUN if name in record["params"]}
    params |= {name: _mudata.from_json(record["params"].get(name) or {}) for name in ("model_kwargs", "plan_kwargs")}
    if "kinds" in record["params"]:
        params["kinds"] = dict(zip(params["modalities"], _mudata.plain(record["params"]["kinds"]), strict=True))
    params["ablate"] = [str(idea) for idea in params.get("ablate") or []]
    estimated = bool(record["params"].get("n_clusters_estimated", False))
    return {**params, "n_clusters": None if estimated else int(record["n_clusters"])}


def _check_same(mdata: MuData, key: str) -> None:
    """Raise where the run can't be repeated, for the data or the fit are others."""
    record = mdata.uns[key]
    reasons = differences(mdata, record, counts=True)
    params = record["params"]
    manifold_key = str(params["manifold_key"])
    reasons += [f"modality {str(name)!r} is not there" for name in params["modalities"] if name not in mdata.mod]
    first = mdata.mod.get(str(params["modalities"][0]))
    fit = None if first is None else first.uns.get(manifold_key)
    before = record.get("made_from", {}).get("fit")
    if before is not None and (fit is None or _fingerprint.of_values(_mudata.plain(fit)) != str(before)):
        reasons.append(f"the fit {manifold_key!r} has been renewed by another run")
    if reasons:
        raise ValueError(
            f"The run {key!r} can't be repeated: {'; '.join(reasons)}. Make it anew with "
            f"scmag_muon.tl.scmag(mdata, key_added={key!r}, manifold_key={f'{key}_fit'!r})."
        )


def refit(mdata: MuData, work: MuData, key: str, random_state: int | None) -> None:
    """Fit ``work``, which holds counts in ``.X``, with the features and arguments with which ``mdata`` was fitted."""
    manifold_key = str(mdata.uns[key]["params"]["manifold_key"])
    names = [str(name) for name in mdata.uns[key]["params"]["modalities"]]
    for name in names:
        work.mod[name].var[_CHOSEN] = mdata.mod[name].var[manifold_key].to_numpy(dtype=bool)
        work.mod[name].var.drop(columns=Keys.MANIFOLD, errors="ignore", inplace=True)
    params = mdata.mod[names[0]].uns[manifold_key]["params"]
    pp.manifold_fit(
        work,
        modalities=names,
        kinds={name: kind for name in names if (kind := _mudata.recorded_kind(mdata.mod[name], manifold_key))},
        mask_var=_CHOSEN,
        key_added=Keys.MANIFOLD,
        random_state=random_state,
        **{name: _mudata.plain(params[name]) for name in _FIT if name in params},
    )


def rounds_counts(mdata: MuData, key: str) -> bool:
    """Whether the recorded run rounded counts with decimals."""
    return bool(mdata.uns[key]["params"].get("round_counts", False))


def layers_of_run(mdata: MuData, key: str) -> str | Mapping[str, str | None] | None:
    """The layer of raw counts of the recorded run."""
    return _mudata.plain(mdata.uns[key]["params"].get("layer"))


def subset(mdata: MuData, rows: np.ndarray) -> MuData:
    """Some rows of a working copy."""
    obs = mdata.obs.iloc[rows]
    mods = {name: adata[obs.index[obs.index.isin(adata.obs_names)]].copy() for name, adata in mdata.mod.items()}
    return _mudata.make_mudata(mods, obs)


def best_markers(table: Any, per_group: int, used: Mapping[str, Sequence[str]]) -> dict[str, list[tuple[str, str]]]:
    """For each group its best features by AUROC, ``(modality, feature)``, so many of each modality, among those used."""
    found: dict[str, list[tuple[str, str]]] = {}
    for (group, modality), rows in table.groupby(["cluster", "modality"], observed=True, sort=False):
        ranked = rows.sort_values("auroc", ascending=False)
        names = [str(name) for name in ranked["feature"] if str(name) in set(used[str(modality)])][:per_group]
        found.setdefault(str(group), []).extend((str(modality), name) for name in names)
    return found
