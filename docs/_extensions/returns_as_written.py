"""Let napoleon leave the section "Returns" as it stands.

Napoleon takes its first line for a type. Ours holds text or a definition list, and the type comes from the annotation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphinx.ext.napoleon import NumpyDocstring

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def parse_returns(self: NumpyDocstring, section: str) -> list[str]:
    """The lines of the section below ``:returns:``, indented so that lists in it stay lists."""
    lines = self._dedent(self._consume_to_next_section())
    if lines and lines[0] == ":":  # sphinx-autodoc-typehints puts it there to the same end
        del lines[0]
    return [":returns:", *(f"    {line}" if line else "" for line in lines), ""]


def setup(app: Sphinx) -> dict[str, bool]:
    """Replace napoleon's own reading of the section."""
    NumpyDocstring._parse_returns_section = parse_returns
    return {"parallel_read_safe": True}
