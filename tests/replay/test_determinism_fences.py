"""The time, randomness and the environment are refused in workflow code, in simulation (S17)."""

from __future__ import annotations

import asyncio
import datetime as dates
import email.utils
import functools
import logging
import os
import random
import secrets
import socket
import ssl
import tempfile
import time
import uuid
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from time import time as clock
from typing import Any

import pytest

from infinitic import Worker, Workflow, WorkflowCodeError
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing.simulation import Simulation
from infinitic_transports.memory import InMemoryTransport

# ruff: noqa: TID251 (what is refused)


@dataclass
class Order:
    id: uuid.UUID = field(default_factory=uuid.uuid4)


class MyDate(datetime): ...


GIVEN = (0.0,)
PAIR: list[socket.socket] = []
"""Two, while tests of this module run."""


@pytest.fixture(scope="module", autouse=True)
def opened() -> Generator[None]:
    one, other = socket.socketpair()
    with one, other:
        PAIR[:] = one, other
        yield


NOW, RANDOM, ENVIRONMENT, TALK = r"self\.now\(\)", r"self\.random or self\.uuid4\(\)", r"self\.inline", "in a task"
REFUSED: dict[str, tuple[Callable[[], Any], str, str]] = {
    "time.time": (lambda: time.time(), r"time\.time\(\)", NOW),
    "time, imported by name": (lambda: clock(), r"time\.time\(\)", NOW),
    "time_ns": (lambda: time.time_ns(), r"time\.time_ns\(\)", NOW),
    "monotonic": (lambda: time.monotonic(), r"time\.monotonic\(\)", NOW),
    "perf_counter": (lambda: time.perf_counter(), r"time\.perf_counter\(\)", NOW),
    "datetime.now": (lambda: datetime.now(), r"datetime\.now\(\)", NOW),
    "datetime.now, of the module": (lambda: dates.datetime.now(dates.UTC), r"datetime\.now\(\)", NOW),
    "datetime.today": (lambda: datetime.today(), r"datetime\.today\(\)", NOW),
    "date.today": (lambda: date.today(), r"date\.today\(\)", NOW),
    "a subclass": (lambda: MyDate.now(), r"\.now\(\)", NOW),
    "datetime.utcnow": (lambda: vars(datetime)["utcnow"].__get__(None, datetime)(), r"datetime\.utcnow\(\)", NOW),
    "localtime": (lambda: time.localtime(), r"time\.localtime\(\)", NOW),
    "gmtime": (lambda: time.gmtime(), r"time\.gmtime\(\)", NOW),
    "ctime": (lambda: time.ctime(), r"time\.ctime\(\)", NOW),
    "asctime": (lambda: time.asctime(), r"time\.asctime\(\)", NOW),
    "strftime": (lambda: time.strftime("%H:%M"), r"time\.strftime\(\)", NOW),
    "clock_gettime": (lambda: time.clock_gettime(time.CLOCK_REALTIME), r"time\.clock_gettime\(\)", NOW),
    "os.times": (lambda: os.times(), r"posix\.times\(\)", NOW),
    "of an e-mail": (lambda: email.utils.formatdate(), r"email\.utils\.formatdate\(\)", NOW),
    "random.random": (lambda: random.random(), r"random\.random\(\)", RANDOM),
    "random.randint": (lambda: random.randint(1, 6), r"random\.randint\(\)", RANDOM),
    "random.choice": (lambda: random.choice("ab"), r"random\.choice\(\)", RANDOM),
    "random.shuffle": (lambda: random.shuffle([1, 2, 3]), r"random\.shuffle\(\)", RANDOM),
    "random.seed": (lambda: random.seed(1), r"random\.seed\(\)", RANDOM),
    "Random()": (lambda: random.Random(), r"random\.Random\(\) without a seed", RANDOM),
    "SystemRandom": (lambda: random.SystemRandom().random(), r"random\.\S+( without a seed)?", RANDOM),
    "uuid4": (lambda: uuid.uuid4(), r"uuid\.uuid4\(\)", RANDOM),
    "uuid1": (lambda: uuid.uuid1(), r"uuid\.uuid1\(\)", RANDOM),
    "uuid4, as a default": (lambda: Order(), r"uuid\.uuid4\(\)", RANDOM),
    "urandom": (lambda: os.urandom(4), r"posix\.urandom\(\)", RANDOM),
    "secrets": (lambda: secrets.token_hex(), r"secrets\.token_hex\(\)", RANDOM),
    "secrets.choice": (lambda: secrets.choice("ab"), r"random\.choice\(\)", RANDOM),
    "RAND_bytes": (lambda: ssl.RAND_bytes(4), r"_ssl\.RAND_bytes\(\)", RANDOM),
    "send": (lambda: PAIR[0].send(b"x"), r"socket\.send\(\)", TALK),
    "sendall": (lambda: PAIR[0].sendall(b"x"), r"socket\.sendall\(\)", TALK),
    "recv": (lambda: PAIR[1].recv(1), r"socket\.recv\(\)", TALK),
    "recv_into": (lambda: PAIR[1].recv_into(bytearray(1)), r"socket\.recv_into\(\)", TALK),
    "names in os.environ": (lambda: list(os.environ), r"os\.environ", ENVIRONMENT),
    "len(os.environ)": (lambda: len(os.environ), r"os\.environ", ENVIRONMENT),
    "os.environ": (lambda: os.environ["HOME"], r"os\.environ", ENVIRONMENT),
    "os.environ.get": (lambda: os.environ.get("HOME"), r"os\.environ", ENVIRONMENT),
    "in os.environ": (lambda: "HOME" in os.environ, r"os\.environ", ENVIRONMENT),
    "getenv": (lambda: os.getenv("HOME"), r"os\.environ", ENVIRONMENT),
}


class Desk:
    async def say(self, word: str) -> str:
        assert time.time() > 0
        assert uuid.uuid4() != uuid.uuid4()
        assert random.random() < 1
        return word + os.environ.get("NOT_THERE", "")


class Guessing(Workflow):
    desk = Workflow.new_service(Desk)

    async def argument(self, name: str) -> str:
        return await self.desk.say(str(REFUSED[name][0]()))

    async def caught(self, name: str) -> str:
        await asyncio.sleep(1)
        try:
            return str(REFUSED[name][0]())
        except Exception:  # noqa: BLE001 (that is the point)
            return "caught"

    async def condition(self, name: str) -> str:
        await self.wait_until(lambda: REFUSED[name][0]() is not None)
        return "done"

    async def inlined(self, name: str) -> str:
        return self.inline(_told, name)

    async def allowed(self) -> str:
        rng = random.Random(7)
        seen = [
            rng.random(),
            rng.choice("ab"),
            self.random.random(),
            self.uuid4(),
            self.now(),
            self.now() + timedelta(1),
        ]
        at, moment = self.now().timestamp(), time.gmtime(0)
        assert time.gmtime(at) > moment
        assert time.strftime("%Y", moment) == "1970"
        assert time.asctime(moment) + time.ctime(at) + str(time.localtime(at))
        assert time.gmtime(*GIVEN) == moment
        logging.getLogger("tests.fences").warning("with the time, the thread and the process")
        asyncio.get_running_loop().time()
        await asyncio.gather(*(asyncio.sleep(each) for each in (1, 2)))
        async with asyncio.timeout(5):
            await self.desk.say("word")
        return str(datetime.fromtimestamp(0, dates.UTC)) + str(len(seen))


def _told(name: str) -> str:
    return str(REFUSED[name][0]())


class Constructed(Workflow):
    def __init__(self) -> None:
        self.began = time.time()

    async def run(self) -> float:
        return self.began


@pytest.mark.parametrize("name", REFUSED)
async def test_it_is_refused(sim: Simulation, name: str) -> None:  # S17
    sim.add_service(Desk)
    sim.add_workflow(Guessing)
    _, what, instead = REFUSED[name]
    with pytest.raises(WorkflowCodeError, match=f"{what} is not possible.*{instead}") as caught:
        await sim.client.new_workflow(Guessing).argument(name)
    assert f", at {__file__}:" in str(caught.value)


@pytest.mark.parametrize("way", ["caught", "condition"])
async def test_it_is_refused_wherever_it_stands(sim: Simulation, way: str) -> None:  # S17
    sim.add_workflow(Guessing)
    with pytest.raises(WorkflowCodeError, match=r"time\.time\(\) is not possible"):
        await getattr(sim.client.new_workflow(Guessing), way)("time.time")


async def test_it_is_refused_in_a_constructor(sim: Simulation) -> None:  # S17
    sim.add_workflow(Constructed)
    with pytest.raises(WorkflowCodeError, match=r"time\.time\(\) is not possible.*in Constructed\.__init__"):
        await sim.client.new_workflow(Constructed).run()


async def test_sleeping_for_real_is_refused(sim: Simulation) -> None:  # S17
    class Sleeping(Workflow):
        async def run(self) -> None:
            time.sleep(0)  # noqa: ASYNC251 (that is the point)

    sim.add_workflow(Sleeping)
    with pytest.raises(WorkflowCodeError, match=r"time\.sleep\(\) is not possible.*asyncio\.sleep"):
        await sim.client.new_workflow(Sleeping).run()


@pytest.mark.parametrize("name", ["time.time", "uuid4", "os.environ"])
async def test_inline_may_do_it(sim: Simulation, name: str) -> None:  # S16
    sim.add_workflow(Guessing)
    assert await sim.client.new_workflow(Guessing).inlined(name)


async def test_the_rest_is_let_pass(sim: Simulation) -> None:
    sim.add_service(Desk)
    sim.add_workflow(Guessing)
    assert await sim.client.new_workflow(Guessing).allowed() == "1970-01-01 00:00:00+00:006"
    assert time.time() > 0, "the test itself is no workflow"
    assert tempfile.gettempdir()


def test_it_is_not_looked_at_in_production() -> None:
    async def main() -> None:
        async with InMemoryTransport() as transport, InMemoryStorage() as storage:
            worker = Worker(transport, storage)
            worker.add_workflow(Constructed)
            async with worker.running(), asyncio.timeout(60):
                assert await worker.client.new_workflow(Constructed).run() > 0

    asyncio.run(main())


def test_a_profiler_is_left_alone() -> None:
    """Somebody measures the test: the profiler goes on."""
    import cProfile

    class Timed(Workflow):
        async def run(self) -> None:
            await asyncio.sleep(functools.reduce(max, [1, 2]))

    async def main() -> None:
        async with Simulation() as sim:
            sim.add_workflow(Timed)
            await sim.client.new_workflow(Timed).run()

    profiler = cProfile.Profile()
    profiler.enable()
    try:
        Simulation.run(main())
    finally:
        profiler.disable()
    assert any("functools.reduce" in str(entry.code) for entry in profiler.getstats())
