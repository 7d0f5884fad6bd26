"""`middleware:` in a configuration: the classes of middlewares, with options."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

from infinitic import (
    CallNext,
    Client,
    ClientCall,
    Middleware,
    SyncClient,
    TaskContext,
    Worker,
    Workflow,
    WorkflowContext,
)
from infinitic.cli.connection import open_connection
from infinitic.cli.doctor.command import check_code
from infinitic.config import load
from infinitic.errors import ConfigurationError
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport

_numbers = itertools.count()
_HERE = "tests.unit.test_config_middleware"

notes: list[str] = []
user: ContextVar[str] = ContextVar("user", default="")


class Note(Middleware):
    def __init__(self, name: str = "note", strict: bool = False) -> None:
        if strict:
            raise ValueError(f"{name} is taken")
        self.name = name

    async def client_call(self, call: ClientCall, call_next: CallNext) -> Any:
        notes.append(f"{self.name} {call.verb} of {call.client_name} by {user.get()}")
        return await call_next()

    async def execute_task(self, context: TaskContext, call_next: CallNext) -> Any:
        notes.append(f"{self.name} {context.task_name}")
        return await call_next()

    def activate(self, context: WorkflowContext, call_next: Callable[[], None]) -> None:
        notes.append(f"{self.name} {context.workflow_name}")
        call_next()


class Desk:
    def turn(self, text: str) -> str:
        return text[::-1]


class Letter(Workflow):
    desk = Workflow.new_service(Desk)

    async def send(self, text: str) -> str:
        return await self.dispatch(self.desk.turn, text)


def write(middleware: str) -> str:
    name = f"middleware-{next(_numbers)}"
    return f"""\
name: worker
transport: {{in_memory: {{name: {name}}}}}
storage: {{in_memory: {{name: {name}}}}}
middleware:
{middleware}
services:
  - name: Desk
    executor: {{class: {_HERE}.Desk}}
workflows:
  - name: Letter
    executor: {{class: {_HERE}.Letter}}
    state_engine: {{}}
"""


BOTH = f"""\
  - class: {_HERE}.Note
  - class: {_HERE}.Note
    options: {{name: inner}}
"""


def test_worker_and_client_have_the_middlewares_of_the_file_and_commands_have_none(tmp_path: Path) -> None:
    notes.clear()
    file = tmp_path / "infinitic.yml"
    file.write_text(write(BOTH))

    async def main() -> None:
        async with Worker.from_config(file).running() as worker, Client.from_config(file, name="client") as client:
            handle = await client.dispatch(client.new_workflow(Letter).send, "desserts")
            async with Client.from_config(file, middleware=()) as bare:
                assert await bare.get_handle(Letter.send, handle.workflow_id).result() == "stressed"
            async with open_connection(file) as connection:
                await connection.client.describe(connection.client.get_handle(Letter.send, handle.workflow_id))
            await worker.client.describe(handle)

    asyncio.run(main())
    assert notes == [
        *("note dispatch of client by ", "inner dispatch of client by "),
        *("note Letter", "inner Letter", "note turn", "inner turn", "note Letter", "inner Letter"),
        *("note describe of worker-client by ", "inner describe of worker-client by "),
    ]


def test_a_client_without_async_has_them_too_with_the_variables_of_its_thread() -> None:
    notes.clear()
    with start_blocking_portal() as portal:
        transport, storage = InMemoryTransport(), InMemoryStorage()
        worker = Worker(transport, storage)
        worker.add_service(Desk())
        worker.add_workflow(Letter)
        with (
            portal.wrap_async_context_manager(worker.running()),
            SyncClient(transport, portal=portal, name="sync", middleware=[Note()]) as client,
        ):
            token = user.set("ada")
            assert client.run(client.new_workflow(Letter).send, "desserts") == "stressed"
            user.reset(token)
    assert notes == ["note call of sync by ada"]


@pytest.mark.parametrize(
    ("middleware", "line", "message"),
    [
        ("  - class: no_such.Timing", 5, "middleware[0].class: there is no module 'no_such'"),
        (
            f"  - class: {_HERE}.Letter",
            5,
            f"{_HERE}.Letter is no middleware: it does not derive from infinitic.Middleware",
        ),
        (f"  - class: {_HERE}.Note\n    options: {{speed: 3}}", 6, f"{_HERE}.Note cannot be made with speed"),
        (
            f"  - class: {_HERE}.Note\n    options: {{strict: true, name: secret}}",
            6,
            f"making {_HERE}.Note raised ValueError, whose text has the value of an option",
        ),
    ],
)
def test_a_middleware_that_cannot_be_made_is_said_with_its_line(middleware: str, line: int, message: str) -> None:
    config = load(text=write(middleware))
    makes: list[Callable[[], object]] = [
        lambda: Worker.from_config(config=config),
        lambda: Client.from_config(config=config),
        lambda: SyncClient.from_config(config=config),
    ]
    for make in makes:
        with pytest.raises(ConfigurationError) as raised:
            make()
        assert str(raised.value).startswith(f"<text>:{line}: middleware[0].")
        assert message in str(raised.value)
    assert [each.subject for each in check_code(config)] == ["code"], "doctor says it, too"
