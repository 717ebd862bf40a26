"""Options, and what a command's end looks like: 0, 2 with one line for the user's mistake, 130 where interrupted."""

from __future__ import annotations

import argparse
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from scmag_muon._cli._log import logged_to

if TYPE_CHECKING:
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


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Show defaults, but not where there is none."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)


def _version() -> str:
    try:
        return version("scmag-muon")
    except PackageNotFoundError:
        return "of unknown version"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scmag-muon", description="Clusters of cells from all their modalities.")
    parser.add_argument("--version", action="version", version=f"scmag-muon {_version()}")
    commands = parser.add_subparsers(metavar="COMMAND")
    _add_demo(commands)
    _add_run(commands)
    _add_map(commands)
    return parser


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "simulate CITE-seq data, cluster them, compare with the truth"
    demo = commands.add_parser("demo", help=text, description=text, formatter_class=_Help)
    demo.add_argument(
        "-o", "--output", type=Path, default=Path(), metavar="DIR", help="folder where demo.h5mu and demo.png go"
    )
    demo.add_argument("--force", action="store_true", help="replace demo.h5mu and demo.png where they exist")
    demo.add_argument("--n-obs", type=int, default=1000, metavar="N", help="cells to simulate")
    demo.add_argument("--random-state", type=int, default=0, metavar="SEED", help="seed of everything random")
    demo.set_defaults(command=_demo)


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "cluster the cells of a file with raw counts of one or more modalities"
    run = commands.add_parser("run", help=text, description=text, formatter_class=_Help)
    run.add_argument(
        "input",
        type=Path,
        metavar="IN",
        help="MuData (.h5mu, .zarr), 10x matrix (.h5, or a folder with matrix.mtx), or AnnData (.h5ad) with var['feature_types'] or with "
        "proteins in obsm",
    )
    files = run.add_argument_group("files to write")
    files.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="MuData with clusters; ends in .h5mu or .zarr"
    )
    files.add_argument("--report", type=Path, metavar="REPORT.html", help="also write a page with figures and tables")
    files.add_argument(
        "--csv",
        type=Path,
        metavar="FOLDER",
        help="also write clusters.csv, cluster_summary.csv and markers.csv (features that stand out in a cluster) to this folder",
    )
    _add_log(files)
    files.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FOLDER",
        help="keep the state of the training in this folder, from which the same command goes on where it was killed; "
        "deleted once OUT is written",
    )
    files.add_argument(
        "--model",
        type=Path,
        metavar="FOLDER",
        help="also save the trained model to this folder, onto which `map` puts other cells",
    )
    _add_force(files)
    _add_layers(files, ("none", "fitted", "denoised", "all"), "denoised counts, fitted data, all (both), or none")
    data = run.add_argument_group("data")
    data.add_argument(
        "--modalities",
        nargs="+",
        metavar="NAME",
        help="names of the modalities (default: all that are RNA, proteins or ATAC)",
    )
    data.add_argument(
        "--kinds",
        nargs="+",
        action="extend",
        metavar="MODALITY=KIND",
        help="what a modality measures: rna, protein or atac, as in --kinds mod2=atac (default: recognised)",
    )
    _add_counts(data)
    data.add_argument(
        "--mask-var", metavar="COLUMN", help="column of var that chooses features (default: highly_variable)"
    )
    data.add_argument("--batch-key", metavar="COLUMN", help="column of batches (default: one batch)")
    data.add_argument("--labels", metavar="COLUMN", help="column of known labels to compare with (default: none)")
    data.add_argument(
        "--annotate",
        metavar="LIST",
        help="name the clusters by known markers: blood (human blood and bone marrow), or a CSV file with the columns type and "
        "feature (default: no names)",
    )
    model = run.add_argument_group("clustering")
    model.add_argument("--n-clusters", type=int, metavar="K", help="number of clusters (default: estimated)")
    model.add_argument(
        "--settings", choices=("default", "paper"), default="default", help="default, or the paper's configuration"
    )
    model.add_argument(
        "--max-epochs-pretrain",
        type=int,
        metavar="N",
        help="most epochs before clustering (default: 400, fewer above 50,000 cells)",
    )
    model.add_argument(
        "--max-epochs",
        type=int,
        metavar="N",
        help="most epochs with clustering (default: 100, fewer above 50,000 cells)",
    )
    model.add_argument("--random-state", type=int, default=0, metavar="SEED", help="seed of everything random")
    run.set_defaults(command=_run)


def _add_map(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "put new cells onto a reference that `run --model` saved: clusters, coordinates, labels"
    mapping = commands.add_parser("map", help=text, description=text, formatter_class=_Help)
    mapping.add_argument(
        "input",
        type=Path,
        metavar="QUERY",
        help="raw counts of one or more of the reference's modalities, in the formats of `run`",
    )
    mapping.add_argument(
        "--reference", type=Path, required=True, metavar="FOLDER", help="folder of the reference's model"
    )
    files = mapping.add_argument_group("files to write")
    files.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="MuData with results; ends in .h5mu or .zarr"
    )
    _add_log(files)
    _add_force(files)
    _add_layers(files, ("none", "denoised"), "denoised and imputed counts, or none")
    data = mapping.add_argument_group("data")
    data.add_argument(
        "--labels", nargs="+", metavar="COLUMN", help="columns of the reference to transfer (default: none)"
    )
    data.add_argument("--batch-key", metavar="COLUMN", help="column of batches of the query (default: none is moved)")
    _add_counts(data)
    mapping.set_defaults(command=_map)


def _add_log(files: argparse._ArgumentGroup) -> None:
    files.add_argument("--log", type=Path, metavar="FILE", help="also write what is printed and logged to this file")


def _add_force(files: argparse._ArgumentGroup) -> None:
    files.add_argument("--force", action="store_true", help="replace files that exist (the input never)")


def _add_layers(files: argparse._ArgumentGroup, choices: Sequence[str], named: str) -> None:
    text = f"layers to write: {named}; they take most of the space"
    files.add_argument("--layers", choices=choices, default="none", help=text)


def _add_counts(data: argparse._ArgumentGroup) -> None:
    data.add_argument(
        "--layer",
        action="append",
        metavar="[MODALITY=]LAYER",
        help="layer of the raw counts, for all modalities or for one, as in --layer rna=counts; may be repeated (default: .X)",
    )
    data.add_argument(
        "--round-counts", action="store_true", help="round counts with decimals (SoupX, CellBender, alevin)"
    )
