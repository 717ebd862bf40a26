"""Agreement with known labels, time and memory of this package beside other methods, on labelled files over seeds.

Run with ``python tests/benchmarks/quality.py FILE.h5mu [FILE.h5mu ...] --seeds 3 --output FOLDER``. Each run has a process
of its own, is kept in the folder under its file's hash, method, seed and settings, and is not repeated. ``--summary-only``
makes the tables and the picture of what the folder holds, and ``--results tests/benchmarks/results/quality.json`` puts them
where ``tables.py`` makes the docs' tables of them. Neighbouring K of this package are cut from the tree of one training. F1 is the mean over types of the best cluster's F1 (``metrics.type_scores``).
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mudata
import numpy as np
from common import code_hash

from scmag_muon._mudata import modality_kind, modality_names, no_pull_on_update

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

PEERS = ("rna_pca", "second", "concat", "wnn", "mofa", "totalvi", "multivi")
OURS = ("scmag", "scmag_paper", "no_network_fitted", "no_network_unfitted")
A_RUN_FOR_EACH_K = ("scmag", "no_network_fitted", "no_network_unfitted")
MADE_FOR = {"totalvi": ("protein",), "multivi": ("atac", "protein+atac", "atac+protein")}
"""Kinds of the modalities beside RNA that a method takes, where these are not all."""
TAKES_RNA_ALONE = ("rna_pca", "scmag", "no_network_fitted", "no_network_unfitted")
BATCH_AWARE = ("totalvi", "multivi", *OURS)
OFFSETS = (0, -2, -1, 1, 2, 3)
UNKNOWN_K = "unknown"
OWN_K = (0, UNKNOWN_K)
_ERROR_LINES = 15


def main() -> None:
    arguments = _arguments()
    if arguments.child is not None:
        _child(json.loads(arguments.child))
        return
    arguments.output.mkdir(parents=True, exist_ok=True)
    if not arguments.summary_only:
        for seed in range(arguments.seeds):
            for file in arguments.files:
                described = _describe(file, arguments)
                for method in arguments.methods:
                    _run(described, method, seed, arguments)
    from quality_report import report

    sets = [file.stem for file in arguments.files]
    report(arguments.output, arguments.labels, sets, arguments.max_epochs, arguments.results)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="MuData files with raw counts")
    parser.add_argument("--labels", default="cell_type", help="column of known labels")
    parser.add_argument("--batch-key", help="column of batches; by default `batch` where there is one")
    parser.add_argument("--methods", nargs="+", choices=(*PEERS, *OURS), default=(*PEERS, *OURS), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--k",
        nargs="+",
        type=_k,
        default=OWN_K,
        help="K of scmag and of what has no network, as distances from the published number, or 'unknown'",
    )
    parser.add_argument("--summary-only", action="store_true", help="run nothing")
    parser.add_argument("--output", type=Path, default=Path("quality"), help="folder of results")
    parser.add_argument("--results", type=Path, help="JSON file of the docs' tables to put the rows into")
    parser.add_argument("--max-epochs", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def _describe(file: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """What must be known of a file to tell its runs apart."""
    with no_pull_on_update(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mdata = mudata.read_h5mu(file, backed="r")
    others = modality_names(mdata)[1:]
    batch_key = arguments.batch_key or ("batch" if "batch" in mdata.obs else None)
    described = {
        "file": str(file.resolve()),
        "set": file.stem,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "second": "+".join(modality_kind(name, mdata.mod[name]) for name in others),
        "batch_key": batch_key,
        "labels": arguments.labels,
    }
    mdata.file.close()
    return described


def _run(described: dict[str, Any], method: str, seed: int, arguments: argparse.Namespace) -> None:
    """Have a process do what is not kept yet: one run, or one for each K that a method of ours is asked for."""
    what = f"{described['set']}, {method}, seed {seed}"
    if not _is_made_for(method, described["second"]):
        print(f"{what}: not made for {described['second'] or 'RNA alone'}", flush=True)
        return
    options = {
        "seed": seed,
        "batch_key": described["batch_key"] if method in BATCH_AWARE else None,
        "max_epochs": arguments.max_epochs,
    }
    runs = [{"k": k, "stem": _stem(described, method, options, k)} for k in _own_k(method, arguments.k)]
    missing = [run for run in runs if not (arguments.output / f"{run['stem']}.json").exists()]
    if missing:
        task = {**described, "method": method, "options": options, "runs": missing, "threads": arguments.threads}
        _in_process({**task, "output": str(arguments.output.resolve())}, what)
    for run in runs:
        kept = arguments.output / f"{run['stem']}.json"
        if kept.exists():
            print(f"{what}{_k_text(run['k'])}: {_in_short(json.loads(kept.read_text()))}", flush=True)


def _is_made_for(method: str, others: str) -> bool:
    if not others:
        return method in TAKES_RNA_ALONE
    if method == "scmag_paper":
        return "+" not in others
    return others in MADE_FOR.get(method, (others,))


def _k(text: str) -> int | str:
    return text if text == UNKNOWN_K else int(text)


def _own_k(method: str, asked: Sequence[int | str]) -> Sequence[int | str | None]:
    """K is part of a run where each K has one: as a distance from the published number."""
    return asked if method in A_RUN_FOR_EACH_K else [None]


def _k_text(k: int | str | None) -> str:
    if k in (None, 0):
        return ""
    return ", K unknown" if k == UNKNOWN_K else f", K{k:+d}"


def _in_short(result: dict[str, Any]) -> str:
    scores = [s for s in result["scores"] if s["k"] in (0, result["own_k"])]
    agreement = ", ".join(f"{s['clustering']} ARI {s['ARI']:.3f}" for s in scores)
    return f"{agreement}; {result['seconds']:.0f} s, {result['peak_mb']:.0f} MB"


def _stem(described: dict[str, Any], method: str, options: dict[str, Any], k: int | str | None) -> str:
    settings = {"labels": described["labels"], "k": k, **options}
    if method in OURS:
        settings["code"] = code_hash()
    identity = json.dumps([described["sha256"], method, settings], sort_keys=True)
    return f"{described['set']}-{method}-{options['seed']}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def _in_process(task: dict[str, Any], what: str) -> None:
    """The peak of memory is a process's own only if the process is."""
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    done = subprocess.run(
        [sys.executable, __file__, "--child", json.dumps(task)],
        env={**os.environ, **dict.fromkeys(threads, str(task["threads"])), "PYTHONWARNINGS": "ignore"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = "\n".join(done.stderr.splitlines()[-_ERROR_LINES:])
        print(f"{what} failed with exit status {done.returncode}:\n{tail}", file=sys.stderr, flush=True)


def _child(task: dict[str, Any]) -> None:
    warnings.simplefilter("ignore")
    import peers
    import scvi
    import torch

    torch.set_num_threads(task["threads"])
    options = peers.Options(**task["options"])
    scvi.settings.seed = options.seed
    np.random.seed(options.seed)  # noqa: NPY002 - muon's SVD draws from the global state
    with no_pull_on_update():
        mdata = mudata.read_h5mu(task["file"])
        labels = mdata.obs[task["labels"]]
        known = (labels.notna() & (labels != "unknown")).to_numpy()
        published = labels[known].nunique()
        for run in task["runs"]:
            meter = _Meter()
            work = _peer if task["method"] in PEERS else _own
            embedding, clusterings = work(mdata, task["method"], published, run["k"], options, meter)
            result = {
                **{key: task[key] for key in ("set", "sha256", "second", "labels", "method", "options", "threads")},
                "own_k": run["k"],
                "published_k": published,
                **dataclasses.asdict(meter),
                "scores": [
                    {"clustering": how, "k": k, **_scores(labels, found)} for (how, k), found in clusterings.items()
                ],
                "finished": time.time(),
            }
            arrays = {f"{how} {k}": found.astype(np.int16) for (how, k), found in clusterings.items()}
            if embedding is not None:
                arrays["embedding"] = np.asarray(embedding, dtype=np.float32)
            _keep(Path(task["output"]) / run["stem"], result, arrays)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@dataclasses.dataclass
class _Meter:
    """Time and peak memory of a block of work; the peak is that of the process so far."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0
    before_mb: float = dataclasses.field(default_factory=_peak_mb)

    def __enter__(self) -> _Meter:
        self._started = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds, self.cpu_seconds = time.perf_counter() - self._started[0], time.process_time() - self._started[1]
        self.peak_mb = _peak_mb()


def _peer(mdata: Any, method: str, published: int, _: Any, options: Any, meter: _Meter) -> tuple[Any, dict[Any, Any]]:
    import peers

    with meter:
        found = peers.PEERS[method](mdata, options)
    clusters = peers.Clusterings(found, published + max(OFFSETS), options.seed)
    clusterings = {}
    for offset in _offsets(published):
        clusterings["k-means", offset] = clusters.kmeans(published + offset)
        clusterings["Leiden", offset] = clusters.leiden(published + offset)
    clusterings["Leiden", UNKNOWN_K] = clusters.leiden(None)
    return clusters.embedding, clusterings


def _own(mdata: Any, method: str, published: int, k: Any, options: Any, meter: _Meter) -> tuple[Any, dict[Any, Any]]:
    import peers

    first = 0 if k is None else k
    with meter:
        labels, embedding = peers.OURS[method](mdata, None if first == UNKNOWN_K else published + first, options)
    found = {("own", first): labels}
    if method == "scmag" and first == 0:
        cuts = peers.cuts(mdata, [published + offset for offset in _offsets(published) if offset])
        found |= {("own", n_clusters - published): labels for n_clusters, labels in cuts.items()}
    return embedding, found


def _offsets(published: int) -> list[int]:
    return [offset for offset in OFFSETS if published + offset >= 1]


def _scores(labels: pd.Series, found: np.ndarray) -> dict[str, Any]:
    from scmag_muon.metrics import clustering_scores, type_scores

    true = labels.to_numpy(dtype=object)
    types = type_scores(true, found).drop(columns="cluster")
    return {
        **clustering_scores(true, found),
        "F1": float(types["F1"].mean()),
        "n_clusters": int(np.unique(found).size),
        "types": types.to_dict("index"),
    }


def _keep(stem: Path, result: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    np.savez_compressed(stem.parent / f"{stem.name}.npz", **arrays)
    partial = stem.parent / f"{stem.name}.json.part"
    partial.write_text(json.dumps(result))
    partial.rename(stem.parent / f"{stem.name}.json")


if __name__ == "__main__":
    main()
