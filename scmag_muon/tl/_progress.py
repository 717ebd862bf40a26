"""A bar over what comes before training."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from scmag_muon._bars import hidden

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@contextlib.contextmanager
def stages(names: Sequence[str], *, shown: bool) -> Iterator[Callable[[], None]]:
    """What is called when each of the stages begins; one line of a terminal or notebook, none of a log file."""
    bar = tqdm(total=len(names), unit="stage", disable=hidden(shown=shown))
    left = iter(names)

    def begin() -> None:
        name = next(left)
        bar.update(list(names).index(name) - bar.n)
        bar.set_description(f"scMAG {name}")

    try:
        yield begin
        bar.update(len(names) - bar.n)
    finally:
        bar.close()
