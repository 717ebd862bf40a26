"""Draw the picture of the docs' quality page from ``results/quality.json``; ``tables.py`` calls it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import results
from tables import ROOT, SETS

if TYPE_CHECKING:
    from pathlib import Path

PICTURE = ROOT / "docs" / "_static" / "quality.png"
KEY = "Description"
METHODS = (
    "scmag_muon",
    "no network, fitted",
    "no network, unfitted",
    "WNN",
    "both side by side",
    "totalVI",
    "MultiVI",
    "MOFA+",
    "RNA alone",
    "second modality alone",
)
_OWN = 3  # the first methods are of this package
_COLORS = {"own": "#D55E00", "Leiden": "#0072B2"}
Drawn = dict[str, dict[str, tuple[float, float]]]


def renew() -> bool:
    """Draw it anew if it is of other values."""
    from PIL import Image

    values = drawn()
    with Image.open(PICTURE) as picture:
        if picture.info.get(KEY) == digest(values):
            return False
    draw(values, PICTURE)
    return True


def drawn() -> Drawn:
    """ARI at the published K and its standard deviation over seeds: of each set, each method, clusters of its own or by Leiden."""
    found: Drawn = {name: {} for name in SETS}
    for row in results.records(results.FOLDER / "quality.json"):
        method = row["pipeline"].removesuffix(", Leiden")
        if row["set"] in SETS and row["k"] == "0" and method in METHODS:
            found[row["set"]][method] = (row["ARI"], row["ARI sd"] or 0.0)
    everywhere = [method for method in METHODS if all(method in found[name] for name in SETS)]
    found["mean"] = {method: (sum(found[name][method][0] for name in SETS) / len(SETS), 0.0) for method in everywhere}
    return found


def digest(values: Drawn) -> str:
    """What is stored in the picture, so that a test sees whether it is of these values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def draw(values: Drawn, path: Path) -> None:
    """Six panels, large enough for a page of 700 pixels."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    shown = [method for method in METHODS if any(method in of_set for of_set in values.values())]
    figure, axes = plt.subplots(2, 3, figsize=(7.5, 5.4), sharex=True, sharey=True, layout="constrained")
    for ax, (name, of_set) in zip(axes.flat, values.items(), strict=True):
        _panel(ax, of_set, shown, "mean of the five sets" if name == "mean" else SETS[name].replace(", two", ",\ntwo"))
    axes[0, 0].set_ylim(len(shown) - 0.5, -0.5)
    axes[0, 0].set_xlim(-0.05, 1.05)
    axes[0, 0].set_xticks([0, 0.5, 1])
    for ax in axes[:, 0]:
        ax.set_yticks(range(len(shown)), shown)
    for ax in axes[1]:
        ax.set_xlabel("adjusted Rand index (ARI)")
    figure.savefig(path, dpi=150, metadata={KEY: digest(values)})
    plt.close(figure)


def _panel(ax: Any, of_set: dict[str, tuple[float, float]], shown: list[str], title: str) -> None:
    for position, method in enumerate(shown):
        if method in of_set:
            own = method in METHODS[:_OWN]
            mean, sd = of_set[method]
            color = _COLORS["own" if own else "Leiden"]
            ax.errorbar(mean, position, xerr=sd, fmt="D" if own else "o", color=color, markersize=5, capsize=2)
    ax.set_title(title, fontsize=9, loc="left")
    ax.tick_params(labelsize=9, length=2)
    ax.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
