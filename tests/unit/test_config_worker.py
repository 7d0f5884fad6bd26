"""Workers and clients that are made of a configuration."""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal

from examples.hello import Visit
from infinitic import Client, SyncClient, Worker
from infinitic.config import Config, load
from infinitic.definitions.workflows import ReplayCheck
from infinitic.errors import ConfigurationError, UsageError
from infinitic.plugins import STORAGE_WRAPPERS, list_storages, list_transports, load_storage_wrapper
from infinitic.runtime.memory_bounds import MemoryBounds
from infinitic.storage import Storage, StorageClosed
from infinitic.transport import Transport, TransportClosed
from infinitic.worker.configured import import_services, import_workflows
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples" / "config").glob("*.yml"))

_numbers = itertools.count()


def hello(executor: str = "{class: examples.hello.EnglishGreeter}", workflow: str = "examples.hello:Visit") -> str:
    name = f"config-{next(_numbers)}"
    return f"""\
name: hello-worker
transport: {{in_memory: {{name: {name}}}}}
storage: {{in_memory: {{name: {name}}}}}
services:
  - name: Greeter
    executor: {executor}
workflows:
  - name: Visit
    executor: {{class: "{workflow}", replay_check: strict}}
    state_engine: {{retention_seconds: 60}}
"""


@pytest.mark.parametrize(
    "executor", ["{class: examples.hello.EnglishGreeter}", "{factory: examples.hello.EnglishGreeter}"]
)
def test_a_worker_and_a_client_of_one_text_work_together(executor: str) -> None:
    text = hello(executor)

    async def main() -> list[str]:
        worker = Worker.from_config(text=text)
        assert worker.name == "hello-worker"
        assert worker.workflow_specs("Visit")[0].check is ReplayCheck.STRICT
        async with worker.running(), Client.from_config(text=text) as client:
            heard = await client.new_workflow(Visit).receive("Ada")
            assert [each.key.name for each in (await client.list_workflows()).found] == ["Visit"]
            return heard

    assert asyncio.run(main()) == ["Hello, Ada!", "Goodbye, Ada."]


def test_a_worker_and_clients_of_one_loaded_configuration() -> None:
    config = load(text=hello(), environ={})

    def receive(portal: BlockingPortal) -> list[str]:
        client = SyncClient.from_config(config=config, portal=portal)
        with client:
            return client.run(client.new_workflow(Visit).receive, "Grace")
        raise AssertionError

    async def main() -> list[list[str]]:
        async with (
            Worker.from_config(config=config).running(),
            Client.from_config(config=config) as client,
            BlockingPortal() as portal,
        ):
            return [await client.new_workflow(Visit).receive("Ada"), await asyncio.to_thread(receive, portal)]
        raise AssertionError

    assert asyncio.run(main()) == [["Hello, Ada!", "Goodbye, Ada."], ["Hello, Grace!", "Goodbye, Grace."]]


def test_a_synchronous_client(tmp_path: Path) -> None:
    file = tmp_path / "infinitic.yml"
    file.write_text(hello())

    def heard(portal: BlockingPortal) -> list[str]:
        client = SyncClient.from_config(file, portal=portal)
        with client:
            return client.run(client.new_workflow(Visit).receive, "Ada")
        raise AssertionError

    async def main() -> list[str]:
        async with Worker.from_config(file).running(), BlockingPortal() as portal:
            return await asyncio.to_thread(heard, portal)
        raise AssertionError

    assert asyncio.run(main()) == ["Hello, Ada!", "Goodbye, Ada."]


def test_adapters_are_closed_by_whoever_made_them() -> None:
    text = hello()
    loaded = load(text=text, environ={})
    made: list[Transport | Storage] = []

    class Recording(Config):
        def make_transport(self) -> Transport:
            made.append(transport := loaded.make_transport())
            return transport

        def make_storage(self) -> Storage | None:
            storage = loaded.make_storage()
            assert storage is not None
            made.append(storage)
            return storage

    config = Recording(loaded.document, loaded.transport_settings, loaded.storage_settings, loaded.reader)

    async def main() -> None:
        client = Client.from_config(text=text)
        async with Worker.from_config(config=config).running(), client:
            await client.list_workflows()
        with pytest.raises(StorageClosed):
            await client.list_workflows()
        storage, transport = made
        assert isinstance(storage, Storage)
        assert isinstance(transport, Transport)
        with pytest.raises(StorageClosed):
            await storage.prepare()
        with pytest.raises(TransportClosed):
            await transport.declare([])

    asyncio.run(main())


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("Nothing", "'Nothing' is not the path of a class: write package.module.Class"),
        ("nowhere.at.all.Class", "there is no module 'nowhere' in the working directory or the environment"),
        (
            "examples.nothing.Class",
            "there is no module 'examples.nothing' in the working directory or the environment",
        ),
        (
            "examples.hello.Greter",
            f"the module examples.hello ({ROOT}/examples/hello.py) has no 'Greter' (did you mean 'Greeter'?)",
        ),
        ("examples.hello.PAUSE", "examples.hello.PAUSE is not a class"),
        (
            "broken_for_config.Class",
            "importing broken_for_config raised ZeroDivisionError: division by zero (broken_for_config.py, line 1)",
        ),
        (
            "lost_for_config.Class",
            "importing lost_for_config raised ModuleNotFoundError: No module named 'nowhere' "
            "(lost_for_config.py, line 1)",
        ),
        ("builtins.dict", "builtins.dict is the service 'dict', not 'Greeter'"),
    ],
)
def test_a_class_that_is_not_allowed(path: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # the working directory is put there
    (tmp_path / "broken_for_config.py").write_text("1 / 0\n")
    (tmp_path / "lost_for_config.py").write_text("import nowhere\n")
    with pytest.raises(ConfigurationError) as caught:
        Worker.from_config(text=hello(f"{{class: {path}}}"))
    assert str(caught.value) == f"<text>:6: services[0].executor.class: {message}"


def test_factories_and_workflows_that_are_not_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # the working directory is put there
    (tmp_path / "factories_for_config.py").write_text(
        "number = 7\ndef fails():\n    raise LookupError('no greeter')\ndef other():\n    return {}\n"
    )
    for name, message in {
        "number": "factories_for_config.number cannot be called",
        "fails": "making the service raised LookupError: no greeter (factories_for_config.py, line 3)",
        "other": "it makes the service 'dict', not 'Greeter'",
    }.items():
        with pytest.raises(ConfigurationError) as caught:
            Worker.from_config(text=hello(f"{{factory: factories_for_config.{name}}}"))
        assert str(caught.value) == f"<text>:6: services[0].executor.factory: {message}"
    for path, message in {
        "examples.hello.EnglishGreeter": "examples.hello.EnglishGreeter is not a workflow: "
        "it does not derive from infinitic.Workflow",
        "infinitic.cli.demo.booking.Trip": "infinitic.cli.demo.booking.Trip is the workflow 'Trip', not 'Visit'",
    }.items():
        with pytest.raises(ConfigurationError) as caught:
            Worker.from_config(text=hello(workflow=path))
        assert str(caught.value) == f"<text>:9: workflows[0].executor.class: {message}"


def test_a_workflow_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # the working directory is put there
    (tmp_path / "needy_for_config.py").write_text(
        "from infinitic import Workflow\nclass Visit(Workflow):\n"
        "    def __init__(self, rate):\n        self.rate = rate\n    async def receive(self) -> None: ...\n"
    )
    with pytest.raises(ConfigurationError) as caught:
        Worker.from_config(text=hello(workflow="needy_for_config.Visit"))
    assert str(caught.value) == (
        "<text>:9: workflows[0].executor.class: it cannot be made without arguments: missing a required argument: "
        "'rate'; give its parameters defaults, or host it in code with worker.add_workflow and a factory"
    )


def test_the_memory_of_a_worker_is_bounded_as_the_file_says() -> None:
    text = hello() + "cache_size: 0\ncacheBytes: 5\nbuffer_bytes: 1\n"
    assert load(text=text, environ={}).document.memory_bounds == MemoryBounds(0, 5, 1)
    assert load(text=hello(), environ={}).document.memory_bounds == MemoryBounds()

    async def main() -> list[str]:
        async with Worker.from_config(text=text).running() as worker:
            assert worker.bounds == MemoryBounds(0, 5, 1)
            return await worker.client.new_workflow(Visit).receive("Ada")

    assert asyncio.run(main()) == ["Hello, Ada!", "Goodbye, Ada."]


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"cache_size": -1}, "cache_size must be a whole number, 0 or more, got -1"),
        ({"cache_bytes": 1.5}, "cache_bytes must be a whole number, 0 or more, got 1.5"),
        ({"cache_bytes": True}, "cache_bytes must be a whole number, 0 or more, got True"),
        ({"buffer_bytes": 0}, "buffer_bytes must be a whole number, 1 or more, got 0"),
    ],
)
def test_memory_bounds_that_are_not_allowed(bounds: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}$"):
        Worker(InMemoryTransport(), **bounds)


def test_compression_wraps_the_storage() -> None:
    try:
        load_storage_wrapper("compression")
    except ConfigurationError:
        pytest.skip(f"no entry point in {STORAGE_WRAPPERS} can be loaded")
    text = hello().replace("storage: {", "storage: {compression: gzip, ")
    assert not isinstance(load(text=text, environ={}).make_storage(), InMemoryStorage)

    async def main() -> list[str]:
        async with Worker.from_config(text=text).running() as worker:
            return await worker.client.new_workflow(Visit).receive("Ada")

    assert asyncio.run(main()) == ["Hello, Ada!", "Goodbye, Ada."]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_examples_load(file: Path) -> None:
    one = file.stem in ("in_memory", "sqlite")  # broker and database
    transport, storage = [file.stem] * 2 if one else file.stem.split("_")
    if transport not in list_transports() or storage not in list_storages():
        pytest.skip(f"{file.stem} is not installed")
    environ: dict[str, str] = dict.fromkeys(("PGPASSWORD", "MYSQL_PASSWORD", "REDIS_PASSWORD"), "x")
    config = load(file, environ=environ)
    assert config.transport_settings[0] == transport
    assert config.storage_settings is not None
    assert config.storage_settings[0] == storage
    assert [each.name for each in import_services(config)] == ["Greeter"]
    assert [each.versions for each in import_workflows(config)] == [(Visit,)]
