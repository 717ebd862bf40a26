"""Names that matplotlib would take for formulas or hide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pytest

import scmag_muon as smm
from scmag_muon.pl import _draw

if TYPE_CHECKING:
    from mudata import MuData


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("T cells", "T cells"),
        ("$x^2$", r"\$x^2\$"),
        (r"a\b$", r"a\b\$"),
        ("50 % {CD4}_low", "50 % {CD4}_low"),
        ("_private", " _private"),
        ("two\nlines\t", "two lines"),
        ("", '""'),
        ("клетки 细胞", "клетки 细胞"),
        ("a" * 300, "a" * 14 + "…" + "a" * 13),
        (3, "3"),
    ],
)
def test_names_are_drawn_letter_by_letter(name: object, shown: str) -> None:
    assert _draw.text(name) == shown


def test_pictures_of_names_with_formulas(finished: MuData) -> None:
    names = [r"$\frac{T$", r"$\nosuch$", "_B_{cells}", "N" * 300]
    finished.obs["scmag"] = finished.obs["scmag"].cat.rename_categories(dict(zip("0123", names, strict=True)))
    finished.obs["of"] = finished.obs["scmag"]
    smm.tl.markers(finished, groupby="of")
    for axes in (
        smm.pl.markers(finished),
        smm.pl.overview(finished, labels="of"),
        smm.pl.entropy(finished),
    ):
        ax = np.ravel(axes)[0]
        ax.get_figure(root=True).canvas.draw()  # raises where a formula can't be read
        plt.close("all")
