"""`infinitic worker` where it cannot work.

It waits until an outage is over. What somebody has to correct ends it with one message.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import threading
from typing import Any

import pytest

from tests.integration.doctor.project import LIMIT, Folder, storage
from tests.integration.doctor.test_doctor import NOWHERE
from tests.integration.pulsar.secured import Secured, make_token
from tests.integration.storages.databases import Place

NOBODY = "no.such.host.invalid"


def waits(folder: Folder, says: str) -> None:
    """It warns once, and goes on trying until it is stopped."""
    with folder.start("worker") as process:
        guard = threading.Timer(LIMIT, process.kill)
        guard.start()
        assert process.stderr is not None
        line = next((each for each in process.stderr if "trying again" in each), "")
        try:
            assert re.search(says, line)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1)
        finally:
            process.terminate()
            _, errors = process.communicate(timeout=LIMIT)
            guard.cancel()
    assert "Traceback" not in errors


def ends(folder: Folder, says: str) -> None:
    """One message, an exit code that is not 0, and no traceback."""
    code, _, errors = folder.run("worker")
    assert code in (1, 2)
    assert len(re.findall(r"(?m)^Error: ", errors)) == 1
    assert "trying again" not in errors
    assert re.search(says, errors), errors


def test_a_broker_that_is_down(folder: Folder, at: Place) -> None:
    folder.write(NOWHERE, storage(at))
    waits(folder, r"No broker is reached.*127\.0\.0\.1:1")


@pytest.mark.parametrize("at", ["postgres", "mysql", "redis"], indirect=True)
def test_a_database_that_is_down(folder: Folder, pulsar: dict[str, Any], at: Place) -> None:
    folder.write(pulsar, storage(at, port=1))
    waits(folder, r"127\.0\.0\.1:1")


@pytest.mark.parametrize("key", ["broker_service_url", "web_service_url"])
def test_a_broker_at_a_host_that_does_not_exist(folder: Folder, pulsar: dict[str, Any], at: Place, key: str) -> None:
    scheme = {"broker_service_url": "pulsar", "web_service_url": "http"}[key]
    folder.write(pulsar | {key: f"{scheme}://{NOBODY}:1"}, storage(at))
    ends(folder, f"{NOBODY}.*there is no such host")


@pytest.mark.parametrize("at", ["postgres", "mysql", "redis"], indirect=True)
def test_a_database_at_a_host_that_does_not_exist(folder: Folder, pulsar: dict[str, Any], at: Place) -> None:
    folder.write(pulsar, storage(at, host=NOBODY))
    ends(folder, f"{NOBODY}.*there is no such host")


@pytest.mark.parametrize("at", ["postgres", "mysql", "redis"], indirect=True)
def test_a_wrong_password(folder: Folder, pulsar: dict[str, Any], at: Place) -> None:
    folder.write(pulsar, storage(at, password="wrong"))
    ends(folder, "password")


def test_a_schema_of_a_newer_release(folder: Folder, pulsar: dict[str, Any], at: Place) -> None:
    async def prepare() -> None:
        async with at.storage() as made:
            await made.prepare()

    asyncio.run(prepare())
    at.execute(f"UPDATE {at.label}.infinitic_meta SET schema_version = 99")
    folder.write(pulsar, storage(at))
    ends(folder, "has version 99")


def test_who_it_says_it_is_is_refused(folder: Folder, at: Place, secured: Secured) -> None:
    how = {"type": "token", "token": make_token("admin", b"another key" * 4)}
    folder.write(secured.fields(None, authentication=how), storage(at))
    ends(folder, "check `authentication`")


def test_a_role_without_permission(folder: Folder, at: Place, secured: Secured) -> None:
    folder.write(secured.fields("clerk"), storage(at))
    ends(folder, "make it an admin of the tenant 'infinitic'")


def test_a_certificate_that_is_not_trusted(folder: Folder, at: Place, secured: Secured) -> None:
    settings = secured.fields() | {"web_service_url": f"https://127.0.0.1:{secured.web_tls}"}
    folder.write(settings, storage(at))
    ends(folder, r"tls\.trust_certs")


def test_a_token_in_a_file_beside_the_configuration(folder: Folder, at: Place, secured: Secured) -> None:
    (folder.path / "pulsar.token").write_text(make_token("clerk") + "\n", encoding="utf-8")
    how = {"type": "token", "token_file": "pulsar.token"}
    folder.write(secured.fields(None, authentication=how), storage(at))
    ends(folder, "make it an admin of the tenant")  # so it was read, and accepted
