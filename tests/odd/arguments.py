"""Rows about arguments out of range or of the wrong type, and about names for results."""

from __future__ import annotations

from typing import Any

from tests.odd.table import Row, changed, fitted, refused, sound, sound_fit, trained, works


def _out_of_range(call: str, name: str, value: str, error: type[Exception] = ValueError, **others: Any) -> Row:
    given = f"`{name}={value}`"
    return refused(
        given, call.format(f"{name}={value}"), error, name.strip("'"), **{"says": "names the argument.", **others}
    )


FIT = "smm.pp.manifold_fit(mdata, {})"
RUN = "smm.tl.scmag(mdata, {}, **short)"
NETWORK = "smm.tl.scmag(mdata, n_clusters=2, model_kwargs={{{}}}, **short)"
PLAN = "smm.tl.scmag(mdata, n_clusters=2, plan_kwargs={{{}}}, **short)"


def _setting(call: str, name: str, value: str, error: type[Exception] = ValueError, **others: Any) -> Row:
    return refused(
        f"`{name}` of {value}",
        call.format(f"'{name}': {value}"),
        error,
        name,
        **{"says": "names the setting.", **others},
    )


FITTING = [
    _out_of_range(FIT, "n_neighbors", "0"),
    _out_of_range(FIT, "n_neighbors", "-3"),
    _out_of_range(FIT, "n_neighbors", "2.5", TypeError),
    works("`n_neighbors=1000`", FIT.format("n_neighbors=1000"), sound_fit, says="All 40 cells are neighbours."),
    _out_of_range(FIT, "n_pcs", "0"),
    works("`n_pcs=1000`", FIT.format("n_pcs=1000"), sound_fit, says="As many components as there are."),
    _out_of_range(FIT, "step", "0"),
    _out_of_range(FIT, "step", "1.5"),
    _out_of_range(FIT, "step", "float('nan')"),
    _out_of_range(FIT, "fusion_penalty", "0"),
    _out_of_range(FIT, "fusion_penalty", "float('inf')"),
    _out_of_range(FIT, "neighborhoods", "'both'", says="names the argument and its choices."),
    _out_of_range(FIT, "random_state", "-1"),
    works("`random_state=None`", FIT.format("random_state=None"), sound_fit, says="The seed is drawn."),
]

RUNNING = [
    _out_of_range(RUN, "n_clusters", "0"),
    _out_of_range(RUN, "n_clusters", "41"),
    _out_of_range(RUN, "n_clusters", "2.0", TypeError),
    _out_of_range(RUN, "n_clusters", "True", TypeError),
    _out_of_range(RUN, "n_clusters", "'2'", TypeError),
    works("`n_clusters=1`", RUN.format("n_clusters=1"), sound, says="One cluster with all cells."),
    _out_of_range("smm.tl.scmag(mdata, n_clusters=2, {})", "max_epochs", "0"),
    _out_of_range("smm.tl.scmag(mdata, n_clusters=2, {})", "max_epochs", "2.5", TypeError),
    _out_of_range("smm.tl.scmag(mdata, n_clusters=2, {})", "max_epochs_pretrain", "-1"),
    _out_of_range(RUN, "batch_size", "0"),
    _out_of_range(RUN, "settings", "'fast'", says="names the argument and its choices."),
    _out_of_range(RUN, "ablate", "['gates']", says="names the argument and its choices."),
    _out_of_range(RUN, "ablate", "'gate'", TypeError, says="names the argument: a list is meant."),
    _out_of_range(RUN, "ablate", "None", TypeError, says="names the argument: a list is meant."),
    _out_of_range(RUN, "model_kwargs", "['lr']", TypeError),
    _out_of_range(RUN, "batch_key", "['batch']", TypeError),
    _out_of_range("smm.tl.scmag(mdata, n_clusters=2, {})", "max_epochs", "'3'", TypeError),
    _out_of_range(RUN, "random_state", "-1"),
    _out_of_range(RUN, "random_state", "2**32"),
    _setting(NETWORK, "noise_scale", "(float('nan'), 1)"),
    _setting(NETWORK, "kl_weight", "-1"),
    _setting(NETWORK, "cluster_weight", "float('inf')"),
    _setting(NETWORK, "n_latent", "10", TypeError, says="there is no such setting; lists those that are there."),
    _setting(PLAN, "learning_rate", "0.1", TypeError, says="there is no such setting; lists those that are there."),
    _setting(PLAN, "lr", "float('nan')"),
    works(
        "`batch_size=1000`", RUN.format("n_clusters=2, batch_size=1000"), sound, says="One minibatch with all cells."
    ),
    works("`settings='paper'`", RUN.format("n_clusters=2, settings='paper'"), sound, says="Every cell has a cluster."),
]


def _key(
    value: str, error: type[Exception] = ValueError, make: Any = None, argument: str = "key_added", **others: Any
) -> Row:
    call = f"smm.tl.scmag(mdata, n_clusters=2, {argument}={value}, **short)"
    return refused(
        f"`{argument}={value}`", call, error, argument, make=make, **{"says": "names the argument.", **others}
    )


KEYS = [
    _key("'run/1'", says="names the argument; files can't hold a name with a slash."),
    _key("''"),
    _key("None", TypeError),
    _key("5", TypeError),
    _key("'batch'", says="a column of the user has that name."),
    _key("'manifold'", make=fitted, says="the fitted layers have that name."),
    refused(
        "the layer of raw counts is called `counts`",
        "smm.tl.scmag(mdata, n_clusters=2, layer='counts', key_added='counts', **short)",
        ValueError,
        "key_added",
        "counts",
        make=changed(lambda mdata: [a.layers.__setitem__("counts", a.X.copy()) for a in mdata.mod.values()] and None),
        says="names the argument and the layer that it would overwrite.",
    ),
    refused("`key_added='a/b'`", FIT.format("key_added='a/b'"), ValueError, "key_added", says="names the argument."),
    works(
        "a second run under another name",
        "smm.tl.scmag(mdata, n_clusters=3, key_added='other', batch_key='batch', **short)",
        lambda _, mdata: sound(None, mdata, "other"),
        make=trained,
        says="Both are there; the first is as before.",
    ),
    works(
        "`key_added='Läufe 1 (α)'`",
        "smm.tl.scmag(mdata, n_clusters=2, key_added='Läufe 1 (α)', **short)",
        lambda _, mdata: sound(None, mdata, "Läufe 1 (α)"),
        says="Every cell has a cluster.",
    ),
]


TABLE: dict[str, list[Row]] = {
    "Arguments of fitting": FITTING,
    "Arguments of a run": RUNNING,
    "Names of results": KEYS,
}
