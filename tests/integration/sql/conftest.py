from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from infinitic import ids
from tests.integration.storages.databases import SQL, Place, place

_numbers = count()


@pytest.fixture(scope="module", params=SQL)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One place for a module: its tests use keys of their own."""
    with place(request.param, f"test_{ids.new_id()[:12]}", tmp_path_factory.mktemp("sql")) as made:
        yield made


@pytest.fixture(params=SQL)
def empty(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A place that nothing has prepared."""
    with place(request.param, f"test_{ids.new_id()[:12]}", tmp_path_factory.mktemp("sql")) as made:
        yield made


@pytest.fixture
def name() -> str:
    """A workflow name that no other test has."""
    return f"flow{next(_numbers)}"
