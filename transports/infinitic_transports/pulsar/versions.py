"""Which brokers will do. Older ones stall where keys, delays and disconnects meet."""

from __future__ import annotations

import re

FIRST = ((4, 0, 13), (4, 2, 4))
"""In each series that is maintained, the first that will do. What comes after the last series does, too."""

NEEDED = "Pulsar 4.0.13 or newer of 4.0, or 4.2.4 or newer, is needed"


def version_of(text: str) -> tuple[int, int, int] | None:
    """The numbers of a version, None for what is none."""
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", text)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3]))


def unfit(text: str) -> str | None:
    """What is wrong with a broker of this version, None if nothing is, or if it is no version."""
    version = version_of(text)
    if version is None or version >= FIRST[-1] or any(version[:2] == each[:2] and version >= each for each in FIRST):
        return None
    return f"has version {text}, in which messages of a key or delayed ones may stall: {NEEDED}"
