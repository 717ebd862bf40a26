"""Rows about the model class and about files and the command line."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import scmag_muon as smm
from scmag_muon._mudata import no_pull_on_update
from tests.odd.table import SHORT, Row, changed, citeseq, fitted, refused, works

if TYPE_CHECKING:
    from mudata import MuData

    from scmag_muon.model import SCMAG


@functools.cache
def model() -> SCMAG:
    """A trained model of the shared cells, which rows ask and don't change."""
    mdata = fitted()
    smm.model.SCMAG.setup_mudata(mdata)
    trained = smm.model.SCMAG(mdata, n_clusters=2)
    trained.train(**SHORT)
    return trained


def set_up() -> MuData:
    """The shared cells, fitted and set up."""
    mdata = fitted()
    smm.model.SCMAG.setup_mudata(mdata)
    return mdata


def _asked(given: str, call: str, error: type[Exception], *names: str, says: str, make: Any = citeseq) -> Row:
    return refused(given, f"model.{call}", error, *names, says=says, make=make)


def _rows(n: int) -> Any:
    return lambda result, _: len(result) == n and np.isfinite(np.asarray(result)).all()


MODEL = [
    refused(
        "not fitted",
        "smm.model.SCMAG.setup_mudata(mdata)",
        KeyError,
        "'manifold'",
        "pp.manifold_fit",
        says="names the layer and the call that makes it.",
        fix="smm.pp.manifold_fit(mdata)",
    ),
    refused(
        "an AnnData", "smm.model.SCMAG.setup_mudata(mdata['rna'])", TypeError, "AnnData", says="a MuData is needed."
    ),
    refused(
        "fitted, not set up",
        "smm.model.SCMAG(mdata, n_clusters=2)",
        ValueError,
        "setup_mudata",
        make=fitted,
        says="names the call.",
    ),
    refused(
        "`n_clusters=0`",
        "smm.model.SCMAG(mdata, n_clusters=0)",
        ValueError,
        "n_clusters",
        make=set_up,
        says="names the argument.",
    ),
    refused(
        "a setting that is not there",
        "smm.model.SCMAG(mdata, n_clusters=2, n_layers=2)",
        TypeError,
        "n_layers",
        make=set_up,
        says="lists the settings.",
    ),
    refused(
        "nothing to train",
        "smm.model.SCMAG(mdata, n_clusters=2).train(max_epochs_pretrain=0, max_epochs=0)",
        ValueError,
        "max_epochs",
        make=set_up,
        says="names both arguments.",
    ),
    refused(
        "labels for other cells",
        "smm.model.SCMAG(mdata, n_clusters=2).train(initial_labels=np.zeros(3, dtype=int), **short)",
        ValueError,
        "initial_labels",
        "40",
        make=set_up,
        says="says how many cells there are.",
    ),
    refused(
        "`train_size=0`",
        "smm.model.SCMAG(mdata, n_clusters=2).train(train_size=0, **short)",
        ValueError,
        "train_size",
        make=set_up,
        says="names the argument.",
    ),
    _asked(
        "a space that is not there",
        "get_latent_representation(kind='umap')",
        ValueError,
        "kind",
        "'umap'",
        says="lists the spaces.",
    ),
    _asked(
        "a modality that is not there",
        "get_normalized_expression(modality='atac')",
        KeyError,
        "'atac'",
        says="lists the modalities.",
    ),
    _asked(
        "`library_size='latent'`",
        "get_normalized_expression(library_size='latent')",
        ValueError,
        "library_size",
        says="lists the choices.",
    ),
    _asked(
        "`batch_size=0`",
        "get_latent_representation(batch_size=0)",
        ValueError,
        "batch_size",
        says="names the argument.",
    ),
    works("no cells", "model.get_latent_representation(indices=[])", _rows(0), says="No rows."),
    _asked(
        "a row beyond the last",
        "get_latent_representation(indices=[40])",
        (IndexError),
        "indices|40",
        says="names the row.",
    ),
    _asked(
        "new cells that are not fitted",
        "get_latent_representation(mdata)",
        KeyError,
        "'manifold'",
        says="names the layer.",
    ),
    _asked(
        "new cells that lack a gene",
        "get_latent_representation(mdata)",
        ValueError,
        "'rna'",
        "lacks 1",
        make=changed(lambda mdata: _fewer(mdata), fitted),
        says="names the modality and the first missing feature.",
    ),
    works(
        "rows as booleans",
        "model.get_latent_representation(indices=np.arange(40) < 5)",
        _rows(5),
        says="The chosen rows.",
    ),
    works("rows as a slice", "model.get_cluster_assignments(indices=slice(0, 7))", _rows(7), says="The chosen rows."),
    works(
        "soft clusters",
        "model.get_cluster_assignments(soft=True)",
        lambda q, _: np.allclose(q.sum(axis=1), 1, atol=1e-5) and q.min() >= 0,
        says="Each row sums to 1.",
    ),
    works("the gate", "model.get_gate()", lambda gate, _: gate.min() >= 0 and gate.max() <= 1, says="Between 0 and 1."),
    works(
        "new cells that are fitted",
        "model.get_latent_representation(mdata)",
        _rows(40),
        make=fitted,
        says="Their coordinates.",
    ),
    refused("no saved model", "smm.model.SCMAG.load('none')", (FileNotFoundError), "none", says="names the folder."),
    works(
        "saved and loaded",
        "[model.save('kept'), smm.model.SCMAG.load('kept', adata=mdata, accelerator='cpu').get_cluster_assignments()][1]",
        lambda labels, _: np.array_equal(labels, model().get_cluster_assignments()),
        make=fitted,
        says="The same clusters.",
    ),
]


def _fewer(mdata: MuData) -> MuData:
    from scmag_muon._mudata import make_mudata

    return make_mudata({"rna": mdata["rna"][:, 1:].copy(), "prot": mdata["prot"]}, mdata.obs)


def _written(make: Any = citeseq) -> Any:
    """The shared cells, also in ``in.h5mu``, beside an older ``old.h5mu``."""

    def made() -> MuData:
        mdata = make()
        with no_pull_on_update():
            mdata.write_h5mu("in.h5mu")
        Path("old.h5mu").write_text("an older result")
        return mdata

    return made


def _command(given: str, arguments: str, *names: str, says: str, make: Any = citeseq) -> Row:
    words = ", ".join(repr(word) for word in arguments.split())
    return Row(given, f"main(['run', {words}])", says, _written(make), status=2, names=names)


def _nullable(mdata: MuData) -> None:
    for adata in mdata.mod.values():
        adata.obs["donor"] = pd.array(["a", None] * 20, dtype="string")


def _cut_short() -> MuData:
    mdata = citeseq()
    with no_pull_on_update():
        mdata.write_h5mu("cut.h5mu")
    whole = Path("cut.h5mu").read_bytes()
    Path("cut.h5mu").write_bytes(whole[: len(whole) // 2])
    return mdata


SHORTLY = "--n-clusters 2 --max-epochs-pretrain 2 --max-epochs 1"


def _clusters_in(path: str) -> Any:
    import mudata

    def check(status: int, _: MuData) -> bool:
        with no_pull_on_update():
            return status == 0 and mudata.read_h5mu(path).obs["scmag"].notna().all()

    return check


COMMANDS = [
    _command(
        "a file that is cut short",
        f"cut.h5mu -o out.h5mu {SHORTLY}",
        r"cut\.h5mu",
        says="names the file.",
        make=_cut_short,
    ),
    _command("no such file", "none.h5mu -o out.h5mu", "none.h5mu", says="names the file."),
    _command("no such folder", "in.h5mu -o none/out.h5mu", "none", says="names the folder."),
    _command(
        "output and input are one file",
        f"in.h5mu -o in.h5mu {SHORTLY}",
        "in.h5mu",
        says="names the file; it is not overwritten.",
    ),
    _command(
        "the report would overwrite the input",
        f"in.h5mu -o out.h5mu --report in.h5mu {SHORTLY}",
        "in.h5mu",
        says="names the file.",
    ),
    _command(
        "the output is there already",
        f"in.h5mu -o old.h5mu {SHORTLY}",
        "old.h5mu",
        says="names the file and the option that overwrites.",
    ),
    _command("no MuData in the file", f"old.h5mu -o out.h5mu {SHORTLY}", "old.h5mu", says="names the file."),
    _command(
        "no such column", f"in.h5mu -o out.h5mu --batch-key plate {SHORTLY}", "'plate'", says="names option and column."
    ),
    _command(
        "no such labels", f"in.h5mu -o out.h5mu --labels types {SHORTLY}", "'types'", says="names option and column."
    ),
    _command("no such layer", f"in.h5mu -o out.h5mu --layer raw {SHORTLY}", "'raw'", says="names the layer."),
    _command(
        "more clusters than cells",
        "in.h5mu -o out.h5mu --n-clusters 41",
        "n_clusters",
        "40",
        says="says how many cells there are.",
    ),
    _command("no epochs", "in.h5mu -o out.h5mu --n-clusters 2 --max-epochs 0", "max.epochs", says="names the option."),
    Row(
        "a full disk",
        f"main('run in.h5mu -o out.h5mu {SHORTLY}'.split())",
        "says so in one line; no half file is left.",
        _written(),
        status=2,
        names=("No space left",),
    ),
    works(
        "a good file",
        f"main('run in.h5mu -o out.h5mu {SHORTLY}'.split())",
        _clusters_in("out.h5mu"),
        make=_written(),
        says="The output has clusters; the input is as before.",
    ),
    works(
        "a file with a column of nullable strings",
        f"main('run in.h5mu -o out.h5mu {SHORTLY}'.split())",
        _clusters_in("out.h5mu"),
        make=_written(changed(_nullable)),
        says="The output has clusters; the input is as before.",
    ),
]

TABLE: dict[str, list[Row]] = {"The model": MODEL, "Files and the command line": COMMANDS}
