"""Commands, and what their end looks like: 0, 2 with one line for the user's mistake, 130 where interrupted."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from scmag_muon._cli._log import logged_to
from scmag_muon._cli._options import make_parser

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

_LONGEST_LINE = 1000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, 2 where data or an argument is wrong, 130 where interrupted."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if not hasattr(arguments, "command"):
        parser.print_help()
        return 0
    try:
        arguments.command(arguments)
    except (ValueError, KeyError, TypeError, OSError, ImportError, MemoryError) as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        written = getattr(arguments, "written", [])
        print(f"interrupted, {' and '.join(map(str, written)) or 'nothing'} written", file=sys.stderr)
        return 130
    return 0


def _one_line(error: BaseException) -> str:
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    if isinstance(error, OSError) and error.errno:
        text = f"{os.strerror(error.errno)}" + (f": {error.filename}" if error.filename else "")
    if isinstance(error, MemoryError):
        text = f"There is not enough memory. {text}"
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]} ..."


def _demo(arguments: argparse.Namespace) -> None:
    from scmag_muon._cli._demo import demo  # slow to import: --help and --version do without

    _draw_without_screen()
    demo(arguments)


def _run(arguments: argparse.Namespace) -> None:
    from scmag_muon._cli._run import check_paths, goes_on, run

    check_paths(arguments)
    _logged(run, arguments, append=goes_on(arguments))


def _map(arguments: argparse.Namespace) -> None:
    from scmag_muon._cli._map import check_map_paths, map_cells

    check_map_paths(arguments)
    _logged(map_cells, arguments)


def _logged(
    command: Callable[[argparse.Namespace], None], arguments: argparse.Namespace, *, append: bool = False
) -> None:
    arguments.written = []
    _draw_without_screen()
    with logged_to(arguments.log, append=append):
        command(arguments)


def _draw_without_screen() -> None:
    """Pictures go into files; what ``MPLBACKEND`` names, as in a shell of Jupyter, may be missing or need a screen."""
    import matplotlib as mpl

    mpl.use("agg")


def _parser() -> argparse.ArgumentParser:
    return make_parser({"demo": _demo, "run": _run, "map": _map})
