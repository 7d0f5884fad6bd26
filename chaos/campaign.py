"""One campaign: programs run, harm is done, all is healed, and everything is checked."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from chaos import checks
from chaos.checks import Findings
from chaos.journal import Journal
from chaos.nemesis import Nemesis
from chaos.plan import KINDS, draw_plan
from chaos.processes import Program
from chaos.stage import ROLES, Stage, open_stage
from infinitic import Client

CLIENTS = 2
PROGRESS = 15.0
"""Seconds between two lines that tell how far the workflows are."""

YEAR = 365 * 86_400.0


class Extent(msgspec.Struct, frozen=True):
    """How large a campaign is.

    Attributes:
        workflows: how many workflows run.
        seconds: how long harm is done.
        gap: seconds between two acts of harm, on average.
        each: how many workers of each role there are.
        roles: the roles of workers.
        kinds: the kinds of harm, out of `KINDS`.
        patience: seconds after the heal until everything must have ended.
    """

    workflows: int = 1000
    seconds: float = 300.0
    gap: float = 5.0
    each: int = 2
    roles: tuple[str, ...] = ROLES
    kinds: tuple[str, ...] = tuple(KINDS)
    patience: float = 240.0

    @property
    def rounds(self) -> int:
        """Rounds of a workflow."""
        return min(5, max(2, int(self.seconds / 12)))

    @property
    def pause(self) -> float:
        """Seconds between two rounds of a workflow.

        All workflows are started in the first third of the time. So all are in flight in the second
        third.
        """
        return self.seconds / 3 / self.rounds


class ChaosReport(msgspec.Struct):
    """What a campaign was, and what came of it.

    Attributes:
        database: on which database.
        seed: the seed of the plan.
        workflows: how many instances there were, orphans included.
        orphans: how many no client knew, because it was killed too early.
        attempts: how many attempts of tasks began.
        again: how many attempts began once more.
        done: how often each kind of harm was done.
        restarted: how often a server did not recover by itself.
        asked: how many outcomes were asked for again.
        evaluated: how often each rule of simulations was checked.
        violations: what is wrong, one line each.
        seconds: how long everything took.
    """

    database: str
    seed: int
    workflows: int
    orphans: int
    attempts: int
    again: int
    done: Counter[str]
    restarted: int
    asked: int
    evaluated: Counter[str]
    violations: list[str]
    seconds: float


async def run_campaign(
    database: str, seed: int, extent: Extent, tell: Callable[[str], None], keep_logs: Path | None = None
) -> ChaosReport:
    """Run one campaign.

    Args:
        database: out of `DATABASES` of `chaos.stage`.
        seed: of the plan.
        extent: how large it is.
        tell: is called with lines for people.
        keep_logs: a folder that gets a copy of all logs.

    Raises:
        ServerMissing: a server is not installed.
        ServerFailed: a server cannot be started.
    """
    began = time.monotonic()
    findings = Findings()
    with open_stage(database, keep_logs) as stage:
        async with AsyncExitStack() as stack:
            await stage.start()
            tell(f"{database}: the servers run")
            workers, clients = _make_programs(stage, extent)
            for program in (*workers, *clients):
                program.start()
                stack.push_async_callback(program.destroy)
            progress = asyncio.create_task(_tell_progress(stage, began, tell), name="progress")
            stack.callback(progress.cancel)
            nemesis = Nemesis(stage, workers, clients, tell)
            kinds = nemesis.list_kinds(stage, extent.kinds)
            plan = draw_plan(seed, kinds, extent.seconds, extent.gap)
            for act in plan:
                tell(f"plan: {act}")
            await nemesis.perform(plan)
            await nemesis.heal()
            tell(f"healed after {time.monotonic() - began:.0f} s")
            asked = await _settle(stage, workers, clients, extent, findings, tell)
        checks.check_programs([*workers, *clients], findings)
        missed = [kind for kind in kinds if not nemesis.done[kind]]
        if missed and len(plan) >= len(kinds):
            findings.add(f"these kinds of harm were never done: {', '.join(missed)}")
        attempts, again = checks.count_attempts(stage.attempts)
    return ChaosReport(
        database=database,
        seed=seed,
        workflows=findings.instances,
        orphans=findings.orphans,
        attempts=attempts,
        again=again,
        done=nemesis.done,
        restarted=nemesis.restarted,
        asked=asked,
        evaluated=findings.evaluated,
        violations=findings.violations,
        seconds=time.monotonic() - began,
    )


def _make_programs(stage: Stage, extent: Extent) -> tuple[list[Program], list[Program]]:
    """Make all workers, and all clients."""
    workers = [stage.make_worker(role, number + 1) for role in extent.roles for number in range(extent.each)]
    shape = (extent.workflows, extent.rounds, extent.pause, extent.seconds / 3)
    return workers, [stage.make_client(number, (number, CLIENTS, *shape)) for number in range(CLIENTS)]


async def _tell_progress(stage: Stage, began: float, tell: Callable[[str], None]) -> None:
    """Tell from time to time how far the workflows are."""
    while True:
        await asyncio.sleep(PROGRESS)
        journals = [Journal(stage.journal_of(number)) for number in range(CLIENTS)]
        started, ended = (sum(journal.count(what) for journal in journals) for what in ("started", "ended"))
        attempts, _ = checks.count_attempts(stage.attempts)
        seconds = time.monotonic() - began
        tell(f"after {seconds:.0f} s: {started} workflows started, {ended} ended, {attempts} attempts of tasks")


async def _settle(
    stage: Stage,
    workers: Sequence[Program],
    clients: Sequence[Program],
    extent: Extent,
    findings: Findings,
    tell: Callable[[str], None],
) -> int:
    """Wait until all has ended, and check it. Returns how many outcomes were asked for again."""
    asked = 0
    configuration = stage.write_configuration("asking")
    async with stage.storage() as storage, stage.transport() as transport, Client.from_config(configuration) as client:
        await storage.prepare()
        states = storage.states

        async def wait(what: str, find_left: Callable[[], Awaitable[object]]) -> bool:
            """Wait until nothing is left, or note what is."""
            left: object = None
            try:
                async with asyncio.timeout(extent.patience):
                    while left := await find_left():  # noqa: ASYNC110 (others work on it)
                        await asyncio.sleep(0.5)
            except TimeoutError:
                findings.add(f"after {extent.patience:.0f} s {what}: {str(left)[:1000]}")
                return False
            tell(f"{what}: nothing")
            return True

        async def find_clients() -> list[str]:
            return [each.name for each in clients if not each.is_done]

        await wait("clients still wait", find_clients)
        journals = [Journal(stage.journal_of(number)) for number in range(CLIENTS)]
        noted = {workflow_id for journal in journals for _, workflow_id in journal.list_started()}
        await checks.end_orphans(client, states, noted)
        await wait("instances still run", lambda: checks.list_running(states))
        await wait("messages are left", lambda: checks.find_left_messages(transport, findings))
        try:
            async with asyncio.timeout(extent.patience):
                asked = await checks.ask_again(client, journals, extent.rounds, findings)
        except TimeoutError:
            findings.add("a client that asked again got no answer")
        tell(f"{asked} outcomes were asked for again")
        await checks.check_dead_letters(transport, findings)
        await checks.check_instances(storage, journals, findings)
        await asyncio.gather(*(program.stop() for program in workers))
        await wait(
            "messages are left after the end of all workers", lambda: checks.find_left_messages(transport, findings)
        )
    await checks.check_nothing_stored(stage, time.time() + YEAR, findings)
    return asked
