"""Every command while servers are away: one error says what, where and what to do.

Needs no server.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.integration.doctor.project import Folder


def closed_port() -> int:
    """A port of this machine at which nothing listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


def pulsar(port: int) -> dict[str, object]:
    return {
        "broker_service_url": f"pulsar://127.0.0.1:{port}",
        "web_service_url": f"http://127.0.0.1:{closed_port()}",
        "client": {"connection_timeout_seconds": 3},
    }


COMMANDS = (
    "start Trip.go",
    "start Trip.go --wait",
    "result x",
    "describe x",
    "signal x c --workflow Trip --input 1 --raw",
    "cancel x --confirm",
    "retry x",
    "retry --stalled --workflow Trip",
    "dead-letters list",
    "dead-letters drop --all --service Payments",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_broker_that_is_away(command: str, tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    port = closed_port()
    folder.write(pulsar(port), {"sqlite": {"path": "shop.db"}})
    code, out, errors = folder.run(*command.split())
    assert (code, out) == (1, "")
    assert errors.startswith("Error: "), errors
    assert errors.count("\n") == 1
    assert "127.0.0.1" in errors


def test_the_doctor_tells_of_both(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write(pulsar(closed_port()), {"postgres": {"host": "127.0.0.1", "port": closed_port(), "username": "shop"}})
    code, checks = folder.doctor()
    failures = {each["subject"]: each for each in checks if each["level"] == "failure"}
    assert (code, set(failures)) == (1, {"broker", "database"})
    for each in failures.values():
        assert "127.0.0.1" in each["message"]
        assert each["remedy"]


@pytest.mark.parametrize("verb", ["list", "migrate"])
def test_a_database_that_is_away(verb: str, tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    section = {"host": "127.0.0.1", "port": closed_port(), "username": "shop", "connect_timeout_seconds": 2}
    folder.write(pulsar(closed_port()), {"postgres": section})
    code, out, errors = folder.run(verb)
    assert (code, out) == (1, "")
    assert errors.startswith("Error: "), errors
    assert str(section["port"]) in errors


def test_list_and_migrate_need_no_broker(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write(pulsar(closed_port()), {"sqlite": {"path": "shop.db"}})
    code, out, errors = folder.run("migrate", "--json")
    assert (code, errors) == (0, "")
    assert json.loads(out) == {"ready": True, "config": "infinitic.yml"}
    code, out, errors = folder.run("list", "--json")
    assert (code, json.loads(out)["workflows"], errors) == (0, [], "")
