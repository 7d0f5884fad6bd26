"""Recognises errors for names of hosts that do not exist."""

from __future__ import annotations

import re

_NO_HOST = re.compile(r"Name or service not known|nodename nor servname|No address associated")


def is_unknown_host(text: str) -> bool:
    """Whether an error of a driver says that there is no such host."""
    return _NO_HOST.search(text) is not None
