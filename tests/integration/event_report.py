"""Events of many steps on real servers, while the listener is killed and started again.

`report_steps` runs a campaign of any size. The test runs a small one.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench import servers
from infinitic import Client, EventType, Workflow, ids, topics
from tests.integration.stack import configuration
from tests.integration.test_examples import ROOT, path_of

if TYPE_CHECKING:
    from cloudevents.core.v1.event import CloudEvent

FILE = "INFINITIC_EVENT_REPORT"
"""The environment variable that names the file of the listener."""

AT_ONCE = 20
"""How many tasks of a workflow run at once."""

WANTED = (EventType.WORKFLOW_TASK_DISPATCHED, EventType.WORKFLOW_TASK_COMPLETED, EventType.TASK_COMPLETED)
"""One of each comes for each step."""


class Paces:
    async def pace(self, number: int) -> int:
        return number


class Walk(Workflow):
    paces = Workflow.new_service(Paces)

    async def run(self, steps: int) -> int:
        done = 0
        while done < steps:
            count = min(AT_ONCE, steps - done)
            tasks = [self.dispatch(self.paces.pace, done + each) for each in range(count)]
            for task in tasks:
                await task
            done += count
        return done


class FileReport:
    """A listener that appends what it hears to a file, and is slow now and then."""

    def __init__(self) -> None:
        self._file = Path(os.environ[FILE]).open("a", encoding="utf-8")  # noqa: SIM115 (it is open until the process ends)
        self._calls = 0

    def __call__(self, events: list[CloudEvent]) -> None:
        self._calls += 1
        lines: list[str] = []
        for event in events:
            data = event.get_data()
            assert isinstance(data, dict)
            about = data.get("task_id", data["workflow_id"])
            lines.append(json.dumps([event.get_type(), event.get_source(), event.get_id(), about]) + "\n")
        self._file.writelines(lines)
        self._file.flush()
        os.fsync(self._file.fileno())


class Campaign(NamedTuple):
    """What became of a campaign.

    Attributes:
        seconds: how long the workflows took.
        later: how many seconds after their end the last event was heard.
        heard: how many events were heard.
        repeated: how many of them had been heard before.
        kills: how often the listener was killed.
        missing: what was not heard.
    """

    seconds: float
    later: float
    heard: int
    repeated: int
    kills: int
    missing: list[tuple[str, str]]


def start(path: Path, text: str, **environment: str) -> subprocess.Popen[bytes]:
    path.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "infinitic", "worker", "--config", str(path)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, env={**os.environ, **environment})


def read(file: Path) -> list[list[str]]:
    """Read what the listener wrote. Its last line may be cut, because it was killed."""
    found: list[list[str]] = []
    for line in file.read_text(encoding="utf-8").split("\n"):
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


async def report_steps(
    database: str, folder: Path, *, steps: int, workflows: int, kills: int, kill_worker: bool = True
) -> Campaign:
    """Run workflows with so many steps together, and kill the listener while they run.

    Args:
        database: where workflows are kept.
        folder: for files.
        steps: of all workflows together.
        workflows: how many share them.
        kills: how often the listener is killed with -9, and started again.
        kill_worker: whether the worker with the workflows is killed once, too.
    """
    label = f"test_{ids.new_id()[:8]}"
    file = folder / "report.jsonl"
    file.touch()
    work = configuration(
        database,
        label,
        folder,
        events=True,
        services=[{"name": "Paces", "executor": {"class": path_of(Paces)}}],
        workflows=[{"name": "Walk", "executor": {"class": path_of(Walk)}, "state_engine": {}}],
    )
    names = {"services": {"allow": ["Paces"]}, "workflows": {"allow": ["Walk"]}}
    listener = {"class": path_of(FileReport), "name": "report", "batch": {"max_seconds": 0.2}, **names}
    listen = configuration(database, label, folder, event_listener=listener)
    environment = {FILE: str(file)}
    listening = start(folder / "listener.yml", listen, **environment)
    working: subprocess.Popen[bytes] | None = None
    try:
        async with Client.from_config(text=configuration(database, label, folder)) as client:
            await _wait_for_subscription(label)
            working = start(folder / "worker.yml", work)
            began = time.monotonic()
            each = steps // workflows
            stub = client.new_workflow(Walk)
            handles = [await client.dispatch(stub.run, each) for _ in range(workflows)]
            waiting = [asyncio.ensure_future(handle.result()) for handle in handles]
            killed = 0
            while killed < kills:
                # It is killed as soon as it has written something more.
                size = file.stat().st_size
                while file.stat().st_size == size and not all(one.done() for one in waiting):  # noqa: ASYNC110 (a process writes it)
                    await asyncio.sleep(0.05)
                await asyncio.sleep(0.1 if steps < 10_000 else 5.0)
                if all(one.done() for one in waiting):
                    break
                listening.send_signal(signal.SIGKILL)
                listening.wait()
                killed += 1
                if kill_worker and killed == 1:
                    working.send_signal(signal.SIGKILL)
                    working.wait()
                    working = start(folder / "worker.yml", work)
                listening = start(folder / "listener.yml", listen, **environment)
            results = await asyncio.gather(*waiting)
            assert results == [each] * workflows
            seconds = time.monotonic() - began
            wanted = _list_wanted([handle.workflow_id for handle in handles], each)
            missing = await _wait_until_heard(file, wanted)
            later = time.monotonic() - began - seconds
    finally:
        for one in (listening, working):
            if one is not None:
                one.send_signal(signal.SIGTERM)
                one.wait(60)
    heard = [(source, number) for _, source, number, _ in read(file)]
    repeated = len(heard) - len(set(heard))
    return Campaign(seconds, later, len(heard), repeated, killed, missing)


async def _wait_for_subscription(label: str) -> None:
    """Wait until the listener has subscribed: it gets what happens after that."""
    async with servers.transport(label) as transport:
        for topic in (topics.workflow_events("Walk"), topics.service_events("Paces")):
            while "listener:report" not in (await transport.stats(topic)).subscriptions:  # noqa: ASYNC110 (see above)
                await asyncio.sleep(0.2)


def _list_wanted(workflow_ids: list[str], steps: int) -> set[tuple[str, str]]:
    tasks = {
        (kind.value, ids.task_id(each, 0, position))
        for each in workflow_ids
        for position in range(steps)
        for kind in WANTED
    }
    return tasks | {(EventType.WORKFLOW_COMPLETED.value, each) for each in workflow_ids}


async def _wait_until_heard(file: Path, wanted: set[tuple[str, str]]) -> list[tuple[str, str]]:
    missing = wanted
    ends = time.monotonic() + 120
    while missing and time.monotonic() < ends:
        await asyncio.sleep(0.5)
        missing = wanted - {(kind, about) for kind, _, _, about in read(file)}
    return sorted(missing)[:10]
