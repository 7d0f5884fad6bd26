"""A service whose executors are other processes, which tests start, stop and kill."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from bench import servers
from infinitic import Client, Worker, Workflow, ids, topics
from infinitic.clock import Clock, SystemClock
from infinitic.messages import service as messages
from infinitic.messages.service import ExecuteTask
from infinitic_transports.pulsar import PulsarSettings, PulsarTransport
from tests.integration.stack import configuration
from tests.integration.test_examples import ROOT, path_of


class Tomorrow(Clock):
    """For this clock, all that waits for its time is due."""

    def now(self) -> float:
        return SystemClock().now() + 86_400.0


class Executors:
    """A namespace with the state engine in this process, and executors in others.

    Args:
        folder: for a configuration file, a database of SQLite, and a file for notes.
        service: the class of the service.
        workflow: the class of the workflow.
        executor: further settings of the executor.
        grace: `shutdown_grace_period_seconds`.
        roles: further roles of the service. They need the storage, which executors do not get.
    """

    def __init__(
        self,
        folder: Path,
        service: type[Any],
        workflow: type[Workflow],
        executor: Mapping[str, object],
        *,
        grace: float = 30.0,
        roles: Mapping[str, object] | None = None,
    ) -> None:
        self.label = f"test_{ids.new_id()[:8]}"
        self.folder = folder
        self.notes = folder / "notes.txt"
        self.notes.write_text("", encoding="utf-8")
        self.path = folder / "executor.yml"
        self._workflow = workflow
        self._topic = topics.service_executor(service.__name__)
        hosted = {"name": service.__name__, "executor": {"class": path_of(service), **executor}, **(roles or {})}
        document = yaml.safe_load(configuration("sqlite", self.label, folder, services=[hosted]))
        document["transport"]["shutdown_grace_period_seconds"] = grace
        if not roles:
            del document["storage"]
        self.path.write_text(yaml.safe_dump(document), encoding="utf-8")

    @asynccontextmanager
    async def engine(self) -> AsyncGenerator[Client]:
        """Run the workflow in this process."""
        flows = [{"name": self._workflow.__name__, "executor": {"class": path_of(self._workflow)}, "state_engine": {}}]
        text = configuration("sqlite", self.label, self.folder, workflows=flows)
        async with Worker.from_config(text=text).running() as worker:
            yield worker.client

    async def executor(self) -> asyncio.subprocess.Process:
        """Start a process that hosts the service."""
        return await self.run("worker", "--log-level", "warning")

    async def run(self, *arguments: str) -> asyncio.subprocess.Process:
        """Start a command in a process of its own."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "infinitic", *arguments, "--config", str(self.path)),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        )

    async def until_broker_has(self, holds: Callable[[list[ExecuteTask]], bool]) -> None:
        """Return when the attempts that the broker keeps for the service are so.

        It keeps what nobody has acknowledged, also if it is not due yet. The test's own timeout
        bounds this.
        """
        settings = PulsarSettings.model_validate(servers.transport_settings(self.label))
        async with PulsarTransport(settings, clock=Tomorrow()) as transport:
            while True:
                kept = await transport.peek(self._topic, self._topic.subscription or "", 100)
                if holds([messages.decode(each.message.body) for each in kept]):
                    return
                await asyncio.sleep(0.05)

    def lines(self) -> list[str]:
        """Read the notes."""
        return self.notes.read_text(encoding="utf-8").splitlines()

    async def until(self, holds: Callable[[list[str]], Any]) -> list[str]:
        """Return the notes when they are so; the test's own timeout bounds this."""
        while not holds(lines := self.lines()):  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0.05)
        return lines

    async def until_noted(self, number: int) -> list[str]:
        """Return the notes when there are so many; the test's own timeout bounds this."""
        return await self.until(lambda lines: len(lines) >= number)


def note(path: str, text: str) -> None:
    """Write one line more to a file that several processes write to."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")
