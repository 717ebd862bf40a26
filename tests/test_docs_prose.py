"""Pages of the docs are short and easy to read: at most 900 words, and a Flesch reading ease of 60 or more.

Tables count as words to read, but not for the ease of reading. Code and comments are left out, names in code style count as one
short word. API, benchmarks, changelog and references may be longer.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MOST_WORDS = 900
MOST_WORDS_OF_A_SENTENCE = 30
UNCLEAR = re.compile(
    r"\b(ours|theirs|the former|the latter|no longer|(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{7})\b", re.I
)
LEAST_EASE = 60
NO_PROSE = {
    "api.md",
    "changelog.md",
    "references.md",
    "equations.md",
    "listing.md",
}  # made by a program, or lists of names
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted(DOCS.glob("*.md")) if page.name not in NO_PROSE),
    *sorted((DOCS / "guides").glob("*.md")),
    *sorted((DOCS / "troubleshooting").glob("*.md")),
    *(page for page in sorted((DOCS / "contributing").glob("*.md")) if page.name not in NO_PROSE),
]
LISTS = [*sorted((DOCS / "odd_inputs").glob("*.md")), DOCS / "contributing" / "listing.md"]
"""Pages of tables: short, but without sentences to judge."""

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="the docs are not part of the installed package")


def words(text: str) -> list[str]:
    """What there is to read on a page, tables included."""
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r"^( *)(```+|:::+).*?^\1\2[ ]*$", "", text, flags=re.M | re.S)
    text = re.sub(r"`+[^`]+`+", "name", text)
    return [word for word in text.split() if re.search(r"\w", word)]


def prose(text: str) -> str:
    """The sentences of a page: each heading and each item of a list ends in a full stop."""
    text = re.sub(r"<!-- table: .*?<!-- end table -->|<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r"^( *)(```+|:::+).*?^\1\2[ ]*$", "", text, flags=re.M | re.S)
    text = re.sub(r"^\s*\|.*$", "", text, flags=re.M)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)  # pictures
    text = re.sub(r"\{[\w:]+\}`~?([^`<]+?)(?: ?<[^>]*>)?`", lambda role: role[1].rsplit(".", 1)[-1], text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", lambda link: link[1] or "page", text)
    text = re.sub(r"`+[^`]+`+|\$[^$]+\$|https?://\S+", "name", text)
    blocks = re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )|^#+ .*\n", text, flags=re.M)
    stripped = [re.sub(r"[*_#]+|^\s*(?:[-*]|\d+\.) ", "", " ".join(block.split())) for block in blocks]
    return "\n".join(block if block[-1] in ".!?" else f"{block}." for block in map(str.strip, stripped) if block)


@pytest.mark.parametrize("page", [*PAGES, *LISTS], ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_are_short(page: Path) -> None:
    assert len(words(page.read_text(encoding="utf-8"))) <= MOST_WORDS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_are_easy_to_read(page: Path) -> None:
    textstat = pytest.importorskip("textstat", reason="readability needs textstat: pip install 'scmag-muon[docs]'")
    sentences = prose(page.read_text(encoding="utf-8"))
    ease = textstat.flesch_reading_ease(sentences)
    hardest = sorted(sentences.replace("\n", " ").split(". "), key=textstat.flesch_reading_ease)[:3]
    assert ease >= LEAST_EASE, f"Flesch {ease:.0f}. Shorten: {hardest}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_sentences_are_short_and_name_their_subject(page: Path) -> None:
    sentences = re.split(r"(?<=[.!?])\s+", prose(page.read_text(encoding="utf-8")))
    assert [sentence for sentence in sentences if len(sentence.split()) > MOST_WORDS_OF_A_SENTENCE] == []
    assert [sentence for sentence in sentences if UNCLEAR.search(sentence)] == []


@pytest.mark.parametrize("page", ["README.md", "docs/quality.md", "docs/performance.md"])
def test_figures_come_from_tables(page: str) -> None:
    assert re.findall(r"\.\d{3}\b", prose((ROOT / page).read_text(encoding="utf-8"))) == []


def test_prose_leaves_out_code_and_tables() -> None:
    page = """# A title

Some `code.of("mine")` here, see {func}`scmag_muon.tl.scmag` and {doc}`a page <page>`. $x$ is *it*.

- one
- [two](two.md)

| a | b |
|---|---|
| c | d |

<!-- table: x -->
words
<!-- end table -->

  ```python
  no
  ```

1. last
"""
    assert words("a `b c` | d |\n|---|---|\n```python\nno\n```\n<!-- no -->\n") == ["a", "name", "d"]
    assert prose(page) == "Some name here, see scmag and a page. name is it.\none.\ntwo.\nlast."


def test_a_page_that_is_hard_to_read_is_seen() -> None:
    textstat = pytest.importorskip("textstat", reason="readability needs textstat: pip install 'scmag-muon[docs]'")
    assert textstat.flesch_reading_ease("Ask for more clusters. A small type can be merged into a large one.") > 80
    hard = "Regularisation of neighbourhood replication necessitates consideration of dimensionality."
    assert textstat.flesch_reading_ease(hard) < LEAST_EASE
