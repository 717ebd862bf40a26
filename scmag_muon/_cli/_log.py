"""What is told: on the screen, and with ``--log`` in a file too."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PACKAGE = logging.getLogger("scmag_muon")


def say(text: str) -> None:
    """Print; noted in the log file where there is one."""
    print(text)
    _PACKAGE.info(text)


@contextlib.contextmanager
def logged_to(path: Path | None) -> Iterator[None]:
    """Write what the package says and prints to a file, where one is named, and show its warnings on the screen as ever."""
    if path is None:
        yield
        return
    screen = logging.StreamHandler()
    screen.setLevel(logging.WARNING)
    file = logging.FileHandler(path, mode="w", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level, propagate = _PACKAGE.level, _PACKAGE.propagate
    _PACKAGE.setLevel(logging.INFO)
    _PACKAGE.propagate = False  # else a handler of the root logger shows each warning twice
    for handler in (screen, file):
        _PACKAGE.addHandler(handler)
    try:
        yield
    except BaseException:
        file.handle(_PACKAGE.makeRecord(_PACKAGE.name, logging.ERROR, "", 0, "ended by an error", (), sys.exc_info()))
        raise
    finally:
        for handler in (screen, file):
            _PACKAGE.removeHandler(handler)
            handler.close()
        _PACKAGE.setLevel(level)
        _PACKAGE.propagate = propagate
