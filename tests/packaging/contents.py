"""Check what wheel and source archive hold: ``python tests/packaging/contents.py dist``."""

from __future__ import annotations

import email
import re
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def source_files() -> set[str]:
    """Files of the package in the checkout, as paths from its root."""
    files = [path for path in (ROOT / "scmag_muon").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(ROOT).as_posix() for path in files}


def faults_of_wheel(path: Path) -> list[str]:
    """What the wheel lacks or holds in excess."""
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        fields = email.message_from_bytes(wheel.read(metadata))
    description = fields.get_payload(decode=True).decode()
    faults = [f"wheel lacks {name}" for name in sorted(source_files() - names)]
    excess = {name for name in names - source_files() if ".dist-info/" not in name}
    faults += [f"wheel holds {name}" for name in sorted(excess)]
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in names):
        faults.append("wheel lacks the licence")
    if fields["License-Expression"] != "BSD-3-Clause":
        faults.append(f"wheel names the licence {fields['License-Expression']!r}")
    relative = re.findall(r"\]\((?!https?://|#)[^)]+\)", description)
    faults += [f"wheel's description holds the relative link {link}" for link in relative]
    return faults


def faults_of_sdist(path: Path) -> list[str]:
    """What the source archive lacks or holds in excess."""
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tests = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py")}
    wanted = source_files() | tests | {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"}
    faults = [f"source archive lacks {name}" for name in sorted(wanted - names)]
    excess = {name for name in names - wanted if name not in ("", "PKG-INFO", ".gitignore")}
    allowed = ("scmag_muon/", "tests/")
    return faults + [f"source archive holds {name}" for name in sorted(excess) if not name.startswith(allowed)]


def main(folder: Path) -> int:
    """Print the faults of all archives in a folder and return the exit status."""
    wheels, sdists = sorted(folder.glob("*.whl")), sorted(folder.glob("*.tar.gz"))
    faults = [fault for path in wheels for fault in faults_of_wheel(path)]
    faults += [fault for path in sdists for fault in faults_of_sdist(path)]
    if len(wheels) != 1 or len(sdists) != 1:
        faults.append(f"expected one wheel and one source archive, found {len(wheels)} and {len(sdists)}")
    sys.stdout.write("\n".join(faults) + "\n" if faults else "wheel and source archive hold what they should\n")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
