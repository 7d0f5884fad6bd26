"""Tests that start a broker of their own run one after the other: each broker is a heavy JVM."""

from __future__ import annotations

import os

import pytest

# Bytecode is kept, whatever the environment says: processes of pytest-xdist would compile all tests
# at each run, and some hundred interpreters that tests start the whole library.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

BROKERS_OF_THEIR_OWN = {"secured", "private_broker"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Before pytest-xdist looks at the groups."""
    for item in items:
        if BROKERS_OF_THEIR_OWN & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.xdist_group("brokers"))
