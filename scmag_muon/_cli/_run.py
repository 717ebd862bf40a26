"""``run``: from a file of counts to clusters."""

from __future__ import annotations

import logging
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import scmag_muon
from scmag_muon import _mudata, tl
from scmag_muon._cli._log import say
from scmag_muon._cli._outputs import Output, check_folder, check_outputs, free_place
from scmag_muon._cli._read import read
from scmag_muon._cli._tables import CSV_FILES, cluster_table, holds_tables, summary, write_csv
from scmag_muon._columns import known_labels
from scmag_muon._files import is_inside, same_file
from scmag_muon._report._report import check_page
from scmag_muon.model import SCMAG
from scmag_muon.model._checkpoint import FILE, forget
from scmag_muon.model._model_files import check_target
from scmag_muon.tl._marker_lists import listed_markers

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from mudata import MuData

logger = logging.getLogger(__name__)

_DENSEST = 10_000


def run(arguments: argparse.Namespace) -> None:
    """Check every path, read, cluster, write; nothing is written before all is computed."""
    started = time.perf_counter()
    mdata = read(arguments.input)
    seconds = {"reading": time.perf_counter() - started}
    if arguments.labels is not None:
        known_labels(mdata, arguments.labels, argument="--labels")
    layer = layers_by_modality(arguments.layer, mdata)
    kinds = pairs(arguments.kinds or (), mdata.mod, option="--kinds")
    _mudata.check_writable(mdata, arguments.output, further_bytes=_further_bytes(mdata, arguments.layers))

    started = time.perf_counter()
    model = tl.scmag(
        mdata,
        n_clusters=arguments.n_clusters,
        modalities=arguments.modalities,
        kinds=kinds or None,
        batch_key=arguments.batch_key,
        layer=layer,
        round_counts=arguments.round_counts,
        mask_var=arguments.mask_var,
        settings=arguments.settings,
        max_epochs_pretrain=arguments.max_epochs_pretrain,
        max_epochs=arguments.max_epochs,
        random_state=arguments.random_state,
        checkpoint=arguments.checkpoint,
        write_layers=arguments.layers,
        key_added=arguments.key_added,
        return_model=arguments.model is not None,
    )
    if arguments.annotate is not None:
        _name(mdata, arguments.annotate, arguments.key_added)
    seconds["clustering"] = time.perf_counter() - started
    started = time.perf_counter()
    _write_all(mdata, model, arguments)
    if arguments.checkpoint is not None:
        forget(arguments.checkpoint)
    seconds["writing"] = time.perf_counter() - started
    say(cluster_table(mdata, arguments.labels, key=arguments.key_added).to_string())
    say(summary(mdata, arguments.labels, seconds, key=arguments.key_added))


def check_paths(arguments: argparse.Namespace) -> None:
    """Raise where a path that ``run`` was given would lose something or can't be written."""
    _mudata.check_format(arguments.output, argument="-o")
    outputs = [("-o", arguments.output)]
    if arguments.report is not None:
        check_page(arguments.report)
        outputs.append(("--report", arguments.report))
    further: list[Output] = []
    if arguments.log is not None:
        (further if goes_on(arguments) else outputs).append(("--log", arguments.log))
    if arguments.csv is not None:
        check_folder("--csv", arguments.csv, read=arguments.input)
        tables = [("--csv", arguments.csv / name) for name in CSV_FILES]
        (outputs if arguments.csv.exists() else further).extend(tables)
    if arguments.model is not None:
        check_folder("--model", arguments.model, read=arguments.input)
        if arguments.model.exists() and not arguments.force:
            raise FileExistsError(f"--model {arguments.model} is there already. Give another name, or --force.")
        check_target(arguments.model, overwrite=True)
        further.append(("--model", arguments.model))
    if arguments.checkpoint is not None:
        check_folder("--checkpoint", arguments.checkpoint, read=arguments.input)
        for option, path in [*outputs, *further]:
            if is_inside(path, arguments.checkpoint) or same_file(path, arguments.checkpoint):
                raise ValueError(
                    f"{option} {path} lies in the folder of --checkpoint, which is deleted at the end. Give another name."
                )
        further.append(("--checkpoint", arguments.checkpoint))
    check_outputs(outputs, further=further, read=arguments.input, force=arguments.force)
    if arguments.annotate is not None:
        listed_markers(arguments.annotate)
        if find_spec("decoupler") is None:
            raise ImportError("--annotate needs decoupler. Install it with: pip install 'decoupler>=2'")


def goes_on(arguments: argparse.Namespace) -> bool:
    """Whether a run that was killed goes on from its checkpoint, so that its log goes on too."""
    return arguments.checkpoint is not None and (arguments.checkpoint / FILE).exists()


def _name(mdata: MuData, markers: str, key: str) -> None:
    """Name the clusters; where that can't be, the clusters are kept and the reason is told."""
    try:
        tl.annotate(mdata, markers=markers, key=key)
    except (ValueError, KeyError) as error:
        logger.warning("The clusters get no names: %s", error.args[0])


def layers_by_modality(asked: Sequence[str] | None, mdata: MuData) -> str | dict[str, str | None] | None:
    """The ``layer`` argument of :func:`scmag_muon.tl.scmag` from words like ``counts`` and ``rna=counts``."""
    plain = [each for each in asked or () if "=" not in each]
    named = pairs([each for each in asked or () if "=" in each], mdata.mod, option="--layer")
    for each in plain:
        name = each.partition(":")[0]
        if ":" in each and name in mdata.mod:
            raise ValueError(f"--layer {each}: write --layer {each.replace(':', '=', 1)} to name the layer of {name}.")
    if len(plain) > 1:
        raise ValueError(
            f"--layer is given {len(plain)} times for all modalities: {', '.join(plain)}. "
            + "Name the modality of each, as in "
            + " ".join(f"--layer {name}={each}" for name, each in zip(mdata.mod, plain, strict=False))
            + "."
        )
    if not named:
        return plain[0] if plain else None
    others: str | None = plain[0] if plain else None
    return {
        name: others if name not in named else None if named[name] in ("", "X") else named[name] for name in mdata.mod
    }


def pairs(words: Iterable[str], known: Mapping[str, Any], *, option: str) -> dict[str, Any]:
    """Values by modality from words like ``rna=counts``."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"{option} {word}: write the modality first, as in {option} {next(iter(known))}={word}.")
        if name not in known:
            raise KeyError(f"{option} {word} names the modality {name!r}, but the data have {list(known)}.")
        if name in found:
            raise ValueError(f"{option} names the modality {name!r} twice: {found[name]} and {value}.")
        found[name] = value
    return found


def _write_all(mdata: MuData, model: object, arguments: argparse.Namespace) -> None:
    """First what took the time, so that a failure of page or tables loses none of it."""
    force = arguments.force
    output = free_place(arguments.output, force=force)
    _mudata.write_mudata(mdata, output)
    _tell(arguments, output)
    if isinstance(model, SCMAG):
        folder = free_place(arguments.model, force=force)
        model.save(folder, overwrite=force)
        _tell(arguments, folder)
    if arguments.csv is not None:
        tables = free_place(arguments.csv, force=force, taken=holds_tables)
        for path in write_csv(mdata, tables, arguments.labels, key=arguments.key_added):
            _tell(arguments, path)
    if arguments.report is not None:
        page = free_place(arguments.report, force=force)
        _tell(arguments, scmag_muon.report(mdata, page, labels=arguments.labels, key=arguments.key_added))


def _tell(arguments: argparse.Namespace, path: Path) -> None:
    arguments.written.append(path)
    say(f"wrote {path}")


def _further_bytes(mdata: MuData, layers: str) -> int:
    values = mdata.n_obs * sum(min(adata.n_vars, _DENSEST) for adata in mdata.mod.values())
    return 4 * values * {"none": 0, "fitted": 1, "denoised": 1, "all": 2}[layers]
