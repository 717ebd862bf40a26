"""Every row of the table of odd inputs: a typed error that names what is wrong, or the right result; nothing else changes."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
import pandas as pd
import pytest

import scmag_muon as smm
from scmag_muon._cli import main
from tests.checksum import changed, checksums, freeze
from tests.odd.models import model
from tests.odd.page import DOCS, PAGES, pages
from tests.odd.rows import TABLE
from tests.odd.table import SHORT, Row

if TYPE_CHECKING:
    from mudata import MuData


def name(row: Row) -> str:
    return f"{row.given} - {row.call}"


ROWS = [pytest.param(row, id=name(row)) for rows in TABLE.values() for row in rows]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def run(code: str, names: dict[str, Any]) -> Any:
    """The value of a call, as it stands on the page."""
    return eval(compile(code, code, "eval"), names)


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the calls may speak of; they run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return {"smm": smm, "np": np, "pd": pd, "mudata": mudata, "main": main, "short": SHORT, "model": None}


@pytest.mark.filterwarnings("ignore::anndata.ImplicitModificationWarning")
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.filterwarnings("ignore::ImportWarning")  # of what muon imports
@pytest.mark.parametrize("row", ROWS)
def test_row(
    row: Row, names: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if re.search(r"(?<![.\w])model\b", row.call):
        names["model"] = model()
    if row.given == "a full disk":
        fill_the_disk(monkeypatch)
    mdata = row.make()
    freeze(mdata)
    names["mdata"] = mdata
    before, before_files = checksums(mdata), files(tmp_path)
    if row.error is not None:
        with pytest.raises(row.error) as caught:
            run(row.call, names)
        assert type(caught.value) is row.error
        check_message(str(caught.value), row.names)
        untouched(before, mdata, before_files, tmp_path)
    elif row.status:
        assert run(row.call, names) == row.status
        check_message(capsys.readouterr().err, row.names)
        untouched(before, mdata, before_files, tmp_path)
    else:
        result = run(row.call, names)
        assert row.check(result, mdata)
        assert {slot for slot in changed(before, mdata) if not slot.startswith(tuple(row.writes) or "\0")} == set()
        assert {name for name, content in before_files.items() if files(tmp_path).get(name) != content} == set()
    if row.fix:
        exec(row.fix, names)
        run(row.call, names)


def fill_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let writing a MuData stop in the middle, as a full disk does."""
    write = mudata.MuData.write_h5mu

    def half(self: MuData, path: Path, *args: Any, **kwargs: Any) -> None:
        write(self, path, *args, **kwargs)
        if "scmag" in self.obs:
            with Path(path).open("rb+") as file:
                file.truncate(1000)
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(mudata.MuData, "write_h5mu", half)


def check_message(message: str, patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        assert re.search(pattern, message), f"{pattern!r} is not in: {message}"


def untouched(before: dict[str, str], mdata: MuData, before_files: dict[str, bytes], folder: Path) -> None:
    assert changed(before, mdata) == set()
    assert checksums(mdata).keys() == before.keys()
    assert files(folder) == before_files


@pytest.mark.skipif(not DOCS.exists(), reason="the docs are not part of the installed package")
def test_the_pages_are_the_table() -> None:
    found = {f"odd_inputs/{path.name}" for path in (DOCS / "odd_inputs").glob("*.md")} | {"odd_inputs.md"}
    assert {name: (DOCS / name).read_text(encoding="utf-8") for name in found} == pages(), (
        "run python -m tests.odd.page"
    )


def test_each_section_is_on_one_page() -> None:
    assert sorted(section for _, sections in PAGES.values() for section in sections) == sorted(TABLE)


def test_every_public_function_takes_part() -> None:
    calls = " ".join(row.call for rows in TABLE.values() for row in rows)
    for room in ("datasets", "metrics", "pl", "pp", "tl"):
        for name in getattr(smm, room).__all__:
            assert f"smm.{room}.{name}(" in calls, f"no row calls smm.{room}.{name}"


def test_there_are_many_rows() -> None:
    assert len(ROWS) >= 80
