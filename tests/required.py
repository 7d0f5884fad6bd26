"""Servers that a test needs. A missing one skips the test, or fails it where CI requires them."""

from __future__ import annotations

import os
import socket
from typing import NoReturn
from urllib.parse import urlsplit

import pytest

IS_REQUIRED = os.environ.get("INFINITIC_REQUIRE_SERVICES") == "1"
"""Whether a missing server fails a test."""


def absent(what: str) -> NoReturn:
    """Fail where servers are required, as in CI. Elsewhere skip the test."""
    if IS_REQUIRED:
        pytest.fail(what)
    pytest.skip(what)


def reach(what: str, url: str) -> None:
    """Go on if somebody answers at the host and port of this URL."""
    place = urlsplit(url)
    try:
        socket.create_connection((place.hostname or "", place.port or 80), timeout=5).close()
    except OSError as error:
        absent(f"{what} does not answer at {url.removeprefix('//')} ({error}): make services")
