"""A client in a process of its own. It starts workflows, talks to them, and waits for their ends.

It may be killed at any instant. The next one reads its journal, and goes on.

python -m chaos.client CONFIG JOURNAL FIRST STEP COUNT ROUNDS PAUSE SPREAD
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from pathlib import Path
from typing import Any

from chaos.journal import Journal
from chaos.shapes import SHAPES, choose_shape, fetch_outcome
from infinitic import Client


def main() -> None:
    """Read the arguments, and run until all workflows of the share have ended."""
    parser = argparse.ArgumentParser(prog="python -m chaos.client", description=__doc__)
    parser.add_argument("config", type=Path, help="configuration file")
    parser.add_argument("journal", type=Path, help="file with what was done so far")
    parser.add_argument("first", type=int, help="number of the first workflow")
    parser.add_argument("step", type=int, help="difference between two numbers")
    parser.add_argument("count", type=int, help="all numbers are below this one")
    parser.add_argument("rounds", type=int, help="rounds of each workflow")
    parser.add_argument("pause", type=float, help="seconds between two rounds")
    parser.add_argument("spread", type=float, help="seconds over which the workflows are started")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(_run(parser.parse_args()))


async def _run(options: argparse.Namespace) -> None:
    journal = Journal(options.journal)
    numbers = range(options.first, options.count, options.step)
    left = [number for number in numbers if not journal.has(number, "ended")]
    async with Client.from_config(options.config) as client, asyncio.TaskGroup() as group:
        for number in left:
            group.create_task(_drive(client, journal, number, options))
            if not journal.has(number, "started"):
                await asyncio.sleep(options.spread / len(numbers))


async def _drive(client: Client, journal: Journal, number: int, options: argparse.Namespace) -> None:
    workflow: type[Any] = choose_shape(number)
    if not journal.has(number, "started"):
        stub = client.new_workflow(workflow)
        handle = await client.dispatch(stub.run, number, options.rounds, options.pause)
        journal.add(number, "started", handle.workflow_id)
    [workflow_id] = journal.find(number, "started")
    await SHAPES[workflow](client, journal, number, workflow_id)
    journal.add(number, "ended", await fetch_outcome(client, workflow, workflow_id))


if __name__ == "__main__":
    main()
