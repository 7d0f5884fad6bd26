"""Files, threads, processes and sockets are refused in workflow code (S17).

This holds in simulation and in production.
"""

from __future__ import annotations

import asyncio
import glob
import http.client
import importlib
import logging
import logging.handlers
import multiprocessing
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.request
import warnings
import weakref
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import anyio.to_thread
import httpx
import pytest
from msgspec import Raw

from infinitic import Worker, Workflow, WorkflowCodeError
from infinitic.definitions.workflow_spec import spec_of
from infinitic.messages.events import MethodStarted
from infinitic.replay.instance import Instance
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing.simulation import Simulation
from infinitic_transports.memory import InMemoryTransport

HERE = Path(__file__)
NOWHERE = Path("not", "there")


def nothing() -> None: ...


async def anyio_thread() -> None:
    await anyio.to_thread.run_sync(nothing)


async def anyio_process() -> None:
    await anyio.run_process(["true"])


async def anyio_file() -> None:
    await anyio.open_file(HERE)


async def httpx_async() -> None:
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
        await client.get("http://localhost:9")


async def anyio_connection() -> None:
    await anyio.connect_tcp("localhost", 9)


OPEN: list[socket.socket] = []
"""One, while tests of this module run."""


@pytest.fixture(scope="module", autouse=True)
def opened() -> Generator[None]:
    with socket.socket(type=socket.SOCK_DGRAM) as made:
        OPEN[:] = [made]
        yield


# ruff: noqa: SIM115 (they are not opened)
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "open": (lambda: open(HERE), "opening a file"),
    "open to write": (lambda: open("/dev/null", "w"), "opening a file"),
    "Path.read_text": (HERE.read_text, "opening a file"),
    "os.open": (lambda: os.open(HERE, os.O_RDONLY), "opening a file"),
    "write beside packages": (lambda: open(pytest.__file__, "a"), "opening a file"),
    "listdir": (lambda: os.listdir("."), r"os\.listdir"),
    "iterdir": (lambda: list(HERE.parent.iterdir()), r"os\.(listdir|scandir)"),
    "scandir": (lambda: os.scandir("."), r"os\.scandir"),
    "glob": (lambda: glob.glob("*"), r"glob\.glob"),
    "mkdir": (lambda: os.mkdir(NOWHERE), r"os\.mkdir"),
    "unlink": (lambda: NOWHERE.unlink(missing_ok=True), r"os\.remove"),
    "rmtree": (lambda: shutil.rmtree(NOWHERE), r"shutil\.rmtree"),
    "tempfile": (tempfile.TemporaryFile, "tempfile|opening a file"),
    "sqlite": (lambda: sqlite3.connect(":memory:"), r"sqlite3\.connect"),
    "thread": (lambda: threading.Thread(target=nothing).start(), "starting a thread"),
    "timer thread": (lambda: threading.Timer(1, nothing).start(), "starting a thread"),
    "thread pool": (lambda: ThreadPoolExecutor().submit(nothing), "starting a thread"),
    "anyio thread": (anyio_thread, "starting a thread"),
    "anyio file": (anyio_file, "starting a thread"),
    "subprocess": (lambda: subprocess.run(["true"]), "starting a process"),
    "os.system": (lambda: vars(os)["system"]("true"), r"os\.system"),
    "fork": (os.fork, r"os\.fork"),
    "multiprocessing": (lambda: multiprocessing.Process(target=nothing).start(), "os.fork|starting|opening"),
    "anyio process": (anyio_process, r"loop\.subprocess_exec"),
    "socket": (lambda: socket.create_connection(("127.0.0.1", 9)), r"socket\.getaddrinfo|opening a socket"),
    "socket that is not used": (socket.socket, "opening a socket"),
    "UDP socket that is not used": (lambda: socket.socket(type=socket.SOCK_DGRAM), "opening a socket"),
    "pair of sockets": (socket.socketpair, "opening a socket"),
    "copy of a socket": (lambda: OPEN[0].dup(), "opening a socket"),
    "sendto of an open socket": (lambda: OPEN[0].sendto(b"", ("127.0.0.1", 9)), r"socket\.sendto"),
    "sendmsg of an open socket": (lambda: OPEN[0].sendmsg([b""], [], 0, ("127.0.0.1", 9)), r"socket\.sendmsg"),
    "server": (lambda: socket.create_server(("127.0.0.1", 0)), "opening a socket"),
    "name": (lambda: socket.gethostbyname("localhost"), r"socket\.gethostbyname"),
    "udp": (lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"", ("127.0.0.1", 9)), "opening a socket"),
    "urllib": (lambda: urllib.request.urlopen("http://localhost:9"), r"urllib\.Request"),
    "http.client": (lambda: http.client.HTTPConnection("localhost", 9).connect(), r"http\.client\.connect"),
    "httpx": (lambda: httpx.get("http://localhost:9", trust_env=False, verify=False), r"socket\.|opening a socket"),
    "httpx, asynchronous": (httpx_async, r"loop\.getaddrinfo|socket\.|opening a socket"),
    "anyio connection": (anyio_connection, r"loop\.getaddrinfo|socket\.|opening a socket"),
    "attributes of a file": (lambda: vars(os)["listxattr"]("."), r"os\.listxattr"),
    "sleep": (lambda: time.sleep(0.001), r"time\.sleep"),  # noqa: TID251 (what is refused)
    "input": (input, r"input\(\)"),
    "environment": (lambda: os.environ.update(X="1"), r"os\.environ"),
}


class Reaching(Workflow):
    """Does what it is told to, at one line."""

    async def call(self, name: str) -> str:
        return await self._call(REFUSED[name][0])

    async def caught(self, name: str) -> str:
        try:
            return await self._call(REFUSED[name][0])
        except Exception:  # noqa: BLE001 (that is the point)
            return "caught"

    async def in_background(self, name: str) -> str:
        task = asyncio.create_task(self._call(REFUSED[name][0]))
        await asyncio.sleep(60)
        return str(task.done())

    async def in_condition(self, name: str) -> str:
        await self.wait_until(lambda: REFUSED[name][0]() is nothing)  # CONDITION
        return "done"

    async def in_inline(self, name: str) -> bool:
        return self.inline(_exists, name)

    async def _call(self, function: Callable[[], Any]) -> str:
        result = function()
        if asyncio.iscoroutine(result):
            await result
        return "done"


def _exists(name: str) -> bool:
    return REFUSED[name][0]() is not None


def is_here(error: BaseException) -> bool:
    """True if the report names a line of this file."""
    return f", at {HERE}:" in str(error)


@pytest.mark.parametrize("name", REFUSED)
async def test_it_is_refused_in_simulation(sim: Simulation, name: str) -> None:  # S17
    sim.add_workflow(Reaching)
    with pytest.raises(WorkflowCodeError, match=REFUSED[name][1]) as caught:
        await sim.client.new_workflow(Reaching).call(name)
    assert is_here(caught.value), caught.value


@pytest.mark.parametrize("way", ["caught", "in_background", "in_condition"])
async def test_it_is_refused_wherever_it_stands(sim: Simulation, way: str) -> None:  # S17
    sim.add_workflow(Reaching)
    with pytest.raises(WorkflowCodeError, match="opening a file") as caught:
        await getattr(sim.client.new_workflow(Reaching), way)("open")
    assert is_here(caught.value)
    assert "in a task of a service" in str(caught.value)


async def test_inline_may_do_it(sim: Simulation) -> None:  # S16
    sim.add_workflow(Reaching)
    assert await sim.client.new_workflow(Reaching).in_inline("Path.read_text") is True
    assert await sim.client.new_workflow(Reaching).in_inline("listdir") is True


def test_it_is_refused_in_production() -> None:  # S17
    async def main() -> None:
        async with InMemoryTransport() as transport, InMemoryStorage() as storage:
            stalled = asyncio.Queue[tuple[str, Exception]]()
            worker = Worker(transport, storage, on_stall=lambda key, why: stalled.put_nowait((key, why)))
            worker.add_workflow(Reaching)
            async with worker.running(), asyncio.timeout(60):
                client = worker.client
                seen = [name for name in REFUSED if name != "sleep" or sys.version_info >= (3, 13)]
                for name in seen:
                    handle = await client.dispatch(client.new_workflow(Reaching).call, name)
                    workflow_id, error = await stalled.get()
                    assert workflow_id == handle.workflow_id
                    assert isinstance(error, WorkflowCodeError)
                    assert is_here(error), error

    asyncio.run(main())


# What is let pass.


class Finalized:
    def __del__(self) -> None:
        shutil.rmtree(NOWHERE, ignore_errors=True)


class Allowed(Workflow):
    async def run(self, what: str) -> str:
        logger = logging.getLogger("tests.fences")
        match what:
            case "log":
                logger.warning("to a file that is opened now")
                self.logger.warning("the same")
                try:
                    raise LookupError("shown with its lines")
                except LookupError:
                    logger.exception("with a traceback")
            case "traceback":
                try:
                    raise LookupError("shown with its lines")
                except LookupError:
                    return traceback.format_exc()
            case "warning":
                with warnings.catch_warnings():
                    warnings.simplefilter("always")
                    warnings.warn("shown with its line", stacklevel=1)
            case "import":
                lazy_import_here()
            case "time zone":
                return str(self.now().astimezone(ZoneInfo.no_cache("Europe/Paris")).utcoffset())
            case "finalizer":
                Finalized()
                leaving = Finalized()
                weakref.finalize(leaving, shutil.rmtree, NOWHERE, True)
                del leaving
            case _:
                sys.stdout.write("printing")
        return "done"


def lazy_import_here() -> None:
    importlib.import_module("lazy_of_this_test")


@pytest.fixture
def handler(tmp_path: Path) -> Any:
    """A file that is opened at the first record and rotated at each."""
    logger = logging.getLogger("tests.fences")
    path = tmp_path / "log" / "app.log"
    path.parent.mkdir()
    rotating = logging.handlers.RotatingFileHandler(path, maxBytes=1, backupCount=2, delay=True)
    logger.addHandler(rotating)
    yield path
    logger.removeHandler(rotating)
    rotating.close()


@pytest.mark.parametrize("what", ["log", "traceback", "warning", "import", "time zone", "finalizer", "print"])
def test_it_is_let_pass(
    what: str, handler: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    tmp_path.joinpath("data.txt").write_text("data")
    tmp_path.joinpath("lazy_of_this_test.py").write_text(
        "import pathlib, threading\n"
        "TEXT = pathlib.Path(__file__).with_name('data.txt').read_text()\n"
        "thread = threading.Thread(target=str); thread.start(); thread.join()\n"
    )
    sys.modules.pop("lazy_of_this_test", None)

    async def main() -> str:
        async with Simulation() as sim:
            sim.add_workflow(Allowed)
            return await sim.client.new_workflow(Allowed).run(what)

    result = Simulation.run(main())
    if what == "traceback":
        assert 'raise LookupError("shown with its lines")' in result
    if what == "log":
        assert handler.exists()
        assert handler.with_suffix(".log.1").exists(), "the file was rotated meanwhile"


def test_others_are_let_alone_meanwhile(tmp_path: Path) -> None:
    """A thread that opens files while workflow code runs in another one is no workflow."""
    stop, failures, opened = threading.Event(), list[BaseException](), list[int]()

    def work() -> None:
        try:
            while not stop.is_set():
                tmp_path.joinpath("file").write_text("x")
                opened.append(1)
        except BaseException as error:  # noqa: BLE001 (told to the test)
            failures.append(error)

    class Busy(Workflow):
        async def run(self) -> int:
            began = len(opened)
            while len(opened) < began + 20 and thread.is_alive():
                pass
            return len(opened)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        instance = Instance(spec_of(Busy), "w", {})
        instance.activate(0.0, [MethodStarted("m", "run", Raw(b"[]"))])
        instance.close()
    finally:
        stop.set()
        thread.join()
    assert failures == []
