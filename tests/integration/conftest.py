"""A broker that demands tokens, for all who need it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.pulsar.secured import Secured, broker


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with broker(tmp_path_factory.mktemp("secured")) as made:
        yield made
