"""What every picture takes: axes or a size, a file to be saved in, and whether it is shown."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase

from scmag_muon._checks import check_number
from scmag_muon._files import written_aside

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from matplotlib.figure import Figure

Drawn = TypeVar("Drawn", bound="Axes | np.ndarray")
Function = TypeVar("Function", bound="Callable[..., Any]")

_DPI = 200
_DESCRIPTIONS = {
    "ax": ["Axes to draw on; ``None`` makes a figure."],
    "figsize": ["Width and height of the figure in inches; ``None`` fits the contents."],
    "palette": [
        "Colours of the groups: a list in the order of the categories, the name of a matplotlib colour map, or a dict from groups",
        'to colours. ``None`` takes ``mdata.uns[f"{column}_colors"]`` if it is there, as scanpy leaves it; else the groups get colours',
        "that colour-blind readers can tell apart, and known types get the colours of the clusters they share most cells with.",
    ],
    "save": [
        'File to write, as ``"picture.pdf"``. The suffix decides the format, and the folder must exist. The figure is closed then,',
        "unless it is that of your ``ax``.",
    ],
    "show": [
        "``True`` shows the picture and returns ``None``. ``False`` returns the axes, and no notebook shows the picture. ``None``",
        "returns the axes and leaves it to the notebook or to ``matplotlib.pyplot.show()`` to show the picture.",
    ],
}
_SEVERAL_AXES = "The picture has several axes, so it takes no ``ax``."


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """Where a picture is drawn and what becomes of it; what can't be done is refused before anything is drawn."""

    figsize: tuple[float, float] | None
    save: str | os.PathLike[str] | None
    show: bool | None
    ax: Axes | None = None

    def __post_init__(self) -> None:
        if self.ax is not None and not isinstance(self.ax, Axes):
            raise TypeError(f"`ax` must be matplotlib axes, got {type(self.ax).__name__}.")
        if not (self.show is None or isinstance(self.show, bool | np.bool_)):
            raise TypeError(f"`show` must be True, False or None, got {self.show!r}.")
        if self.figsize is not None:
            if np.ndim(self.figsize) != 1 or len(self.figsize) != 2:
                raise ValueError(f"`figsize` must be a width and a height in inches, got {self.figsize!r}.")
            for length in self.figsize:
                check_number("figsize", length, above=0)
        if self.save is not None:
            _check_file(Path(self.save))

    def axes(self, size: tuple[float, float]) -> Axes:
        """The user's axes, or those of a figure of this size unless the user wants another."""
        return self.subplots(1, 1, size)[0, 0] if self.ax is None else self.ax

    def subplots(self, n_rows: int, n_columns: int, size: tuple[float, float], **arguments: Any) -> np.ndarray:
        """Axes of a new figure, always in a matrix."""
        _, axes = plt.subplots(
            n_rows, n_columns, figsize=self.figsize or size, layout="constrained", squeeze=False, **arguments
        )
        return np.asarray(axes)

    def grid(self, n_panels: int, *, n_columns: int, size: tuple[float, float]) -> np.ndarray:
        """So many axes of this size, row by row; the rest of the last row is left out."""
        n_columns = min(n_columns, n_panels)
        n_rows = math.ceil(n_panels / n_columns)
        flat = self.subplots(n_rows, n_columns, (size[0] * n_columns, size[1] * n_rows)).ravel()
        for ax in flat[n_panels:]:
            ax.remove()
        return flat[:n_panels]

    def two_grids(self, n_top: int, n_bottom: int) -> tuple[Any, np.ndarray, np.ndarray]:
        """A row of axes with room for legends, above a grid of axes; also the lower part of the figure, for a title."""
        n_columns = 4
        n_rows = math.ceil(n_bottom / n_columns)
        heights = [3.3, 0.35 + 2.9 * n_rows]
        figure = plt.figure(figsize=self.figsize or (3.4 * n_columns, sum(heights)), layout="constrained")
        parts: Any = figure.subfigures(2, 1, height_ratios=heights)
        upper, lower = parts
        top = upper.subplots(1, n_top, squeeze=False)[0]
        bottom = lower.subplots(n_rows, n_columns, squeeze=False).ravel()
        for ax in bottom[n_bottom:]:
            ax.remove()
        return lower, top, bottom[:n_bottom]

    def done(self, drawn: Drawn) -> Drawn:
        """Save and show as asked; the axes, or ``None`` where they were shown, as scanpy has it."""
        ax = drawn.ravel()[0] if isinstance(drawn, np.ndarray) else drawn
        figure = cast("Figure", ax.get_figure(root=True))
        try:
            if self.save is not None:
                path = Path(self.save)
                with written_aside(path) as draft:
                    figure.savefig(draft, format=path.suffix[1:].lower(), dpi=_DPI, bbox_inches="tight")
            if self.show:
                plt.show()
        finally:
            if self.ax is None and (self.save is not None or self.show is not None):
                plt.close(figure)
        return cast("Drawn", None) if self.show else drawn


def described(picture: Function) -> Function:
    """Add what the shared parameters mean to a picture's docstring, below the parameters of its own."""
    text = inspect.cleandoc(picture.__doc__ or "")
    parameters = inspect.signature(picture).parameters
    lines = []
    for name, description in _DESCRIPTIONS.items():
        if name in parameters and f"\n{name}\n" not in text:
            several = [_SEVERAL_AXES] if name == "figsize" and "ax" not in parameters else []
            lines += [name, *(f"    {line}" for line in description + several)]
    own, mark, rest = text.partition("\n\nReturns\n-------\n")
    picture.__doc__ = "\n".join([own, *lines]) + mark + rest
    return picture


def _check_file(path: Path) -> None:
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent} for the picture. Make it, or name another in save=.")
    formats = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix[1:].lower() not in formats or path.is_dir():
        raise ValueError(f"save={str(path)!r} names no picture. It must end in one of .{', .'.join(formats)}.")
    if path.resolve().suffix[1:].lower() not in formats:
        raise ValueError(
            f"save={str(path)!r} is a link to {str(path.resolve())!r}, which is no picture. Give another name."
        )
