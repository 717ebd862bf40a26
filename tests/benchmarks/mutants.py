"""Share of small changes to the code that its tests notice: a random sample of cosmic-ray's mutants, each against the tests of its file.

``python tests/benchmarks/mutants.py -n 60 --seed 0`` works on a copy of the checkout, and prints a line for each mutant and the rate. Tests that fail without any mutant end it at once.
``--survive`` names the share that must be noticed, else the exit status is 1. Needs ``pip install cosmic-ray``.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import WorkDB, use_db

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cosmic_ray.work_item import WorkItem

ROOT = Path(__file__).parents[2]
FILES = (
    "scmag_muon/manifold/*.py",
    "scmag_muon/model/_likelihood.py",
    "scmag_muon/model/_zinb.py",
    "scmag_muon/model/_clustering.py",
    "scmag_muon/_mudata/*.py",
)
LONGEST = 300  # seconds; a mutant may loop for ever, which counts as noticed


def tests_of(file: Path) -> list[str]:
    """The test files that mirror a source file; where none does, those of its room."""
    room, stem = file.parent.name.lstrip("_"), file.stem.lstrip("_")
    near = [Path("tests") / room / f"test_{stem}.py", *sorted((Path("tests") / room).glob(f"test_{stem}_*.py"))]
    near += [Path("tests") / f"test_{room}.py"]
    near += sorted(Path("tests").glob(f"test_{room}_*.py")) if room == "mudata" else []
    found = [str(path) for path in near if path.exists()]
    return found or [str(Path("tests") / room)]


def means_nothing(file: Path) -> set[int]:
    """Lines whose change has no effect: annotations, which are not evaluated, and what only a type checker reads."""
    lines: set[int] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        notes = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            notes.append(node)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript):
            notes += [node] if getattr(node.value.value, "id", "") == "Literal" else []
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            notes.append(node)
        for note in filter(None, notes):
            lines |= set(range(note.lineno, note.end_lineno + 1))
    return lines


def mutants() -> Iterator[WorkItem]:
    """Every mutant of the files that could change something, in a fixed order."""
    files = sorted(path for pattern in FILES for path in Path().glob(pattern) if path.name != "__init__.py")
    with use_db("mutants.sqlite", WorkDB.Mode.create) as db:
        init(files, db, {})
        items = list(db.work_items)
    silent = {file: means_nothing(file) for file in files}

    def place(item: WorkItem) -> tuple[str, int, int, str, int]:
        change = item.mutations[0]
        return str(change.module_path), *change.start_pos, change.operator_name, change.occurrence

    for item in sorted(items, key=place):
        change = item.mutations[0]
        if change.start_pos[0] not in silent[Path(change.module_path)]:
            yield item


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=60, help="mutants (0: all of them)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="files whose path holds this text")
    parser.add_argument("--survive", type=float, default=0.0, metavar="SHARE", help="share that must be noticed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "docs", "tutorials", "*.png"))
        os.chdir(copy)
        os.environ |= {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        every = [item for item in mutants() if arguments.only in str(item.mutations[0].module_path)]
        chosen = random.Random(arguments.seed).sample(every, min(arguments.n or len(every), len(every)))
        print(f"{len(chosen)} of {len(every)} mutants, seed {arguments.seed}", flush=True)
        check_unmutated(chosen)
        noticed = sum(notices(item) for item in chosen)
    rate = noticed / max(len(chosen), 1)
    print(f"noticed: {noticed} of {len(chosen)} ({rate:.0%})")
    return int(rate < arguments.survive)


def check_unmutated(items: Sequence[WorkItem]) -> None:
    """Exit where a test fails without any mutant, for it would notice all of them."""
    for tests in sorted({tuple(tests_of(Path(item.mutations[0].module_path))) for item in items}):
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode:
            sys.exit(f"Without any mutant {' '.join(tests)} fails:\n{run.stdout[-2000:]}{run.stderr[-500:]}")


def notices(item: WorkItem) -> bool:
    """Whether a test fails, with a line that says so."""
    change = item.mutations[0]
    file = Path(change.module_path)
    tests = " ".join(tests_of(file))
    started = time.perf_counter()
    result = mutate_and_test(item.mutations, f"{sys.executable} -m pytest -x -q -p no:cacheprovider {tests}", LONGEST)
    killed = str(getattr(result.test_outcome, "value", result.test_outcome)).lower() == "killed"
    seconds = time.perf_counter() - started
    said = "noticed " if killed else "SURVIVES"
    print(f"{said} {file}:{change.start_pos[0]} {change.operator_name} {seconds:.0f} s", flush=True)
    if not killed:
        lines = [
            line for line in (result.diff or "").splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")
        ]
        print("\n".join(f"         {line}" for line in lines) or f"         {result.output}", flush=True)
    return killed


if __name__ == "__main__":
    sys.exit(main())
