"""Tests that start a broker of their own run one after the other: each broker is a heavy JVM.

Garbage is looked for among what tests make, and not among the thousands of tests themselves.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

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


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Collected tests stay to the end. To search them takes a quarter of a second each time."""
    _freeze()


@pytest.fixture(scope="module", autouse=True)
def freeze_what_stays() -> Iterator[None]:
    """What tests have imported stays, too, and some tests unfreeze all."""
    yield
    _freeze()


def _freeze() -> None:
    gc.collect()
    gc.freeze()
