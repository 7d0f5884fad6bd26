"""The release of Infinitic that runs: the files that tests write name it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def find_release() -> str:
    """Return the release, such as "0.2.0"."""
    try:
        return version("infinitic")
    except PackageNotFoundError:
        # It runs from its sources.
        return "unknown"
