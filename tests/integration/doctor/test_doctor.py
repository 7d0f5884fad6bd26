"""`infinitic doctor` on real servers: what is well, and one line for what is not."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from infinitic import topics
from infinitic_transports.pulsar import PulsarSettings, PulsarTransport
from tests.integration.doctor.project import Folder, storage
from tests.integration.pulsar.secured import Secured, make_token
from tests.integration.storages.databases import KINDS, Place

NOWHERE = {"broker_service_url": "pulsar://127.0.0.1:1", "web_service_url": "http://127.0.0.1:1"}


def begun(pulsar: dict[str, Any], at: Place) -> None:
    """What a first worker makes."""

    async def make() -> None:
        async with PulsarTransport(PulsarSettings.model_validate(pulsar)) as transport, at.storage() as made:
            await made.prepare()
            own = (topics.service_executor("Payments"), topics.workflow_engine("Trip"))
            await transport.declare([*own, *(topics.dead_letters(each) for each in own)])

    asyncio.run(make())


@pytest.mark.parametrize("at", KINDS, indirect=True)
def test_all_is_well(folder: Folder, pulsar: dict[str, Any], at: Place) -> None:
    folder.write(pulsar, storage(at))
    code, checks = folder.doctor()  # before the first worker
    assert code == 0
    found = {each["subject"]: (each["level"], each["message"]) for each in checks}
    assert found["namespace"] == ("warning", f"infinitic/{pulsar['namespace']} does not exist yet")
    assert found["schema"][0] == "warning"
    assert found["broker"] == ("ok", "answers")
    begun(pulsar, at)
    code, out, errors = folder.run("doctor")
    assert (code, errors) == (0, "")
    assert out.endswith("Healthy.\n")
    assert "failure" not in out
    for text in ("broker version", "broker clock", "policies", "topics", "no consumer"):
        assert text in out
    assert re.search(r"schema +ok +version \d", out)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (NOWHERE, "REST of Pulsar does not answer at http://127.0.0.1:1"),
        ({"web_service_url": "http://no.such.host.invalid"}, "there is no such host"),
    ],
)
def test_a_broker_that_is_away(folder: Folder, at: Place, wrong: dict[str, str], says: str) -> None:
    folder.write(wrong, storage(at))
    found = folder.failure()
    assert found["subject"] == "broker"
    assert says in found["message"]


@pytest.mark.parametrize(
    ("at", "wrong", "says"),
    [
        ("postgres", {"password": "wrong"}, "check username and password"),
        ("postgres", {"port": 1}, "127.0.0.1:1/infinitic"),
        ("mysql", {"password": "wrong"}, "check username and password"),
        ("mysql", {"port": 1}, "127.0.0.1:1/"),
        ("redis", {"password": "wrong"}, "check `username` and `password`"),
        ("redis", {"port": 1}, "cannot be reached"),
    ],
    indirect=["at"],
)
def test_a_database_that_refuses(
    folder: Folder, pulsar: dict[str, Any], at: Place, wrong: dict[str, Any], says: str
) -> None:
    folder.write(pulsar, storage(at, **wrong))
    found = folder.failure()
    assert found["subject"] == "database"
    assert says in found["message"]


def test_a_schema_of_a_newer_release(folder: Folder, pulsar: dict[str, Any], at: Place) -> None:
    begun(pulsar, at)
    at.execute(f"UPDATE {at.label}.infinitic_meta SET schema_version = 99")
    folder.write(pulsar, storage(at))
    found = folder.failure()
    assert found["subject"] == "schema"
    assert "newer release" in found["message"]


@pytest.mark.parametrize("exists", [False, True])
def test_a_role_without_permission(folder: Folder, at: Place, secured: Secured, exists: bool) -> None:
    fields = secured.fields("clerk", tenant="there" if exists else "missing")
    if exists:
        begun(fields | {"authentication": {"type": "token", "token": make_token("admin")}}, at)
    folder.write(fields, storage(at))
    found = folder.failure()
    assert found["subject"] == ("broker" if exists else "namespace")
    assert "make it an admin of the tenant" in found["message"]
