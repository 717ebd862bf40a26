"""Tables of README and docs, and the picture of the quality page, made of the JSON files in ``results/``.

``python tests/benchmarks/tables.py`` renews what stands between ``<!-- table: NAME -->`` and ``<!-- end table -->`` in README and
docs; ``--check`` says which pages are out of date. NAME is one of ``VIEWS``, or a file in ``results/``.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import render
import results

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ROOT = Path(__file__).parents[2]
SETS = {
    "teaseq_pbmc_rna_adt": "TEA-seq (11 types)",
    "pbmc10k_citeseq": "PBMC 10k (7)",
    "pbmc10k_5k_citeseq_2batch": "PBMC 10k + 5k, two batches (7)",
    "scicar_kidney_rna_atac": "sci-CAR kidney (14)",
    "pairedtag_h3k27me3_rna_histone": "Paired-Tag (20)",
}
FURTHER_SETS = {"bmmc_cite": "bone marrow, CITE-seq", "bmmc_multiome": "bone marrow, multiome"}
_SHORT = {name: re.sub(r" \(.*", "", shown) for name, shown in {**SETS, **FURTHER_SETS}.items()}
_MEAN_OF_FIVE = "mean of five sets"
_BLOCK = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end table -->)", re.S)
_OF_OURS = ("scmag_muon", "no network")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 where a page is out of date")
    old = [page for page in pages() if filled(text := page.read_text(encoding="utf-8")) != text]
    if parser.parse_args().check:
        sys.exit(f"Out of date: {', '.join(str(page.relative_to(ROOT)) for page in old)}" if old else 0)
    for page in old:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
        print(f"renewed {page.relative_to(ROOT)}")
    import quality_picture

    if quality_picture.renew():
        print(f"drew {quality_picture.PICTURE.relative_to(ROOT)}")


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def filled(text: str) -> str:
    """The page with its tables as the results have them."""
    return _BLOCK.sub(lambda block: f"{block[1]}{table(block[2])}\n{block[3]}", text)


def table(name: str) -> str:
    return VIEWS[name]() if name in VIEWS else plain(name)


def plain(name: str) -> str:
    """A results file as it is, a row a row."""
    found = results.read(results.FOLDER / f"{name}.json")
    rows = [[_SHORT.get(str(row[0]), row[0]), *row[1:-1]] for row in found["rows"]]
    return render.table(found["columns"], rows, [row[-1] for row in found["rows"]], found["command"])


def _by_set(measure: str, k: str = "0", sets: dict[str, str] = SETS) -> str:
    """A measure at one K: a row for each pipeline, a column for each set, and the mean where there is each of them."""
    found = [row for row in _quality() if row["k"] == k and row["set"] in sets and row.get(measure) is not None]
    shown = {}
    for pipeline in dict.fromkeys(row["pipeline"] for row in found):
        of_set = {row["set"]: row for row in found if row["pipeline"] == pipeline}
        cells = [render.cell(of_set.get(name), measure, clusters=k == "unknown") for name in sets]
        mean = statistics.fmean(row[measure] for row in of_set.values()) if len(of_set) == len(sets) else None
        shown[pipeline] = ([pipeline, *cells, mean], [row["measured"] for row in of_set.values()])
    order = sorted(shown, key=lambda pipeline: -(shown[pipeline][0][-1] or -1))
    columns = [f"{measure}, mean ± sd over seeds", *sets.values(), "mean"]
    measured = [_oldest(pipeline, shown[pipeline][1]) for pipeline in order]
    return render.table(columns, [shown[pipeline][0] for pipeline in order], measured, _command("quality"))


def _summary() -> str:
    """Means over the five sets, each method with Leiden or clusters of its own."""
    columns = ["method", "ARI", "NMI", "macro F1", "ARI, K not given"]
    rows = []
    for pipeline in dict.fromkeys(row["pipeline"] for row in _quality()):
        means = [_mean(pipeline, *what) for what in (("ARI", "0"), ("NMI", "0"), ("F1", "0"), ("ARI", "unknown"))]
        if means[0] is not None and "k-means" not in pipeline:
            rows.append([pipeline.removesuffix(", Leiden"), *means])
    rows.sort(key=lambda row: -row[1])
    measured = [*(_pipeline_measured(str(row[0])) for row in rows), ""]
    return render.table(columns, [*rows, _ceiling()], measured, _command("quality"))


def _ceiling() -> list[Any]:
    """Who sees the types of the 15 nearest cells in the joint space."""
    found = [row for row in results.records(results.FOLDER / "transforms.json") if row["set"] in SETS]
    of_space = [row for row in found if row["space"].startswith("both modalities")]
    means = {measure: statistics.fmean(row[measure] for row in of_space) for measure in ("ARI", "F1")}
    return ["*ceiling: true types of the 15 nearest cells*", means["ARI"], None, means["F1"], None]


def _neighbours() -> str:
    """ARI from K - 2 to K + 3, mean over the five sets."""
    ks = ("-2", "-1", "0", "1", "2", "3")
    rows = []
    for pipeline in dict.fromkeys(row["pipeline"] for row in _quality()):
        means = [_mean(pipeline, "ARI", k) for k in ks]
        if sum(mean is not None for mean in means) > 1:
            rows.append([pipeline, *means])
    columns = ["ARI, mean of five sets", *("K − 2", "K − 1", "K", "K + 1", "K + 2", "K + 3")]
    return render.table(columns, rows, [_pipeline_measured(str(row[0])) for row in rows], _command("quality"))


def _no_network() -> str:
    """What the network and the fitting add, set by set."""
    rows, measured = [], []
    for name, shown in {**SETS, **FURTHER_SETS}.items():
        for k in ("0", "unknown"):
            of = {row["pipeline"]: row for row in _quality() if row["set"] == name and row["k"] == k}
            ways = ("scmag_muon", "no network, fitted", "no network, unfitted")
            if all(way in of for way in ways):
                rows.append(
                    [f"{shown}{', K not given' if k != '0' else ''}", *(render.cell(of[way], "ARI") for way in ways)]
                )
                measured.append(_oldest("scmag_muon", [of[way]["measured"] for way in ways]))
    columns = ["ARI", "with the network", "no network, fitted", "no network, not fitted"]
    return render.table(columns, rows, measured, _command("quality"))


def _rare_types() -> str:
    """Recall, precision and F1 of types of few cells, a column for each type."""
    found = [
        row
        for row in results.records(results.FOLDER / "quality_types.json")
        if row["set"] == "pbmc10k_citeseq" and row["k"] != "-2" and "k-means" not in row["pipeline"]
    ]
    types = dict.fromkeys((row["set"], row["type"]) for row in found)
    shown: dict[tuple[str, str], dict[tuple[str, str], dict[str, Any]]] = {}
    for row in found:
        shown.setdefault((row["pipeline"], row["k"]), {})[row["set"], row["type"]] = row
    rows, measured = [], []
    for (pipeline, k), of_type in shown.items():
        difference = {"0": "K", "unknown": "not given"}.get(k) or f"K + {k}".replace("+ -", "− ")
        cells = [_scores(of_type.get(each)) for each in types]
        rows.append([pipeline, difference, *cells])
        measured.append(next(iter(of_type.values()))["measured"])
    columns = ["method", "K", *(f"{name}, {_SHORT.get(of, of)}" for of, name in types)]
    return render.table(columns, rows, measured, _command("quality_types"))


def _scores(row: dict[str, Any] | None) -> str:
    scores = [] if row is None else [row[name] for name in ("recall", "precision", "F1") if row[name] is not None]
    return " / ".join(render.number(score) for score in scores) or render.NONE


def _three_numbers() -> str:
    """What the README shows."""
    speed = {row["what"]: row for row in results.records(results.FOLDER / "speed.json")}
    peers = [p for p in dict.fromkeys(row["pipeline"] for row in _quality()) if not p.startswith(_OF_OURS)]
    best = max((p for p in peers if _mean(p, "ARI") is not None), key=lambda p: _mean(p, "ARI") or 0)
    whole = speed["whole run over 400 epochs of totalVI"]
    fit = speed["`pp.manifold_fit` over WNN neighbours"]
    rows = [
        ["ARI, mean of five public sets", _mean("scmag_muon", "ARI"), f"{best}: {render.number(_mean(best, 'ARI'))}"],
        [
            "whole run, 6,855 cells, two cores",
            render.seconds(whole["first"]),
            f"totalVI: {render.seconds(whole['second'])}",
        ],
        [
            "`pp.manifold_fit` of these cells",
            render.seconds(fit["first"]),
            f"WNN neighbours: {render.seconds(fit['second'])}",
        ],
    ]
    return render.lines(["", "scmag_muon", "other methods"], rows)


def _performance() -> str:
    """The figures of a whole run, with names for users."""
    speed = {row["what"]: row for row in results.records(results.FOLDER / "speed.json")}
    shown = {
        "whole run": ("whole run over 400 epochs of totalVI", "totalVI, default training"),
        "`pp.manifold_fit`": ("`pp.manifold_fit` over WNN neighbours", "WNN neighbours"),
    }
    rows = [
        [what, render.seconds(speed[row]["first"]), f"{other}: {render.seconds(speed[row]['second'])}"]
        for what, (row, other) in shown.items()
    ]
    for n_obs in ("10,000", "30,000", "100,000"):
        seconds = render.seconds(speed[f"`pp.manifold_fit` of {n_obs} simulated cells"]["first"])
        rows += [[f"`pp.manifold_fit`, {n_obs} cells", seconds, render.NONE]]
    memory = {part: speed[f"peak memory beyond libraries and data, {part}, MB"]["ratio"] for part in ("whole", "wnn")}
    rows.append(
        ["peak memory beyond libraries and data", f"{memory['whole']} MB", f"WNN neighbours: {memory['wnn']} MB"]
    )
    measured = [speed["whole run over 400 epochs of totalVI"]["measured"]]
    return render.table(["", "scmag_muon", "other methods"], rows, measured * len(rows), _command("speed"))


def _of_queries(split: str, measure: str, which: str) -> str:
    """A measure of mapping queries: a row for each method, a column for each set, and the mean where there is each of them."""
    found = [row for row in _queries() if row["split"] == split and _what(row["query"]) == which]
    sets = [name for name in {**SETS, **FURTHER_SETS} if any(row["set"] == name for row in found)]
    rows = []
    for method in dict.fromkeys(row["method"] for row in found):
        of_set = {row["set"]: row for row in found if row["method"] == method and row[measure] is not None}
        mean = statistics.fmean(row[measure] for row in of_set.values()) if len(of_set) == len(sets) else None
        if of_set:
            rows.append([method, *(render.cell(of_set.get(name), measure) for name in sets), mean])
    columns = [f"{measure.replace('_', ' ')}, {which}", *(_SHORT[name] for name in sets), "mean"]
    return render.table(columns, rows, [""] * len(rows), _command("queries"))


def _query_summary() -> str:
    """Means over the sets of which a fifth was held out."""
    asked = [
        ("accuracy", "full"),
        ("macro_f1", "full"),
        ("macro_f1", "RNA alone"),
        ("macro_f1", "half"),
        ("ece", "full"),
    ]
    asked += [("ece", "RNA alone"), ("unknown", "full"), ("unknown", "half")]
    found = [row for row in _queries() if row["split"] == "fifth"]
    n_sets = len({row["set"] for row in found})
    rows = []
    for method in dict.fromkeys(row["method"] for row in found):
        values = []
        for measure, which in asked:
            of = [row[measure] for row in found if row["method"] == method and _what(row["query"]) == which]
            values.append(statistics.fmean(of) if len(of) == n_sets and None not in of else None)
        rows.append([method, *values])
    columns = [
        "method",
        *(f"{measure.replace('_', ' ').replace('ece', 'calibration error')}, {w}" for measure, w in asked),
    ]
    return render.table(columns, rows, [""] * len(rows), _command("queries"))


def _other_batches() -> str:
    """Whole batches as queries: accuracy, macro F1 and calibration error."""
    found = [row for row in _queries() if row["split"] == "batch" and ", " not in row["query"]]
    asked = list(dict.fromkeys((row["set"], row["query"]) for row in found))
    rows = []
    for method in dict.fromkeys(row["method"] for row in found):
        of = {(row["set"], row["query"]): row for row in found if row["method"] == method}
        cells = [" / ".join(render.cell(of.get(each), m) for m in ("accuracy", "macro_f1", "ece")) for each in asked]
        rows.append([method, *cells])
    columns = ["method", *(f"{_SHORT.get(name, 'blood, mosaic')}, {query}" for name, query in asked)]
    return render.table(columns, rows, [""] * len(rows), _command("queries"))


def _lesser_batches() -> str:
    """Accuracy of whole batches as queries of which less was measured than of the reference."""
    found = [
        row for row in _queries() if row["split"] == "batch" and row["method"] in ("scmag_muon", "logistic regression")
    ]
    rows: dict[tuple[str, str, str], dict[str, float]] = {}
    for row in found:
        query = row["query"].partition(", ")[0]
        part = _what(row["query"]) if ", " in row["query"] else "full"
        rows.setdefault((row["set"], query, row["method"]), {})[part] = row["accuracy"]
    table = [
        [f"{_SHORT.get(name, 'blood, mosaic')}, {query}", method, *(of.get(part) for part in _PARTS)]
        for (name, query, method), of in rows.items()
        if len(of) > 1
    ]
    return render.table(["query", "method", *_PARTS.values()], table, [""] * len(table), _command("queries"))


_PARTS = {
    "full": "as measured",
    "third": "a third of the counts",
    "panels": "half of the second's features, ten panels",
}


def _what(query: str) -> str:
    """Which part of what was measured a query has."""
    if ", " in query:
        return next((part for part in ("third", "panels") if part in query), "half")
    return "full" if "+" in query else "RNA alone" if query == "rna" else "second alone"


def _queries() -> list[dict[str, Any]]:
    return results.records(results.FOLDER / "queries.json")


VIEWS: dict[str, Callable[[], str]] = {
    "quality_ari": lambda: _by_set("ARI"),
    "quality_nmi": lambda: _by_set("NMI"),
    "quality_f1": lambda: _by_set("F1"),
    "quality_unknown": lambda: _by_set("ARI", "unknown"),
    "quality_further_sets": lambda: _by_set("ARI", sets=FURTHER_SETS),
    "quality_summary": _summary,
    "quality_neighbours": _neighbours,
    "no_network": _no_network,
    "rare_types": _rare_types,
    "three_numbers": _three_numbers,
    "performance_summary": _performance,
    "queries_summary": _query_summary,
    "queries_f1": lambda: _of_queries("fifth", "macro_f1", "full"),
    "queries_f1_rna": lambda: _of_queries("fifth", "macro_f1", "RNA alone"),
    "queries_novel": lambda: _of_queries("type", "novel_auroc", "full"),
    "queries_novel_rna": lambda: _of_queries("type", "novel_auroc", "RNA alone"),
    "queries_batches": _other_batches,
    "queries_lesser": _lesser_batches,
}


def _quality() -> list[dict[str, Any]]:
    return results.records(results.FOLDER / "quality.json")


def _command(name: str) -> str:
    return results.read(results.FOLDER / f"{name}.json")["command"]


def _mean(pipeline: str, measure: str, k: str = "0") -> float | None:
    """Over the five sets, or as it was noted for all of them."""
    found = {
        row["set"]: row[measure]
        for row in _quality()
        if row["pipeline"] == pipeline and row["k"] == k and row.get(measure) is not None
    }
    if all(name in found for name in SETS):
        return statistics.fmean(found[name] for name in SETS)
    return found.get(_MEAN_OF_FIVE)


def _pipeline_measured(pipeline: str) -> str:
    rows = [row for row in _quality() if row["pipeline"].removesuffix(", Leiden") == pipeline.removesuffix(", Leiden")]
    return _oldest(pipeline, [row["measured"] for row in rows if row["k"] == "0" and row["set"] in SETS])


def _oldest(pipeline: str, measured: Iterable[str]) -> str:
    """Other methods do not change with the code of this package."""
    return results.EARLIER if pipeline.startswith(_OF_OURS) and results.EARLIER in set(measured) else ""


if __name__ == "__main__":
    main()
