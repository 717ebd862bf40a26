"""Figure 4 of the paper: what each idea contributes, on labelled files over several seeds.

Run with ``python tests/benchmarks/ablations.py FILE.h5mu [FILE.h5mu ...] --seeds 3 --output FOLDER``. Each run is kept in
the folder and not repeated while data, settings and code stay the same.
"""

from __future__ import annotations

import argparse
import gc
import time
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import mudata
import pandas as pd
import results
from common import kept, known

import scmag_muon as smm
from scmag_muon._mudata import no_pull_on_update

VARIANTS: dict[str, tuple[str, ...]] = {
    "all ideas": (),
    "no manifold fitting": ("manifold",),
    "no two-stage fusion": ("two_stage",),
    "no gate": ("gate",),
    "none of them": ("manifold", "two_stage", "gate"),
}
COMMAND = "python tests/benchmarks/ablations.py FILES --output FOLDER --results tests/benchmarks/results/ablations.json"
MEASURES = ("ARI", "NMI", "AMI")


def main() -> None:
    arguments = _arguments()
    arguments.output.mkdir(parents=True, exist_ok=True)
    found = [
        {"set": file.stem, "variant": variant, "seed": seed, **_cached(file, variant, seed, arguments)}
        for file in arguments.files
        for variant in arguments.variants
        for seed in range(arguments.seeds)
    ]
    table = pd.DataFrame(found)
    table.to_csv(arguments.output / "ablations.csv", index=False)
    print("| set | variant | " + " | ".join(MEASURES) + " | seeds |\n|" + "---|" * (len(MEASURES) + 3))
    for (name, variant), runs in table.groupby(["set", "variant"], sort=False):
        cells = [f"{runs[measure].mean():.3f} ± {runs[measure].std():.3f}" for measure in MEASURES]
        print(f"| {name} | {variant} | " + " | ".join(cells) + f" | {len(runs)} |")
    if arguments.results:
        results.merge(arguments.results, summed(table), command=COMMAND, n_keys=2)
    print("\nMean over the sets")
    print(table.groupby("variant", sort=False)[list(MEASURES)].mean().round(3).to_string())
    _draw(table, arguments.output / "ablations.png")


def summed(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean and standard deviation over seeds."""
    groups = table.groupby(["set", "variant"], sort=False)
    rows = groups[["seed"]].nunique().rename(columns={"seed": "seeds"})
    for measure in ("ARI", "NMI", "F1"):
        rows[measure], rows[f"{measure} sd"] = groups[measure].mean(), groups[measure].std()
    return rows.reset_index().to_dict("records")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="MuData files with raw counts")
    parser.add_argument("--labels", default="cell_type", help="column of known labels")
    parser.add_argument("--variants", nargs="+", choices=tuple(VARIANTS), default=tuple(VARIANTS), metavar="VARIANT")
    parser.add_argument("--settings", choices=("default", "paper"), default="default")
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true", help="of matrix products")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("ablations"), help="folder of results")
    parser.add_argument("--results", type=Path, help="JSON file of the docs' table to put the rows into")
    return parser.parse_args()


def _cached(file: Path, variant: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    settings = {key: getattr(arguments, key) for key in ("labels", "settings", "precision")} | {"seed": seed}
    found = kept(arguments.output, file, variant, settings, partial(_run, file, variant, seed, arguments))
    print(f"{file.stem}, {variant}, seed {seed}: ARI {found['ARI']:.3f}", flush=True)
    return found


def _run(file: Path, variant: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    with no_pull_on_update():
        mdata = mudata.read_h5mu(file)
    labels = mdata.obs[arguments.labels]
    n_clusters = known(labels).nunique()
    started = time.perf_counter()
    smm.tl.scmag(
        mdata,
        n_clusters=n_clusters,
        ablate=VARIANTS[variant],
        settings=arguments.settings,
        precision=arguments.precision,
        batch_key="batch" if "batch" in mdata.obs else None,
        random_state=seed,
        progress_bar=False,
    )
    seconds = time.perf_counter() - started
    scores = smm.metrics.clustering_scores(labels, mdata.obs["scmag"])
    scores["F1"] = float(smm.metrics.type_scores(labels, mdata.obs["scmag"])["F1"].mean())
    del mdata
    gc.collect()  # an AnnData and its layers hold each other
    return {**scores, "seconds": seconds}


def _draw(table: pd.DataFrame, path: Path) -> None:
    mpl.use("agg")
    import matplotlib.pyplot as plt

    sets, variants = table["set"].unique(), list(table["variant"].unique())
    figure, axes = plt.subplots(
        len(sets), len(MEASURES), figsize=(11, 1.9 * len(sets) + 0.5), sharey=True, layout="constrained", squeeze=False
    )
    for row, name in zip(axes, sets, strict=True):
        of_set = table[table["set"] == name]
        for ax, measure in zip(row, MEASURES, strict=True):
            for position, variant in enumerate(variants):
                values = of_set.loc[of_set["variant"] == variant, measure]
                ax.barh(position, values.mean(), color="#0072B2" if position == 0 else "#9AB8CC")
                ax.plot(values, [position] * len(values), "o", color="#333333", markersize=3)
            ax.set_yticks(range(len(variants)), variants)
            ax.set_xlim(left=0)
            ax.set_title(f"{name}: {measure}", loc="left", fontsize=9)
            ax.spines[["top", "right"]].set_visible(False)
        row[0].invert_yaxis()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
