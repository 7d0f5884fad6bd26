"""Middlewares and payload codecs on real servers, with each role alone."""

from __future__ import annotations

import asyncio
import base64
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from infinitic import CallNext, Client, ClientCall, Middleware, TaskContext, Worker, Workflow, ids, task
from tests.integration.stack import DATABASES, configuration, need
from tests.integration.test_examples import path_of

SECRET = "a very secret word "
LARGE = 20_000_000
"""Bytes of a value: four times what Pulsar takes."""


class Tenants(Middleware):
    """Carries a tenant from the client to the tasks."""

    carried_meta = ("tenant",)

    def __init__(self, name: str) -> None:
        self.name = name

    async def client_call(self, call: ClientCall, call_next: CallNext) -> Any:
        call.meta["tenant"] = self.name.encode()
        return await call_next()

    async def execute_task(self, context: TaskContext, call_next: CallNext) -> Any:
        return f"{context.meta['tenant'].decode()}: {await call_next()}"


class Desk:
    @task(attempt_timeout=60)
    async def repeat(self, text: str) -> str:
        return SECRET * (LARGE // len(SECRET))

    @task(attempt_timeout=60)
    def count(self, text: str) -> str:
        return f"{len(text):,}"


class Letter(Workflow):
    desk = Workflow.new_service(Desk)

    async def write(self, text: str) -> str:
        return await self.dispatch(self.desk.count, await self.desk.repeat(text))


@pytest.mark.parametrize("database", DATABASES)
def test_a_tenant_and_a_large_secret_go_through_real_servers(database: str, tmp_path: Path) -> None:
    need(database)
    asyncio.run(play(database, tmp_path))


async def play(database: str, tmp_path: Path) -> None:
    label = f"test_{ids.new_id()[:8]}"
    (tmp_path / "objects").mkdir()
    key = base64.b64encode(bytes(range(32))).decode()
    common = {
        "codec": [
            {"class": "infinitic.codecs.aes_gcm.AesGcm", "options": {"keys": {"2026": key}}},
            {"class": "infinitic.codecs.claim_check.ClaimCheck", "options": {"store": str(tmp_path / "objects")}},
        ],
        "middleware": [{"class": path_of(Tenants), "options": {"name": "ada"}}],
    }
    engine: dict[str, Any] = {"workflows": [{"name": "Letter", "state_engine": {}}]}
    code: dict[str, Any] = {"workflows": [{"name": "Letter", "executor": {"class": path_of(Letter)}}]}
    tasks: dict[str, Any] = {"services": [{"name": "Desk", "executor": {"class": path_of(Desk)}}]}
    text = configuration(database, label, tmp_path, **common)
    async with AsyncExitStack() as stack:
        for roles in (engine, code, tasks):
            worker = Worker.from_config(text=yaml.safe_dump(yaml.safe_load(text) | roles))
            await stack.enter_async_context(worker.running())
        client = await stack.enter_async_context(Client.from_config(text=text))
        async with asyncio.timeout(120):
            answer = await client.new_workflow(Letter).write(SECRET)
        count = LARGE // len(SECRET) * len(SECRET) + len("ada: ")
        assert answer == f"ada: {count:,}"
        (found,) = (await client.list_workflows(name="Letter")).found
        assert found.key.name == "Letter"
        run = await client.read_run(client.get_handle(Letter.write, found.key.id), payloads=False)
        assert [step.meta for step in run.steps] == [{"tenant": b"ada"}] * 2
    objects = [path for path in (tmp_path / "objects").rglob("*") if path.is_file()]
    assert [path.stat().st_size > LARGE for path in objects] == [True, True], "a result, and an argument"
    assert all(SECRET.encode() not in path.read_bytes() for path in objects)
