"""The floor: what honest messages cost in one Python process, without any promise.

A hand-written engine that keeps only encoded state. For every event it decodes the state of the
workflow, runs the workflow function again from the recorded results, encodes and stores. Every
message is a dict of about 480 bytes, encoded by its sender and decoded by its receiver. It does not
acknowledge, compare-and-set, recognise duplicates or retry.

    python -m bench.floor w1|w2 N
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import orjson

from bench import load

encode, decode = orjson.dumps, orjson.loads


class Step:
    """Awaiting a step suspends the workflow until the engine sends it the result of the task."""

    def __init__(self, argument: int) -> None:
        self.argument = argument

    def __await__(self) -> Generator[Any, Any, int]:
        return int((yield [self]))


class Steps:
    """Awaiting steps suspends the workflow until all of them have a result."""

    def __init__(self, steps: list[Step]) -> None:
        self.steps = steps

    def __await__(self) -> Generator[Any, Any, list[int]]:
        results: list[int] = yield self.steps
        return results


async def add_one(x: int) -> int:
    return x + 1


async def three(i: int) -> int:
    a = await Step(i)
    b = await Step(a)
    c = await Step(b)
    return a + b + c


async def fan(width: int) -> int:
    return sum(await Steps([Step(k) for k in range(width)]))


FLOWS: dict[str, Callable[[int], Coroutine[Any, Any, int]]] = {"three": three, "fan": fan}


def envelope(kind: str, run: str, name: str, sequence: int, value: object) -> dict[str, object]:
    return {
        "id": uuid.uuid4().hex,
        "kind": kind,
        "workflow": name,
        "run": run,
        "seq": sequence,
        "at": 1795485600.123456,
        "task": "add_one",
        "attempt": 1,
        "value": value,
        "tags": ["customer:4711", "region:eu-west"],
        "meta": {
            "trace": "4bf92f3577b34da6a3ce929d0e0e4736",
            "span": "00f067aa0ba902b7",
            "host": "worker-3",
            "codec": "json",
            "version": "1.0.0",
            "partition": 7,
            "producer": "engine-0",
        },
        "parent": {"workflow": "checkout", "id": "0192f5d2-7a3e-7cc1-9b52-1f0e8b1c2d40", "step": 3},
    }


class Engine:
    """Client, engine and worker over asyncio queues."""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[bytes] = asyncio.Queue()
        self.tasks: asyncio.Queue[bytes] = asyncio.Queue()
        self.done: dict[str, asyncio.Future[bytes]] = {}
        self.states: dict[str, bytes] = {}

    async def start(self, name: str, value: int) -> int:
        run = uuid.uuid4().hex
        future = self.done[run] = asyncio.get_running_loop().create_future()
        self.inbox.put_nowait(encode(envelope("start", run, name, 0, value)))
        return int(decode(await future)["value"])

    async def work(self) -> None:
        while True:
            message = decode(await self.tasks.get())
            value = await add_one(message["value"])
            report = envelope("result", message["run"], message["workflow"], message["seq"], value)
            self.inbox.put_nowait(encode(report))

    def send(self, run: str, name: str, first: int, steps: list[Step]) -> int:
        for offset, step in enumerate(steps):
            self.tasks.put_nowait(encode(envelope("task", run, name, first + offset, step.argument)))
        return len(steps)

    async def advance(self) -> None:
        while True:
            message = decode(await self.inbox.get())
            run, name = message["run"], message["workflow"]
            if message["kind"] == "start":
                state: dict[str, Any] = {"input": message["value"], "results": {}, "issued": 0}
                state |= {"name": name, "meta": message["meta"]}
            else:
                state = decode(self.states[run])
                state["results"][str(message["seq"])] = message["value"]
            self.replay(run, name, state)

    def replay(self, run: str, name: str, state: dict[str, Any]) -> None:
        results, issued, cursor, sent = state["results"], state["issued"], 0, None
        coroutine = FLOWS[name](state["input"])
        try:
            while True:
                steps = coroutine.send(sent)
                if cursor >= issued:
                    state["issued"] += self.send(run, name, cursor, steps)
                    break
                keys = [str(cursor + k) for k in range(len(steps))]
                if any(key not in results for key in keys):
                    break
                values = [results[key] for key in keys]
                sent = values[0] if name == "three" else values
                cursor += len(steps)
            coroutine.close()
            self.states[run] = encode(state)
        except StopIteration as stop:
            self.states.pop(run, None)
            self.done.pop(run).set_result(encode(envelope("completed", run, name, 0, stop.value)))


async def main(work: str, n: int) -> None:
    engine = Engine()
    background = [asyncio.create_task(engine.work()), asyncio.create_task(engine.advance())]
    await asyncio.gather(*(engine.start("three", i) for i in range(100)))
    if work == "w1":
        await load.drive(n, load.BOUND, lambda i: engine.start("three", i), load.expected_w1)
    else:
        await load.drive(n, n, lambda i: engine.start("fan", load.FAN), load.expected_w2)
    for task in background:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
