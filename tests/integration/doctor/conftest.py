"""A place for each kind of storage, and a namespace."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infinitic.ids import new_id
from infinitic_transports.pulsar import PulsarSettings, PulsarTransport
from tests.integration.doctor.project import Folder
from tests.integration.pulsar.conftest import BROKER, WEB
from tests.integration.stack import need
from tests.integration.storages.databases import Place, place


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def at(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    """An empty place of the kind that is the fixture's parameter, PostgreSQL without one."""
    with place(getattr(request, "param", "postgres"), f"test_{new_id()[:12]}", tmp_path) as made:
        yield made


@pytest.fixture
def pulsar() -> Iterator[dict[str, Any]]:
    """The section of a namespace that is removed afterwards."""
    need()
    fields = {"broker_service_url": BROKER, "web_service_url": WEB, "namespace": f"test-{new_id()[:12]}"}
    yield fields

    async def clean() -> None:
        async with PulsarTransport(PulsarSettings.model_validate(fields)) as transport:
            await transport.admin.delete_namespace()

    asyncio.run(clean())
