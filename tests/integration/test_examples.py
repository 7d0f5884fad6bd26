"""Every example ends well on Pulsar with each database, in one process and in four.

Only the configuration differs.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from infinitic import Client, Worker, ids
from infinitic.definitions.service_contract import implementation_of
from infinitic.definitions.workflow_spec import spec_of
from tests.examples.test_examples import EXAMPLES, OUTCOMES, make_middleware
from tests.integration.stack import DATABASES, configuration, need

ROOT = Path(__file__).parents[2]
PATIENCE = 90


def path_of(thing: object) -> str:
    """The class path of a service or workflow, as a configuration names it."""
    return f"{getattr(thing, '__module__')}.{getattr(thing, '__qualname__')}"  # noqa: B009 (a class or a factory)


def services(example: str) -> list[dict[str, object]]:
    """The section `services` of a configuration."""
    return [
        {
            "name": implementation_of(each(), retry=None, attempt_timeout=None).name,
            "executor": {"class": path_of(each)},
        }
        for each in EXAMPLES[example].SERVICES
    ]


def workflows(example: str, *roles: str) -> list[dict[str, object]]:
    """The section `workflows` of a configuration, with these roles."""
    return [
        {
            "name": spec_of(each).name,
            **{role: {"class": path_of(each)} if role == "executor" else {} for role in roles},
        }
        for each in EXAMPLES[example].WORKFLOWS
    ]


@pytest.mark.parametrize("example", OUTCOMES)
@pytest.mark.parametrize("database", DATABASES)
def test_in_one_process(database: str, example: str, tmp_path: Path) -> None:
    need(database)
    roles = {"services": services(example), "workflows": workflows(example, "executor", "state_engine", "tag_engine")}
    text = configuration(database, f"test_{ids.new_id()[:8]}", tmp_path, **roles)

    async def play() -> dict[str, str]:
        middleware = make_middleware(example)
        async with Worker.from_config(text=text, middleware=middleware).running() as worker, asyncio.timeout(PATIENCE):
            return await EXAMPLES[example].scenario(worker.client)

    assert asyncio.run(play()) == OUTCOMES[example]


@contextmanager
def process(path: Path, text: str) -> Generator[subprocess.Popen[str]]:
    """A worker in a process of its own, ended as an operator ends it."""
    path.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "infinitic", "worker", "--config", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as worker:
        try:
            yield worker
            worker.terminate()
            output, _ = worker.communicate(timeout=PATIENCE)
            assert worker.returncode == 0, output
        finally:
            worker.kill()


@pytest.mark.parametrize("example", ["booking_saga", "approval"])
@pytest.mark.parametrize("database", DATABASES)
def test_in_four_processes(database: str, example: str, tmp_path: Path) -> None:
    need(database)
    label = f"test_{ids.new_id()[:8]}"
    alone = {
        "services": {"services": services(example)},
        "executor": {"workflows": workflows(example, "executor")},
        "engine": {"workflows": workflows(example, "state_engine")},
    }

    async def play() -> dict[str, str]:
        text = configuration(database, label, tmp_path)
        async with Client.from_config(text=text) as client, asyncio.timeout(PATIENCE):
            return await EXAMPLES[example].scenario(client)

    with ExitStack() as stack:
        for name, roles in alone.items():
            stack.enter_context(
                process(tmp_path / f"{name}.yml", configuration(database, label, tmp_path, name=name, **roles))
            )
        assert asyncio.run(play()) == OUTCOMES[example]
