"""Versions of packages, for records; a copy that was never installed, as on a path or in a zip file, has none."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

UNKNOWN = "unknown"


def version_of(package: str) -> str:
    """The installed version, or ``"unknown"``."""
    try:
        return version(package)
    except PackageNotFoundError:
        return UNKNOWN


def versions_of(*packages: str) -> dict[str, str]:
    """Installed versions by package."""
    return {package: version_of(package) for package in packages}
