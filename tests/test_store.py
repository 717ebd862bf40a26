from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scmag_muon._mudata import check_writable, make_mudata, write_mudata

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData


def column(values: Any, slot: str = "obs") -> Callable[[MuData], None]:
    def put(mdata: MuData) -> None:
        frame = mdata.obs if slot == "obs" else mdata["rna"].var
        frame["odd"] = list(values) * (len(frame) // len(values)) if isinstance(values, list) else values

    return put


def uns(value: Any) -> Callable[[MuData], None]:
    return lambda mdata: mdata.uns.update(odd=value)


ODD: dict[str, tuple[Callable[[MuData], None], str]] = {
    "mixed": (column([1, "a"]), "mdata.obs['odd']"),
    "mixed in var": (column([1, "a"], "var"), "mdata['rna'].var['odd']"),
    "dates": (column(pd.Timestamp("2020-01-01")), "mdata.obs['odd']"),
    "True and None": (column([True, None]), "mdata.obs['odd']"),
    "mixed categories": (column(pd.Categorical([1, "a"] * 60)), "mdata.obs['odd']"),
    "NUL": (column(["a\0b", "c"]), "mdata.obs['odd']"),
    "half a character": (column(["\ud800", "c"]), "mdata.obs['odd']"),
    "_index": (lambda mdata: mdata.obs.insert(0, "_index", 1), "mdata.obs"),
    "number as a name": (lambda mdata: mdata["rna"].obs.insert(0, 5, 1), "mdata['rna'].obs"),
    "tuple": (uns((1, 2)), "mdata.uns['odd']"),
    "set": (uns({"deep": {1}}), "mdata.uns['odd']['deep']"),
    "number as a key": (uns({1: 2}), "mdata.uns['odd'][1]"),
    "objects": (lambda mdata: mdata.obsm.update(odd=np.array([[1, "a"]] * 120, dtype=object)), "mdata.obsm['odd']"),
}


@pytest.mark.parametrize("case", ODD)
def test_what_can_not_be_written_is_named_and_the_fix_works(citeseq: MuData, tmp_path: Path, case: str) -> None:
    put, where = ODD[case]
    put(citeseq)
    path = tmp_path / "out.h5mu"
    with pytest.raises(ValueError, match="can't be written to a file") as raised:
        check_writable(citeseq, path)
    message = str(raised.value)
    assert message.startswith(f"{where} ")
    assert list(tmp_path.iterdir()) == []
    fix = re.search(r"(?:del )?mdata[^ ]*(?: = .*)?\.$", message).group()[:-1]
    exec(fix, {"mdata": citeseq})
    check_writable(citeseq, path)
    write_mudata(citeseq, path)
    assert mudata.read_h5mu(path).n_obs == 120


@pytest.mark.parametrize("slot", ["obsm", "layers"])
def test_names_with_a_slash_would_be_unreadable(citeseq: MuData, tmp_path: Path, slot: str) -> None:
    getattr(citeseq["rna"], slot)["a/b"] = np.zeros((120, 60))
    with pytest.raises(ValueError, match=rf"mdata\['rna'\]\.{slot}\['a/b'\] can't be written"):
        check_writable(citeseq, tmp_path / "out.h5mu")


def test_zarr_takes_no_slash_in_a_column(citeseq: MuData, tmp_path: Path) -> None:
    citeseq.obs["a/b"] = 1
    with pytest.raises(ValueError, match=r"mdata\.obs can't be written"):
        check_writable(citeseq, tmp_path / "out.zarr")


@pytest.mark.parametrize("suffix", [".h5mu", ".zarr"])
def test_strings_that_may_be_missing(citeseq: MuData, tmp_path: Path, suffix: str) -> None:
    citeseq["rna"].var.index = citeseq["rna"].var.index.astype("string")
    citeseq.obs["text"] = pd.array(["a", None] * 60, dtype="string")
    path = tmp_path / f"out{suffix}"
    check_writable(citeseq, path)
    write_mudata(citeseq, path)
    back = mudata.read_h5mu(path) if suffix == ".h5mu" else mudata.read_zarr(path)
    assert list(back["rna"].var_names) == list(citeseq["rna"].var_names)
    assert back.obs["text"].isna().sum() == 60


def test_too_little_space(citeseq: MuData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10**6}))
    check_writable(citeseq, tmp_path / "out.h5mu")
    with pytest.raises(OSError, match="needs at least 25 MB, but the disk has 1 MB left"):
        check_writable(citeseq, tmp_path / "out.h5mu", further_bytes=10**8)


def test_the_ending_says_the_format(citeseq: MuData, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"out\.h5ad: the ending says the format"):
        write_mudata(citeseq, tmp_path / "out.h5ad")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_while_writing_reaches_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raised inside HDF5 it would be lost."""
    mdata = make_mudata({"rna": AnnData(np.ones((3, 2), dtype=np.float32))})
    path, whole = tmp_path / "cells.h5mu", mudata.MuData.write_h5mu
    path.write_text("old")
    handler = signal.getsignal(signal.SIGINT)

    def interrupted(self: MuData, draft: Any, **arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        whole(self, draft, **arguments)

    monkeypatch.setattr(mudata.MuData, "write_h5mu", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_mudata(mdata, path)
    assert signal.getsignal(signal.SIGINT) is handler
    assert [file.name for file in tmp_path.iterdir()] == ["cells.h5mu"]
    assert path.read_text() == "old"


def test_a_link_to_a_file_of_another_kind_is_not_followed(citeseq: MuData, tmp_path: Path) -> None:
    other, link = tmp_path / "counts.csv", tmp_path / "out.h5mu"
    other.write_text("mine")
    link.symlink_to(other)
    with pytest.raises(ValueError, match=r"out.h5mu is a link to .*counts.csv, which is no .h5mu"):
        write_mudata(citeseq, link)
    assert other.read_text() == "mine"
