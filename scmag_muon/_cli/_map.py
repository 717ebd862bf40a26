"""``map``: from a file of counts and a saved model to clusters and labels."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from scmag_muon import _mudata, tl
from scmag_muon._cli._log import say
from scmag_muon._cli._outputs import check_outputs, free_place
from scmag_muon._cli._read import read
from scmag_muon._cli._run import layers_by_modality
from scmag_muon._keys import Keys

if TYPE_CHECKING:
    import argparse

    from mudata import MuData

_BYTES_A_CELL = {"none": 0, "denoised": 40_000}


def map_cells(arguments: argparse.Namespace) -> None:
    """Read, map, write; nothing is written before all is computed."""
    started = time.perf_counter()
    mdata = read(arguments.input)
    layer = layers_by_modality(arguments.layer, mdata)
    further_bytes = _BYTES_A_CELL[arguments.layers] * mdata.n_obs
    _mudata.check_writable(mdata, arguments.output, further_bytes=further_bytes)
    tl.map_query(
        mdata,
        arguments.reference,
        labels=arguments.labels,
        layer=layer,
        round_counts=arguments.round_counts,
        batch_key=arguments.batch_key,
        write_layers=arguments.layers,
        key_added=arguments.key_added,
    )
    output = free_place(arguments.output, force=arguments.force)
    _mudata.write_mudata(mdata, output)
    arguments.written.append(output)
    say(f"wrote {output}")
    say(_summary(mdata, arguments.labels or [], time.perf_counter() - started, arguments.key_added))


def check_map_paths(arguments: argparse.Namespace) -> None:
    """Raise where a path that ``map`` was given would lose something or can't be written."""
    _mudata.check_format(arguments.output, argument="-o")
    outputs = [("-o", arguments.output), *([] if arguments.log is None else [("--log", arguments.log)])]
    check_outputs(outputs, read=arguments.input, force=arguments.force)
    check_outputs(outputs, read=arguments.reference, force=arguments.force)


def _summary(mdata: MuData, labels: list[str], seconds: float, key: str) -> str:
    unlike = float((mdata.obs[Keys.unlikeness(key)] > 1).mean())
    lines = [mdata.obs[Keys.transferred(key, column)].value_counts().to_string() for column in labels]
    n_clusters = mdata.obs[key].nunique()
    lines.append(
        f"{mdata.n_obs} cells in {n_clusters} clusters of the reference, {unlike:.1%} unlike it, {seconds:.0f} s"
    )
    return "\n".join(lines)
