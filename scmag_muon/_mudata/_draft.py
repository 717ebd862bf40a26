"""A file that HDF5 writes to, and that it can always close."""

from __future__ import annotations

import contextlib
import io
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Draft(io.FileIO):
    """A file that notes the first failure to write and goes on in silence: HDF5 ends Python where it can't close a file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self._path = path
        self.failure: BaseException | None = None

    def __fspath__(self) -> str:
        return str(self._path)

    def has_failed(self) -> bool:
        """Whether a write has failed, so that the rest is in vain."""
        return self.failure is not None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while len(rest) and self.failure is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.failure = error
        return size

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size or 0

    @contextlib.contextmanager
    def noting_interrupts(self) -> Iterator[None]:
        """Take Ctrl-C for a failure to write: raised inside HDF5 it would be lost, or become another error."""
        handler = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or not callable(handler):
            yield
            return

        def note(number: int, frame: object) -> None:
            self.failure = self.failure or KeyboardInterrupt()

        signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, handler)
