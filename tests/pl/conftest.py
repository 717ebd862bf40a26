from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.testing.compare import compare_images
from matplotlib.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from matplotlib.figure import Figure

BASELINE = Path(__file__).with_name("baseline")
# root mean square of the difference, 0 to 255; other versions of matplotlib draw edges differently
TOLERANCE = 12


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    """Settings as matplotlib has them, for what other tests import may change them: decoupler does. No figure is left open."""
    with mpl.rc_context():
        mpl.rcdefaults()
        yield
    plt.close("all")


@pytest.fixture
def looks_right(tmp_path: Path) -> Callable[[Any, str], None]:
    """Nothing is cut off, no legend lies on data, and the picture without its text is the one in ``baseline/``.

    Text is compared by the tests themselves, since its pixels depend on the font. To draw the baselines anew, set
    SCMAG_MUON_BASELINE=1, and look at them.
    """

    def check(axes: Any, name: str) -> None:
        ax = axes.ravel()[0] if isinstance(axes, np.ndarray) else axes
        figure = ax.get_figure(root=True)
        figure.canvas.draw()
        _inside(figure)
        _legends_beside(figure)
        figure.set_layout_engine("none")
        for text in figure.findobj(Text):
            text.set_visible(False)
        path = tmp_path / f"{name}.png"
        figure.savefig(path, dpi=30)
        expected = BASELINE / path.name
        if os.environ.get("SCMAG_MUON_BASELINE"):
            BASELINE.mkdir(exist_ok=True)
            expected.write_bytes(path.read_bytes())
        assert expected.exists(), f"no baseline image {expected}"
        difference = compare_images(str(expected), str(path), TOLERANCE)
        assert difference is None, difference

    return check


def _inside(figure: Figure) -> None:
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    slack = 0.03  # inches
    assert box.x0 > -slack, "cut off at the left"
    assert box.y0 > -slack, "cut off at the bottom"
    assert box.x1 < width + slack, "cut off at the right"
    assert box.y1 < height + slack, "cut off at the top"


def _legends_beside(figure: Figure) -> None:
    legends = [ax.get_legend() for ax in figure.axes if ax.get_legend()] + list(figure.legends)
    for legend in legends:
        box = legend.get_window_extent()
        for ax in figure.axes:
            area = ax.get_window_extent()
            across = min(box.x1, area.x1) - max(box.x0, area.x0)
            along = min(box.y1, area.y1) - max(box.y0, area.y0)
            assert min(across, along) < 2, f"the legend lies on the axes {ax.get_title(loc='left')!r}"
