"""Where a progress bar is seen."""

from __future__ import annotations

import sys


def hidden(*, shown: bool) -> bool:
    """Whether to hide a bar: it was not asked for, or neither a terminal nor a notebook shows it. A log file does not."""
    if not shown:
        return True
    if sys.stderr is not None and sys.stderr.isatty():
        return False
    # a notebook's stream says that it is no terminal
    ipython = sys.modules.get("IPython")
    return not hasattr(None if ipython is None else ipython.get_ipython(), "kernel")
