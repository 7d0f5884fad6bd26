"""Which brokers can be used. Older ones stall where keys, delays and disconnects meet."""

from __future__ import annotations

import re

FIRST = ((4, 0, 13), (4, 2, 4))
"""In each maintained series, the first version that can be used. Later series can be used, too."""

NEEDED = "Pulsar 4.0.13 or newer of 4.0, or 4.2.4 or newer, is needed"


def parse_version(text: str) -> tuple[int, int, int] | None:
    """The numbers of a version such as "4.0.13"; None if the text is not one."""
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", text)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3]))


def explain_unfit(text: str) -> str | None:
    """What is wrong with a broker of this version; None if nothing is, or if it is no version."""
    version = parse_version(text)
    if version is None or version >= FIRST[-1] or any(version[:2] == each[:2] and version >= each for each in FIRST):
        return None
    return f"has version {text}, in which messages of a key or delayed ones may stall: {NEEDED}"
