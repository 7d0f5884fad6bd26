"""What a workflow of three tasks costs on the hot path must not grow unnoticed.

Costs are counted as instructions of the interpreter, so they do not depend on the machine, nor on
its load. What C code does is not counted: `make bench ARGS="--only instructions"` counts that, too.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from types import FrameType
from typing import Any

import pytest

from infinitic import Worker, Workflow
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport

LIMITS = {(3, 11): 18_780, (3, 12): 17_440, (3, 13): 17_910}
"""Instructions that a workflow may take: 1 % more than it did when this was written.

Each version of Python has instructions of its own.
"""

FEW, MANY = 20, 60


class Adder:
    async def add_one(self, x: int) -> int:
        return x + 1


class Three(Workflow):
    adder = Workflow.new_service(Adder)

    async def run(self, i: int) -> int:
        a = await self.adder.add_one(i)
        b = await self.adder.add_one(a)
        return await self.adder.add_one(b)


async def count_instructions(worker: Worker, workflows: int) -> int:
    """Count the instructions of so many workflows that run at the same time."""
    counted = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal counted
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        counted += event == "opcode"
        return trace

    stub = worker.client.new_workflow(Three)
    before = sys.gettrace()
    # Python 3.12 notes only when tracing starts whether any frame wants opcodes, so one has to want
    # them before it does.
    current = inspect.currentframe()
    assert current is not None
    current.f_trace_opcodes = True
    sys.settrace(trace)
    try:
        results = await asyncio.gather(*(stub.run(i) for i in range(workflows)))
    finally:
        sys.settrace(before)
    assert results == [i + 3 for i in range(workflows)]
    return counted


async def measure() -> float:
    """Count the instructions of one workflow. What the turns of the loop cost is left out."""
    worker = Worker(InMemoryTransport(), InMemoryStorage())
    worker.add_service(Adder)
    worker.add_workflow(Three)
    async with worker.running():
        # Topics are declared and caches filled before it counts.
        await asyncio.gather(*(worker.client.new_workflow(Three).run(i) for i in range(FEW)))
        few = await count_instructions(worker, FEW)
        many = await count_instructions(worker, MANY)
    return (many - few) / (MANY - FEW)


def test_a_workflow_of_three_tasks_takes_no_more_instructions_than_it_did() -> None:
    limit = LIMITS.get(sys.version_info[:2])
    if limit is None:
        pytest.skip("Nobody has counted yet what this version of Python needs")
    each = asyncio.run(measure())
    assert each <= limit, (
        f"A workflow of three tasks takes {each:,.0f} instructions of the interpreter, and at most {limit:,} are "
        "allowed. If a feature is worth that, say so in the commit and raise the limit; otherwise have it cost "
        "nothing where it is not used"
    )
