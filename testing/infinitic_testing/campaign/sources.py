"""A digest of source files: another digest means other code, whose runs may differ."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

import infinitic
import infinitic_storages
import infinitic_testing
import infinitic_transports

_PACKAGES = (infinitic, infinitic_storages, infinitic_transports, infinitic_testing)


def digest_sources(places: Iterable[Path]) -> str:
    """Make a digest of the sources of this framework, and of other files and folders.

    Args:
        places: files, and folders whose Python files count.
    """
    folders = [Path(folder) for package in _PACKAGES for folder in package.__path__]
    digest = blake2b(digest_size=16)
    for place in [*folders, *places]:
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(file.name.encode())
            digest.update(b"\0")
            digest.update(file.read_bytes())
    return digest.hexdigest()
