"""What was made from an earlier run under the same name goes when another run takes its place."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from scmag_muon import _fingerprint, _mudata
from scmag_muon._keys import Keys
from scmag_muon.tl._markers import markers

if TYPE_CHECKING:
    from mudata import MuData

logger = logging.getLogger(__name__)

_DIGITS = 1e-4
_MAPS = ("X_umap", "X_tsne", "X_diffmap", "X_draw_graph")
_UNNAMED = (Keys.markers, Keys.enrichment, Keys.trajectory, Keys.batch_mixing, Keys.stability, Keys.held_out)


def same_run(mdata: MuData, key: str, labels: str, latent: np.ndarray) -> bool:
    """Whether the clusters and the latent space under ``key`` are those given; ``labels`` is their fingerprint.

    The last digits of the space depend on the number of threads.
    """
    if key not in mdata.obs or Keys.latent(key) not in mdata.obsm:
        return False
    before = _fingerprint.of_labels(mdata.obs_names, mdata.obs[key])
    space = np.asarray(mdata.obsm[Keys.latent(key)])
    return before == labels and space.shape == latent.shape and np.allclose(space, latent, rtol=_DIGITS, atol=_DIGITS)


def older_maps(mdata: MuData, key: str) -> dict[str, str]:
    """Fingerprints of maps that may show the run under ``key``; scanpy notes neither groups nor space of a map."""
    record = mdata.uns.get(key)
    known = dict(record.get("older_maps", {})) if isinstance(record, Mapping) else {}
    drawn = _space_of_neighbors(mdata.uns.get("neighbors")) == Keys.latent(key)
    found = {}
    for name in mdata.obsm:
        if str(name).startswith(_MAPS):
            shown = _fingerprint.of_rows(mdata.obsm[name], mdata.obs_names)
            if drawn or known.get(name) == shown:
                found[str(name)] = shown
    return found


def forget_derived(mdata: MuData, key: str) -> dict[str, dict[str, Any]]:
    """Delete what was made from the run under ``key``, but maps; returns arguments that make its tables of markers anew."""
    found = _slots(mdata, key)
    tables = {
        name: again for where, name in found if where == "uns" and (again := _arguments_of_markers(mdata, name, key))
    }
    for where, name in found:
        del getattr(mdata, where)[name]
    if found:
        listed = ", ".join(f"{where}[{name!r}]" for where, name in found)
        logger.info("Deleted, as made from the earlier run %r: %s. Make them anew.", key, listed)
    return tables


def renew_markers(mdata: MuData, tables: Mapping[str, dict[str, Any]]) -> None:
    """Make tables of markers of the run that is there; one that can't be made, as of a cluster that is gone, stays away."""
    for slot, arguments in tables.items():
        try:
            markers(mdata, key_added=slot, **arguments)
        except (KeyError, TypeError, ValueError) as error:
            logger.info("uns[%r] can't be made anew: %s", slot, error.args[0])
        else:
            logger.info("uns[%r] is made anew, of the clusters that there are.", slot)


def _arguments_of_markers(mdata: MuData, slot: str, key: str) -> dict[str, Any] | None:
    """What ``tl.markers`` was given for a table; all clusters then are all clusters again."""
    record = mdata.uns[slot]
    if not isinstance(record, Mapping) or str(record.get("verb", "")) != "markers":
        return None
    if str(record.get("key", key)) != key:  # of a level that goes with the run
        return None
    params = _mudata.plain(record["params"])
    groups, reference = params.get("groups"), params.get("reference", "rest")
    if reference == "rest" and (groups is None or key not in mdata.obs or len(groups) == _n_ranked(mdata, key)):
        groups = None
    return {
        "key": key,
        "groups": groups,
        "reference": reference,
        "modalities": params.get("modalities"),
        "layer": params.get("layer"),
    }


def _n_ranked(mdata: MuData, key: str) -> int:
    return int((mdata.obs[key].value_counts() > 1).sum())


def _slots(mdata: MuData, key: str) -> list[tuple[str, str]]:
    found = [("uns", str(slot)) for slot, value in mdata.uns.items() if _is_derived(str(slot), value, key)]
    for _, slot in list(found):
        if str(mdata.uns[slot].get("verb")) in ("cut", "subcluster"):
            own = [("obs", name) for name in (slot, Keys.confidence(slot)) if name in mdata.obs]
            found += own + [each for each in _slots(mdata, slot) if each not in found]
    found += _of_scanpy(mdata, key)
    columns = [("obs", Keys.pseudotime(key))] if ("uns", Keys.trajectory(key)) in found else []
    columns += [
        ("obs", name) for where, name in found if where == "uns" and _mudata.is_record(mdata.uns[name], "annotate")
    ]
    if ("uns", Keys.cluster_qc(key)) in found:
        columns.append(("obs", Keys.doublet_score(key)))
    spaces = [("obsm", f"X_{Keys.batch_mixing(key)}_{state}") for state in ("before", "after")]
    return found + [(where, name) for where, name in columns + spaces if name in getattr(mdata, where)]


def _is_derived(slot: str, value: Any, key: str) -> bool:
    if not isinstance(value, Mapping) or slot == key:
        return False
    if "verb" in value:
        belongs = str(value.get("key")) == key and str(value["verb"]) != "scmag"
    else:
        belongs = slot in {name(key) for name in _UNNAMED} and _mudata.is_record(value, "a table")
    params = value.get("params", {})
    groupby = str(params.get("groupby", key)) if isinstance(params, Mapping) else key
    return belongs and groupby == key


def _of_scanpy(mdata: MuData, key: str) -> list[tuple[str, str]]:
    found = [("uns", name) for name in (f"{key}_colors", f"{key}_sizes", f"dendrogram_{key}") if name in mdata.uns]
    paga = mdata.uns.get("paga")
    if isinstance(paga, Mapping) and str(paga.get("groups")) == key:
        found.append(("uns", "paga"))
    for slot, value in mdata.uns.items():
        if _space_of_neighbors(value) in (Keys.latent(key), Keys.reconstruction_latent(key)):
            found.append(("uns", str(slot)))
            graphs = [str(value.get(f"{graph}_key")) for graph in ("connectivities", "distances")]
            found += [("obsp", graph) for graph in graphs if graph in mdata.obsp]
    return found


def _space_of_neighbors(value: Any) -> str | None:
    if not isinstance(value, Mapping) or "connectivities_key" not in value:
        return None
    return str(value.get("params", {}).get("use_rep"))
