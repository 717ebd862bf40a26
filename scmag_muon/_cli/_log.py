"""What is told: on the screen, and with ``--log`` in a file too."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scmag_muon._bars import hidden

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGE = logging.getLogger("scmag_muon")
_SAID = "said"
"""Attribute of what has been printed."""


def say(text: str) -> None:
    """Print; noted in the log file where there is one. What a screen has no letters for is written in codes.

    Where it can't be printed, as into a pipe that was closed or a file on a full disk, the run goes on without.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        print(text.encode(encoding, errors="backslashreplace").decode(encoding), flush=True)
    except OSError:
        with (
            contextlib.suppress(OSError),
            Path(os.devnull).open("w") as nowhere,
        ):  # what is left in the buffer goes there
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
    _PACKAGE.info(text, extra={_SAID: True})


@contextlib.contextmanager
def logged_to(path: Path | None, *, append: bool = False) -> Iterator[None]:
    """Write what the package says and prints to a file, where one is named, and show its warnings on the screen as ever.

    Where no terminal shows the progress, lines that tell of it take its place.
    """
    screen = logging.StreamHandler()
    screen.setLevel(logging.INFO if hidden(shown=True) else logging.WARNING)
    screen.addFilter(lambda record: not hasattr(record, _SAID))
    handlers: list[logging.Handler] = [screen]
    if path is not None:
        file = logging.FileHandler(path, mode="a" if append else "w", encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        handlers.append(file)
    level, propagate = _PACKAGE.level, _PACKAGE.propagate
    _PACKAGE.setLevel(logging.INFO)
    _PACKAGE.propagate = propagate and path is None  # else a handler of the root logger shows each warning twice
    for handler in handlers:
        _PACKAGE.addHandler(handler)
    try:
        yield
    except BaseException:
        if path is not None:
            error = _PACKAGE.makeRecord(_PACKAGE.name, logging.ERROR, "", 0, "ended by an error", (), sys.exc_info())
            file.handle(error)
        raise
    finally:
        for handler in handlers:
            _PACKAGE.removeHandler(handler)
            handler.close()
        _PACKAGE.setLevel(level)
        _PACKAGE.propagate = propagate
