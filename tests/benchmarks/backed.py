"""Peak memory and clusters of a file read into memory beside the same file opened backed, each in a process of its own.

Run with ``python tests/benchmarks/backed.py FILE.h5mu --batch-key batch --output FOLDER``. The seed is the same, so clusters have to
be. Peaks hold Python and all libraries. Layers are not written: they would be in memory in either case.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import mudata
import pandas as pd
import results
from common import markdown
from sklearn.metrics import adjusted_rand_score

import scmag_muon as smm
from scmag_muon._mudata import no_pull_on_update

COMMAND = "python tests/benchmarks/backed.py FILE.h5mu --batch-key batch --output FOLDER --results tests/benchmarks/results/backed.json"
WAYS = {"read into memory": None, "opened backed": "r"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--batch-key")
    parser.add_argument("--output", type=Path, default=Path("backed"), help="folder of results")
    parser.add_argument("--results", type=Path, help="JSON file of the docs' table to put the rows into")
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    if arguments.child:
        print(json.dumps(_measured(arguments)))
        return
    rows, labels = [], {}
    for way in WAYS:
        command = [sys.executable, __file__, *sys.argv[1:], "--child", way]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        labels[way] = pd.read_csv(_labels(arguments, way), index_col=0).iloc[:, 0]
        agreement = adjusted_rand_score(labels["read into memory"], labels[way].loc[labels["read into memory"].index])
        rows.append({"set": arguments.file.stem, "file": way, **found, "ARI with memory": agreement})
    print(markdown(pd.DataFrame(rows).set_index("set"), "set"))
    if arguments.results:
        results.merge(arguments.results, rows, command=COMMAND, n_keys=2)


def _measured(arguments: argparse.Namespace) -> dict[str, Any]:
    logging.getLogger("scmag_muon").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    with no_pull_on_update():
        mdata = mudata.read_h5mu(arguments.file, backed=WAYS[arguments.child])
    smm.tl.scmag(mdata, batch_key=arguments.batch_key, write_layers="none", progress_bar=False)
    mdata.obs["scmag"].astype(str).to_csv(_labels(arguments, arguments.child))
    return {"peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}


def _labels(arguments: argparse.Namespace, way: str) -> Path:
    return arguments.output / f"{arguments.file.stem}-{way.replace(' ', '_')}.csv"


if __name__ == "__main__":
    main()
