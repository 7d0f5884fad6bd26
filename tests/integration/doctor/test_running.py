"""The commands on real servers.

A workflow that waits for a worker, two workers with one name, a wrong port of the broker.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.integration.doctor.project import LIMIT, Folder, storage
from tests.integration.doctor.test_unreachable import closed_port
from tests.integration.storages.databases import REDIS_PORT, Place

CODE = """
from infinitic import ExponentialBackoff, Workflow, task

class Payments:
    @task(retry=ExponentialBackoff(minimum_seconds=3600))
    async def pay(self) -> str:
        raise ConnectionError("no line")

class Trip(Workflow):
    payments = Workflow.new_service(Payments)

    async def go(self) -> str:
        return await self.payments.pay()
"""


@contextmanager
def worker(folder: Folder, says: str) -> Generator[list[str]]:
    """Run a worker until its log has a text, and stop it afterwards. Gives its log so far."""
    with folder.start("worker") as process:
        guard = threading.Timer(LIMIT, process.kill)
        guard.start()
        assert process.stderr is not None
        lines: list[str] = []
        try:
            for line in process.stderr:
                lines.append(line)
                if says in line:
                    break
            assert says in lines[-1], lines
            yield lines
        finally:
            process.terminate()
            _, errors = process.communicate(timeout=LIMIT)
            guard.cancel()
            lines += errors.splitlines()
    assert process.returncode == 0
    assert "Traceback" not in "".join(lines)


def test_a_workflow_is_seen_wait(folder: Folder, pulsar: dict[str, Any], at: Place) -> None:
    (folder.path / "shop_for_doctor.py").write_text(CODE, encoding="utf-8")
    folder.write(pulsar, storage(at))
    assert folder.run("migrate")[0] == 0
    code, out, errors = folder.run("start", "Trip.go")
    assert (code, errors) == (0, "")
    workflow_id = out.strip()
    code, _, errors = folder.run("describe", workflow_id, "--timeout", "1")
    assert (code, "no worker has the state engine of 'Trip'" in errors) == (1, True), errors
    with worker(folder, "attempt 1 failed, the next in"):
        code, out, errors = folder.run("describe", workflow_id, "--json")
        info = json.loads(out)
        assert (code, info["notes"]) == (0, [])
        assert [(each["task"], each["attempt"], each["failure"]) for each in info["tasks"]] == [
            ("Payments.pay", 2, "ConnectionError: no line")
        ]
        code, _, errors = folder.run("result", workflow_id)
        assert (code, "has no result yet" in errors) == (1, True)
        code, out, errors = folder.run("list", "--status", "running", "--json")
        assert [each["workflow_id"] for each in json.loads(out)["workflows"]] == [workflow_id]
    code, out, errors = folder.run("describe", workflow_id, "--json")
    assert (code, errors) == (0, "")
    assert json.loads(out)["notes"] == [
        "no worker has the state engine of 'Trip': nothing happens until one runs",
        "no worker serves the service 'Payments': its tasks wait until one runs",
    ]


def test_two_workers_of_one_name_are_noticed(folder: Folder, pulsar: dict[str, Any], at: Place) -> None:
    folder.write(pulsar, storage(at), name="twin")
    with folder.start("worker") as first:
        assert first.stdout is not None
        guard = threading.Timer(LIMIT, first.kill)
        guard.start()
        try:
            assert "twin is ready" in first.stdout.readline()
            with worker(folder, "Another worker of the name 'twin' listens"):
                pass
        finally:
            first.terminate()
            _, errors = first.communicate(timeout=LIMIT)
            guard.cancel()
    assert "Another worker" not in errors


def test_a_wrong_port_of_the_broker(folder: Folder, pulsar: dict[str, Any], at: Place) -> None:
    port = closed_port()
    folder.write(pulsar | {"broker_service_url": f"pulsar://127.0.0.1:{port}"}, storage(at))
    for command in ("start Trip.go", "dead-letters list"):
        code, out, errors = folder.run(*command.split())
        assert (code, out) == (1, ""), command
        assert str(port) in errors
    assert str(port) in folder.failure()["message"]


SECRET = "hunter-2222"


@pytest.mark.parametrize("at", ["postgres", "mysql", "redis"], indirect=True)
def test_no_output_shows_a_secret(folder: Folder, pulsar: dict[str, Any], at: Place) -> None:
    sections = [storage(at, password=SECRET)]
    if at.kind == "redis":
        sections.append({"redis": {"url": f"redis://:{SECRET}@127.0.0.1:{REDIS_PORT}/0", "key_prefix": at.label}})
    for section in sections:
        folder.write(pulsar, section)
        for command in ("doctor", "doctor --json", "list", "migrate", "worker", "describe x"):
            code, out, errors = folder.run(*command.split())
            assert code in (1, 2), command
            assert SECRET not in out + errors
            assert "password" in (out + errors).lower(), (command, errors)  # it says what is wrong
