"""Sphinx settings. Build with ``sphinx-build -W -n -b html docs docs/_build/html``."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import warnings
from importlib.metadata import version as version_of
from pathlib import Path

from sphinx.ext import autosummary

# sphinx-autodoc-typehints 3 with Sphinx 9
warnings.filterwarnings("ignore", message=".*set_application' is deprecated")

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))

# Sphinx reads nothing outside its source folder
tutorials = HERE / "tutorials"
tutorials.mkdir(exist_ok=True)
for notebook in HERE.parent.joinpath("tutorials").glob("*.ipynb"):
    copied = tutorials / notebook.name
    if not copied.exists() or copied.read_bytes() != notebook.read_bytes():
        shutil.copyfile(notebook, copied)


# a backend that was set outside keeps the pictures of notebooks from their pages
os.environ.pop("MPLBACKEND", None)


def online() -> bool:
    """Whether other projects' indices can be fetched; ``DOCS_OFFLINE=1`` says no without trying."""
    if os.environ.get("DOCS_OFFLINE"):
        return False
    try:
        with socket.create_connection(("docs.python.org", 443), timeout=3):
            return True
    except OSError:
        return False


ONLINE = online()

project = "scmag_muon"
author = "scmag_muon developers"
copyright = author
release = version_of("scmag-muon")
version = release

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_autodoc_typehints",
    "sphinx_copybutton",
    "sphinxcontrib.bibtex",
    "sphinxext.opengraph",
    "returns_as_written",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "jupyter_execute", "**.ipynb_checkpoints"]
nitpicky = True

autosummary_generate = True
autosummary.WELL_KNOWN_ABBREVIATIONS = (*autosummary.WELL_KNOWN_ABBREVIATIONS, "eq.")  # no end of a sentence
autosummary_ignore_module_all = False
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = True
typehints_defaults = "braces"
always_use_bars_union = True
autodoc_type_aliases = {"ArrayLike": "numpy.typing.ArrayLike"}  # else written out in full
python_use_unqualified_type_names = True

bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off" if os.environ.get("DOCS_EXECUTE") == "0" else "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True

html_theme = "sphinx_book_theme"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_title = project
html_theme_options = {
    "repository_url": "https://github.com/scmag-muon/scmag-muon",
    "use_repository_button": True,
    "path_to_docs": "docs",
    "show_toc_level": 2,
    "navbar_persistent": [],
}
ogp_site_url = "https://scmag-muon.readthedocs.io/"
ogp_social_cards = {"enable": False}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

INVENTORIES = {
    "anndata": "https://anndata.readthedocs.io/en/stable/",
    "matplotlib": "https://matplotlib.org/stable/",
    "mudata": "https://mudata.readthedocs.io/stable/",
    "numpy": "https://numpy.org/doc/stable/",
    "pandas": "https://pandas.pydata.org/docs/",
    "pooch": "https://www.fatiando.org/pooch/latest/",
    "python": "https://docs.python.org/3/",
    "scanpy": "https://scanpy.readthedocs.io/en/stable/",
    "scipy": "https://docs.scipy.org/doc/scipy/",
    "scvi": "https://docs.scvi-tools.org/en/stable/",
    "torch": "https://docs.pytorch.org/docs/stable/",
}
intersphinx_mapping = {name: (url, None) for name, url in INVENTORIES.items()} if ONLINE else {}

# not in any inventory: types that NumPy makes of aliases, and private names behind public ones
nitpick_ignore = [
    ("py:class", "numpy.typing.ArrayLike"),
    ("py:obj", "numpy.typing.ArrayLike"),
    ("py:class", "scmag_muon.model._reference.Reference"),
]
if not ONLINE:  # without their inventories, names of other packages lead nowhere; ours must
    others = "|".join([*INVENTORIES, "collections", "os", "pathlib", "typing", "np", "pd"])
    builtins = "None|bool|dict|float|int|list|object|set|str|tuple|type|[A-Z][A-Za-z]+Error"
    nitpick_ignore_regex = [("py:.*", rf"({others})\..*"), ("py:.*", builtins)]
