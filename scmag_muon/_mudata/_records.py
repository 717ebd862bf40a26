"""Records in ``uns``: who wrote a slot, in which format, from what; whether a name is free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from scmag_muon._keys import Keys
from scmag_muon._mudata._write import to_uns

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mudata import MuData

FORMAT = 1
"""Of the records; those of releases before it have no number."""

_TABLE_PARTS = {"table", "connectivities"}


def make_record(verb: str, contents: Mapping[str, Any], *, made_from: Mapping[str, Any], key: str | None = None) -> Any:
    """A record for ``uns``: its contents, the verb that made it, the run it belongs to, fingerprints of what it was made from."""
    return to_uns({"format": FORMAT, "verb": verb, "key": key, **contents, "made_from": made_from})


def plain(value: Any) -> Any:
    """What a record holds as plain Python values, also where it was read from a file."""
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value.tolist()]
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def is_record(value: Any, verb: str) -> bool:
    """Whether a slot of ``uns`` was written by this verb, also by a release that did not write its name."""
    if not isinstance(value, Mapping):
        return False
    if "verb" in value:
        return str(value["verb"]) == verb
    parts = set(value)
    if verb == "scmag":
        return {"params", "n_clusters", "history"} <= parts
    if verb == "manifold_fit":
        return {"params", "view_weights"} <= parts
    return bool(parts & _TABLE_PARTS) and bool(parts & {"params", "estimate"})


def check_free_record(mdata: MuData, slot: str, verb: str, *, argument: str, derived: Iterable[str] = ()) -> None:
    """Raise where ``uns[slot]``, or a column or space that goes with it, holds something else than this verb's earlier result."""
    if slot in mdata.uns:
        if not is_record(mdata.uns[slot], verb):
            raise ValueError(_taken(f"mdata.uns[{slot!r}]", verb, argument))
        return
    for name in derived:
        for where, held in (("obs", mdata.obs), ("obsm", mdata.obsm)):
            if name in held:
                raise ValueError(_taken(f"mdata.{where}[{name!r}]", verb, argument))


def check_free_run(mdata: MuData, names: Iterable[str], key: str) -> None:
    """Raise where a run under ``key`` would overwrite what is not from an earlier run under it."""
    if is_record(mdata.uns.get(key), "scmag"):
        return
    # modalities that were taken out of a MuData keep what was made of their counts
    unknown = [name for name in names if not is_record(mdata.mod[name].uns.get(key), "scmag")]
    _check_free(mdata, unknown, Keys.run_slots(key), "scmag", "key_added")


def check_free_query(mdata: MuData, names: Iterable[str], key: str, columns: Iterable[str]) -> None:
    """Raise where mapping under ``key`` would overwrite what is not from an earlier mapping under it."""
    if is_record(mdata.uns.get(key), "map_query"):
        return
    slots = Keys.run_slots(key) | Keys.query_slots(key, columns)
    _check_free(mdata, names, slots, "map_query", "key_added")


def check_free_fit(
    mdata: MuData, names: Iterable[str], manifold_key: str, *, argument: str, views: Iterable[str] = ()
) -> None:
    """Raise where a fit under ``manifold_key`` would overwrite what is not from an earlier fit under it."""
    unknown = [name for name in names if not is_record(mdata.mod[name].uns.get(manifold_key), "manifold_fit")]
    slots = Keys.fit_slots(manifold_key) | {("layers", Keys.view_layer(manifold_key, view)) for view in views}
    if any(is_record(adata.uns.get(manifold_key), "manifold_fit") for adata in mdata.mod.values()):
        slots = {(where, name) for where, name in slots if where not in ("obsm", "uns")}
    _check_free(mdata, unknown, slots, "manifold_fit", argument)


def check_apart(key: str, manifold_key: str, others: Mapping[str, Any]) -> None:
    """Raise where results, fit and what is read (``others``, names by argument) share a slot."""
    both = Keys.run_slots(key) & Keys.fit_slots(manifold_key)
    if both:
        where, name = sorted(both)[0]
        raise ValueError(
            f"key_added={key!r} and manifold_key={manifold_key!r} would both be written to {where}[{name!r}]. "
            f"Give them different names, for example manifold_key={manifold_key + '_fit'!r}."
        )
    written = {("layer", key): "key_added", ("layer", manifold_key): "manifold_key", ("batch_key", key): "key_added"}
    for argument, names in others.items():
        for name in names.values() if isinstance(names, Mapping) else [names]:
            taken_by = written.get((argument, name))
            if taken_by:
                raise ValueError(
                    f"{argument}={name!r} would be overwritten by {taken_by}={name!r}. Give another {taken_by}, "
                    f"for example {taken_by}={name + '_run'!r}."
                )


def _check_free(
    mdata: MuData, names: Iterable[str], slots: Iterable[tuple[str, str]], verb: str, argument: str
) -> None:
    for where, name in sorted(slots):
        if where in ("obs", "obsm", "uns"):
            if name in getattr(mdata, where):
                raise ValueError(_taken(f"mdata.{where}[{name!r}]", verb, argument))
            continue
        for modality in names:
            if name in getattr(mdata.mod[modality], where.removeprefix("mod.")):
                raise ValueError(_taken(f"mdata[{modality!r}].{where.removeprefix('mod.')}[{name!r}]", verb, argument))


def _taken(slot: str, verb: str, argument: str) -> str:
    option = " (--key-added on the command line)" if argument == "key_added" else ""
    return (
        f"{slot} is there already and not from an earlier {verb}; it would be overwritten. "
        f"Give another name with {argument}={option}, or delete or rename what is there."
    )
