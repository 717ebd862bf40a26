"""Options of the command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from scmag_muon._versions import version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Show defaults, but not where there is none."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)


def make_parser(functions: Mapping[str, Callable[[argparse.Namespace], None]]) -> argparse.ArgumentParser:
    """The parser of the command line; ``functions`` do what the commands say."""
    parser = argparse.ArgumentParser(prog="scmag-muon", description="Clusters of cells from all their modalities.")
    parser.add_argument("--version", action="version", version=f"scmag-muon {version_of('scmag-muon')}")
    commands = parser.add_subparsers(metavar="COMMAND")
    for name, add in (("demo", _add_demo), ("run", _add_run), ("map", _add_map)):
        add(commands).set_defaults(command=functions[name])
    return parser


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    text = "simulate CITE-seq data, cluster them, compare with the truth"
    demo = commands.add_parser("demo", help=text, description=text, formatter_class=_Help)
    demo.add_argument(
        "-o", "--output", type=Path, default=Path(), metavar="DIR", help="folder where demo.h5mu and demo.png go"
    )
    demo.add_argument("--force", action="store_true", help="replace demo.h5mu and demo.png where they exist")
    demo.add_argument("--n-obs", type=int, default=1000, metavar="N", help="cells to simulate")
    demo.add_argument("--random-state", type=int, default=0, metavar="SEED", help="seed of everything random")
    return demo


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    text = "cluster the cells of a file with raw counts of one or more modalities"
    run = commands.add_parser("run", help=text, description=text, formatter_class=_Help)
    run.add_argument(
        "input",
        type=Path,
        metavar="IN",
        help="MuData (.h5mu, .zarr), 10x matrix (.h5, or a folder with matrix.mtx), or AnnData (.h5ad) with var['feature_types'] or with "
        "proteins in obsm",
    )
    files = _add_files(run, "clusters")
    files.add_argument("--report", type=Path, metavar="REPORT.html", help="also write a page with figures and tables")
    files.add_argument(
        "--csv",
        type=Path,
        metavar="FOLDER",
        help="also write clusters.csv, cluster_summary.csv and markers.csv (features that stand out in a cluster) to this folder",
    )
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
    return run


def _add_map(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
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
    files = _add_files(mapping, "results")
    _add_layers(files, ("none", "denoised"), "denoised and imputed counts, or none")
    data = mapping.add_argument_group("data")
    data.add_argument(
        "--labels", nargs="+", metavar="COLUMN", help="columns of the reference to transfer (default: none)"
    )
    data.add_argument("--batch-key", metavar="COLUMN", help="column of batches of the query (default: none is moved)")
    _add_counts(data)
    return mapping


def _add_files(command: argparse.ArgumentParser, held: str) -> argparse._ArgumentGroup:
    """The group of files to write, with what every command that reads cells has."""
    files = command.add_argument_group("files to write")
    files.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help=f"MuData with {held}; ends in .h5mu or .zarr"
    )
    files.add_argument("--log", type=Path, metavar="FILE", help="also write what is printed and logged to this file")
    files.add_argument("--force", action="store_true", help="replace files that exist (the input never)")
    files.add_argument(
        "--key-added",
        default="scmag",
        metavar="NAME",
        help="name of the results in OUT, as where IN holds others already",
    )
    return files


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
