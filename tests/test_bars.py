from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest

from scmag_muon._bars import hidden


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "shell", "expected"),
    [
        (Terminal(), None, False),
        (io.StringIO(), None, True),
        (None, None, True),  # pythonw
        (io.StringIO(), SimpleNamespace(kernel=object()), False),  # a notebook
        (io.StringIO(), SimpleNamespace(), True),  # IPython with its output in a file
    ],
)
def test_bars_are_seen_in_terminals_and_notebooks(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | None, shell: object, *, expected: bool
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert hidden(shown=True) is expected
    assert hidden(shown=False)


def test_there_may_be_no_ipython(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert hidden(shown=True)
