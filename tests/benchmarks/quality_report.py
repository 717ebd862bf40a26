"""Tables and picture of what ``quality.py`` keeps: ``quality.csv``, ``quality_types.csv``, ``quality.md``, ``quality.png``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import results
from common import markdown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

# in the order of the picture
NAMES = {
    "scmag": "scmag_muon",
    "scmag_paper": "scmag_muon, paper's settings",
    "no_network_fitted": "no network, fitted",
    "no_network_unfitted": "no network, unfitted",
    "totalvi": "totalVI",
    "multivi": "MultiVI",
    "mofa": "MOFA+",
    "wnn": "WNN",
    "concat": "both side by side",
    "second": "second modality alone",
    "rna_pca": "RNA alone",
}
OURS = ("scmag", "scmag_paper", "no_network_fitted", "no_network_unfitted")
KINDS = {"": "RNA", "protein": "RNA+protein", "atac": "RNA+ATAC", "protein+atac": "RNA+protein+ATAC"}
PREFACE = """Agreement with known labels, mean ± sd over seeds; cells without a label are fitted and not scored. Seconds are wall
time in a fresh process without imports and reading, but with numba's compilation, and grow with whatever else the machine
does; CPU seconds do not. Peak MB is of the whole process, imports included."""
NEIGHBOURS = ("-2", "-1", "0", "1", "2", "3")
_STYLES = {"own": ("#D55E00", "D", "its own clusters"), "k-means": ("#0072B2", "o", "k-means")} | {
    "Leiden": ("#009E73", "s", "Leiden, resolution searched for K")
}
_RARE = 0.01
_FEWEST = 20
_COMMAND = "python tests/benchmarks/quality.py FILES --output FOLDER --results tests/benchmarks/results/quality.json"
_KEY = ["set", "method", "options", "own_k"]


def report(
    folder: Path, labels: str, sets: Collection[str], max_epochs: int | None = None, kept: Path | None = None
) -> None:
    """Write and print what is kept, whatever there is of it."""
    found = _results(folder, labels, sets, max_epochs)
    if not found:
        print(f"{folder} holds no result for these labels and files.")
        return
    table = pd.DataFrame([row for result in found for row in _rows(result)])
    table.drop(columns="types").to_csv(folder / "quality.csv", index=False)
    types = [
        {**{key: row[key] for key in ("set", "pipeline", "seed", "k")}, "type": name, **values}
        for row in table.to_dict("records")
        if row["k"] in ("-2", "0", "2", "3", "unknown")
        for name, values in row["types"].items()
    ]
    pd.DataFrame(types).to_csv(folder / "quality_types.csv", index=False)
    text = "\n\n".join([PREFACE, *(f"## {title}\n\n{markdown(shown)}" for title, shown in _tables(table))]) + "\n"
    (folder / "quality.md").write_text(text)
    print(text)
    if kept is not None:
        results.merge(kept, _summed(table), command=_COMMAND, n_keys=3)
        of_types = _summed_types(pd.DataFrame(types))
        if of_types:
            results.merge(kept.with_stem(f"{kept.stem}_types"), of_types, command=_COMMAND, n_keys=4)
    at_k = table[table["k"] == "0"]
    if not at_k.empty:
        _draw(at_k, folder / "quality.png")


def _results(folder: Path, labels: str, sets: Collection[str], max_epochs: int | None) -> list[dict[str, Any]]:
    """The newest result of each run: the code of our own methods may have changed since older ones."""
    newest: dict[str, dict[str, Any]] = {}
    found = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    for result in sorted(found, key=lambda result: result["finished"]):
        asked = result["labels"] == labels and (not sets or result["set"] in sets)
        if asked and result["options"]["max_epochs"] == max_epochs:
            newest[json.dumps([result[key] for key in _KEY], sort_keys=True)] = result
    return sorted(newest.values(), key=lambda result: (result["set"], list(NAMES).index(result["method"])))


def _rows(result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    name, batch_key = NAMES[result["method"]], result["options"]["batch_key"]
    name += "" if batch_key in (None, "batch") else f" [{batch_key}]"
    for score in result["scores"]:
        yield {
            "set": result["set"],
            "second": result["second"],
            "method": result["method"],
            "name": name,
            "clustering": score["clustering"],
            "pipeline": name if score["clustering"] == "own" else f"{name}, {score['clustering']}",
            "seed": result["options"]["seed"],
            "k": str(score["k"]),
            "k_asked": None if score["k"] == "unknown" else result["published_k"] + score["k"],
            **{key: score.get(key) for key in ("n_clusters", "ARI", "NMI", "AMI", "F1", "types")},
            # another K trained on a fit that is there has a time that does not compare
            **{
                key: result[key] if result["own_k"] in (None, 0) else None
                for key in ("seconds", "cpu_seconds", "peak_mb")
            },
            "threads": result["threads"],
        }


def _summed(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean and standard deviation over seeds; k-means at the published K only, to keep the file small."""
    shown = table[(table["clustering"] != "k-means") | (table["k"] == "0")]
    groups = shown.groupby(["set", "pipeline", "k"], sort=False)
    summed = groups[["seed"]].nunique().rename(columns={"seed": "seeds"})
    for measure in ("ARI", "NMI", "F1"):
        summed[measure], summed[f"{measure} sd"] = groups[measure].mean(), groups[measure].std()
    summed["clusters"] = groups["n_clusters"].apply(_range)
    summed["seconds"] = groups["seconds"].mean().round()
    return summed.reset_index().to_dict("records")


def _summed_types(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Types of at least 20 cells but fewer than a hundredth of those with a label, mean over seeds."""
    if table.empty:
        return []
    n_cells = table.groupby(["set", "pipeline", "seed", "k"])["n_cells"].transform("sum")
    rare = table["n_cells"].ge(_FEWEST) & table["n_cells"].lt(_RARE * n_cells)
    groups = table[rare].groupby(["set", "pipeline", "k", "type"], sort=False)
    return groups[["n_cells", "recall", "precision", "F1"]].mean().reset_index().to_dict("records")


def _tables(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    at_k, unknown = table[table["k"] == "0"], table[table["k"] == "unknown"]
    for name, of_set in at_k.groupby("set", sort=False):
        yield f"{name}, K = {int(of_set['k_asked'].iloc[0])}", _of_set(of_set)
    if not at_k.empty:
        yield "Mean over sets at the published K (n/m: on n of m sets)", _over_sets(at_k)
        yield "ARI at neighbouring K, mean over sets", _neighbours(table)
    for name, of_set in table[table["set"].isin(at_k["set"])].groupby("set", sort=False):
        yield f"ARI at neighbouring K, {name}", _neighbours(of_set)
    yield "K unknown: ARI (number of clusters)", _unknown(unknown)


def _of_set(table: pd.DataFrame) -> pd.DataFrame:
    groups = table.groupby("pipeline", sort=False)
    order = groups["ARI"].mean().sort_values(ascending=False).index
    shown = {measure: groups[measure].apply(_mean_sd) for measure in ("ARI", "NMI", "AMI", "F1")}
    shown["clusters"] = groups["n_clusters"].apply(_range)
    shown["seconds"] = groups["seconds"].mean().map("{:.0f}".format)
    shown["CPU s"] = groups["cpu_seconds"].mean().map("{:.0f}".format)
    shown["peak MB"] = groups["peak_mb"].mean().map("{:.0f}".format)
    shown["seeds"] = groups["seed"].nunique()
    return pd.DataFrame(shown).loc[order]


def _over_sets(table: pd.DataFrame) -> pd.DataFrame:
    parts = {KINDS.get(kind, kind): of_kind for kind, of_kind in table.groupby("second", sort=False)}
    if len(parts) > 1:
        parts["all"] = table
    order = table.groupby("pipeline")["ARI"].mean().sort_values(ascending=False).index
    shown = {
        f"{part} {measure}": _mean_of_sets(rows, measure)
        for part, rows in parts.items()
        for measure in ("ARI", "NMI", "F1")
    }
    return pd.DataFrame(shown).reindex(order).fillna("–")


def _mean_of_sets(table: pd.DataFrame, measure: str) -> pd.Series:
    by_set = table.groupby(["pipeline", "set"])[measure].mean().unstack()
    n_sets = by_set.notna().sum(axis=1)
    partial = np.where(n_sets < by_set.shape[1], [f" ({n}/{by_set.shape[1]})" for n in n_sets], "")
    return by_set.mean(axis=1).map("{:.3f}".format) + partial


def _neighbours(table: pd.DataFrame) -> pd.DataFrame:
    by_set = table[table["k"].isin(NEIGHBOURS)].groupby(["pipeline", "k", "set"])["ARI"].mean()
    means = by_set.groupby(["pipeline", "k"]).mean().unstack()
    means = means.reindex(columns=[k for k in NEIGHBOURS if k in means]).sort_values("0", ascending=False)
    means.columns = ["K" if k == "0" else f"K{int(k):+d}" for k in means]
    shown = means.map(lambda value: "–" if np.isnan(value) else f"{value:.3f}")
    shown["sets"] = table.groupby("pipeline")["set"].nunique().reindex(shown.index)
    return shown


def _unknown(table: pd.DataFrame) -> pd.DataFrame:
    if table.empty:
        return pd.DataFrame()
    groups = table.groupby(["pipeline", "set"], sort=False)
    shown = (groups["ARI"].apply(_mean_sd) + " (" + groups["n_clusters"].apply(_range) + ")").unstack().fillna("–")
    shown["mean"] = _mean_of_sets(table, "ARI")
    return shown.loc[table.groupby("pipeline")["ARI"].mean().sort_values(ascending=False).index]


def _mean_sd(values: pd.Series) -> str:
    return f"{values.mean():.3f}" + (f" ± {values.std():.3f}" if len(values) > 1 else "")


def _range(values: pd.Series) -> str:
    low, high = values.min(), values.max()
    return f"{low}" if low == high else f"{low}-{high}"


def _draw(table: pd.DataFrame, path: Path) -> None:
    """A row of dots per method, a column per set: the large one is the mean over seeds, small ones are the seeds."""
    mpl.use("agg")
    import matplotlib.pyplot as plt

    sets, measures = list(table["set"].unique()), ("ARI", "NMI")
    names = list(table.sort_values("method", key=lambda m: m.map(list(NAMES).index))["name"].unique())
    ours = set(table.loc[table["method"].isin(OURS), "name"])
    figure, axes = plt.subplots(
        len(measures),
        len(sets) + 1,
        figsize=(2.3 * (len(sets) + 1) + 2.2, len(measures) * (0.3 * len(names) + 0.9) + 0.6),
        sharex="row",
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    for row, measure in zip(axes, measures, strict=True):
        for ax, name in zip(row, [*sets, None], strict=True):
            _dots(
                ax,
                table if name is None else table[table["set"] == name],
                measure,
                names,
                n_sets=len(sets),
                mean=name is None,
            )
            for position in (i for i, method in enumerate(names) if method in ours):
                ax.axhspan(position - 0.5, position + 0.5, color="#F6E3D8", zorder=0, linewidth=0)
            ax.set_title(_title(name), fontsize=8, loc="left")
            ax.set_xlabel(measure, fontsize=8)
            ax.tick_params(labelsize=8, length=2)
            ax.grid(axis="x", color="#DDDDDD", linewidth=0.6)
            ax.set_axisbelow(True)
            ax.spines[["top", "right"]].set_visible(False)
        row[0].set_yticks(range(len(names)), names)
        for label in row[0].get_yticklabels():
            label.set_fontweight("bold" if label.get_text() in ours else "normal")
    axes[0, 0].set_ylim(len(names) - 0.5, -0.5)
    handles = [
        plt.Line2D([], [], color=color, marker=marker, linestyle="", label=label)
        for key, (color, marker, label) in _STYLES.items()
        if key in set(table["clustering"])
    ]
    handles.append(
        plt.Line2D([], [], color="#555555", marker="o", mfc="none", linestyle="", label="mean of some sets only")
    )
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _dots(ax: Any, table: pd.DataFrame, measure: str, names: list[str], *, n_sets: int, mean: bool) -> None:
    for (name, clustering), rows in table.groupby(["name", "clustering"]):
        color, marker, _ = _STYLES[clustering]
        position = names.index(name) + {"k-means": -0.15, "Leiden": 0.15}.get(clustering, 0.0)
        by_set = rows.groupby("set")[measure].mean()
        if not mean and len(rows) > 1:
            ax.plot(rows[measure], [position] * len(rows), marker, color=color, markersize=2.5, alpha=0.5)
        filled = color if not mean or len(by_set) == n_sets else "none"
        ax.plot(by_set.mean(), position, marker, color=color, mfc=filled, markersize=6, clip_on=False)


def _title(name: str | None) -> str:
    return "mean over sets" if name is None else name.replace("_", " ", 1).replace("_", "\n", 1).replace("_", " ")
