"""What must be true when all is healed, read from storage, topics, clients and logs."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from chaos.journal import Journal
from chaos.processes import Program
from chaos.shapes import CANCELED, NAMES, choose_shape, expect, fetch_outcome
from chaos.stage import Stage
from chaos.workflows import SIGNALS, Chores
from infinitic import Client, topics
from infinitic.definitions.workflow_spec import WorkflowSpec, spec_of
from infinitic.errors import InfiniticError
from infinitic.messages import commands, events
from infinitic.messages.events import Event
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.runtime.publisher import CAUSE
from infinitic.storage import Query, StateKey, StateStorage, Storage
from infinitic.topics import Topic
from infinitic.transport import Transport
from infinitic_testing.invariants.logs import EXPECTED
from infinitic_testing.invariants.stored import check_stored, check_topics, list_instances, read_instance

PAGE = 200
AT_ONCE = 50
"""How many questions are asked at once."""


class Findings:
    """What the checks have found.

    Attributes:
        violations: what is wrong, one line each.
        instances: how many instances there are.
        orphans: how many of them were started by a client that was killed before it could note it.
        evaluated: how often each rule of `infinitic_testing.invariants` was checked.
    """

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.instances = 0
        self.orphans = 0
        self.evaluated: Counter[str] = Counter()

    def add(self, what: str) -> None:
        """Note a violation."""
        self.violations.append(what)


async def list_running(states: StateStorage) -> list[str]:
    """List the instances that run."""
    return [f"{key.name} {key.id}" for key in await _find_running(states)]


async def end_orphans(client: Client, states: StateStorage, noted: set[str]) -> None:
    """Cancel those instances that wait for a client that no longer knows them.

    A client may be killed after it has started a workflow and before it could note the id.
    """
    for key in await _find_running(states):
        if key.id not in noted and key.name in ("Talk", "Leave"):
            await client.cancel(client.get_workflow_by_id(NAMES[key.name], key.id))


async def _find_running(states: StateStorage) -> list[StateKey]:
    found, cursor = list[StateKey](), None
    while True:
        page = await states.find(Query(status=WorkflowStatus.RUNNING, limit=PAGE, cursor=cursor))
        found += [each.key for each in page.found]
        cursor = page.cursor
        if cursor is None:
            return found


async def check_instances(storage: Storage, journals: Sequence[Journal], findings: Findings) -> None:
    """Check each instance: it has ended, with the right outcome, and all rules hold for it.

    The rules are those of simulations (`infinitic_testing.invariants`), as far as what is stored
    shows them.
    """
    for violation in await check_stored(storage, specs=_find_specs, evaluated=findings.evaluated):
        findings.add(str(violation))
    noted = {workflow_id for journal in journals for _, workflow_id in journal.list_started()}
    async for found in list_instances(storage):
        findings.instances += 1
        is_orphan = found.key.id not in noted
        findings.orphans += is_orphan
        noted.discard(found.key.id)
        try:
            instance = await read_instance(storage, found)
            assert instance is not None, "it was purged"
            assert instance.head.closed, "it is not closed"
            history = [event for segment in instance.segments for event in events.decode(segment.events)]
            _check_outcome(found.key, history, journals, is_orphan=is_orphan)
        except (AssertionError, InfiniticError) as wrong:
            findings.add(f"{found.key.name} {found.key.id}: {type(wrong).__name__}: {wrong}")
    for lost in sorted(noted):
        findings.add(f"{lost} was started, and is not in storage")


def _find_specs(name: str) -> Mapping[int, WorkflowSpec]:
    spec = spec_of(NAMES[name])
    return {spec.version: spec}


def _check_outcome(key: StateKey, history: Sequence[Event], journals: Sequence[Journal], *, is_orphan: bool) -> None:
    started = next(event for event in history if isinstance(event, events.MethodStarted))
    number, rounds, _ = msgspec.json.decode(started.arguments, type=tuple[int, int, float])
    judge_outcome(key.name, number, rounds, _find_outcome(key, history), journals, is_orphan=is_orphan)


def _find_outcome(key: StateKey, history: Sequence[Event]) -> object:
    for event in history:
        match event:
            case commands.CompleteMethod(method_id=key.id, value=value):
                return msgspec.json.decode(value)
            case commands.CancelMethod(method_id=key.id):
                return CANCELED
            case commands.FailMethod(method_id=key.id, failure=failure):
                return failure
            case _:
                pass
    raise AssertionError("its first method has no end")


def judge_outcome(
    name: str, number: int, rounds: int, outcome: object, journals: Iterable[Journal], *, is_orphan: bool = False
) -> None:
    """Check an outcome.

    Args:
        name: the name of the workflow.
        number: its number.
        rounds: its rounds.
        outcome: its result, or `CANCELED`.
        journals: what clients have done.
        is_orphan: whether no client knows the workflow.

    Raises:
        AssertionError: it is wrong.
    """
    if name != "Talk":
        expected = expect(name, number, rounds)
        assert outcome == expected, f"number {number}: {str(outcome)[:300]}, and not {str(expected)[:300]}"
        return
    if is_orphan:
        assert outcome == CANCELED, f"number {number}: {outcome}, and nobody sent signals"
        return
    received = msgspec.convert(outcome, list[int])
    sent = Counter(each for journal in journals for each in journal.find(number, "sending"))
    assert set(received) == set(range(1, SIGNALS + 1)), f"number {number}: {received}: a signal is lost"
    assert received == sorted(received), f"number {number}: {received}: the order of the sender is lost"
    more = Counter(received) - sent
    assert not more, f"number {number}: {received}: more than was sent ({dict(sent)})"


async def ask_again(client: Client, journals: Sequence[Journal], rounds: int, findings: Findings) -> int:
    """Ask for the outcome of each workflow, with a client that has started none of them.

    Returns:
        How many were asked for.
    """
    limit = asyncio.Semaphore(AT_ONCE)

    async def ask(journal: Journal, number: int, workflow_id: str, name: str) -> None:
        async with limit:
            outcome = await fetch_outcome(client, NAMES[name], workflow_id)
        told = journal.find(number, "ended")
        try:
            judge_outcome(name, number, rounds, outcome, [journal])
            assert told, f"number {number}: its client was never told of its end"
            assert told[0] == outcome, f"number {number}: {str(told[0])[:300]} at first, {str(outcome)[:300]} now"
        except AssertionError as wrong:
            findings.add(f"{name} {workflow_id}, asked again: {wrong}")

    asked = [(journal, *each) for journal in journals for each in journal.list_started()]
    await asyncio.gather(
        *(ask(journal, number, each, choose_shape(number).__name__) for journal, number, each in asked)
    )
    return len(asked)


def list_topics() -> list[Topic]:
    """List all topics that keep messages, without those of dead letters."""
    makers: tuple[Callable[[str], Topic], ...] = (topics.workflow_engine, topics.workflow_executor)
    found = [make(name) for name in NAMES for make in makers]
    return [*found, topics.service_executor(Chores.__name__)]


async def find_left_messages(transport: Transport, findings: Findings) -> list[str]:
    """Find topics in which messages are left: they wait, are in hand, or are delayed."""
    left = await check_topics(transport, list_topics(), evaluated=findings.evaluated)
    return [violation.message for violation in left]


async def check_dead_letters(transport: Transport, findings: Findings) -> None:
    """Check that there is no dead letter. Those that are there tell why."""
    for topic in map(topics.dead_letters, list_topics()):
        for name, each in (await transport.stats(topic)).subscriptions.items():
            if not each.backlog:
                continue
            consumer = await transport.subscribe(topic, name, prefetch=5)
            try:
                letters = await consumer.receive(5)
            finally:
                await consumer.close()
            why = "; ".join(f"{each.message.key}: {each.message.headers.get(CAUSE)}" for each in letters)
            findings.add(f"{topic.name} has {each.backlog} dead letters, such as {why}")


def count_attempts(folder: Path) -> tuple[int, int]:
    """Count the attempts that have begun, and how many of them began once more."""
    begun = Counter(line for path in folder.iterdir() for line in path.read_text(encoding="ascii").splitlines())
    return len(begun), begun.total() - len(begun)


async def check_nothing_stored(stage: Stage, now: float, findings: Findings) -> None:
    """Check that nothing is left in any table once all retention is over.

    Args:
        stage: the database.
        now: a time after the retention and the deduplication window of all that is stored.
        findings: gets what is left.
    """
    async with stage.storage() as storage:
        await storage.prepare()
        # The first turn leaves remnants, which go when the window is over once more.
        for time in (now, 2 * now):
            while await storage.states.purge(time, limit=PAGE):
                pass
    left = await asyncio.to_thread(stage.count_rows)
    for table, count in left.items():
        if count:
            findings.add(f"{count} rows are left in {table} after all has expired")


def check_programs(programs: Iterable[Program], findings: Findings) -> None:
    """Check that no program has ended by itself, and that no log has an error or a traceback.

    An error is right if simulations expect it, too: see `infinitic_testing.invariants.logs`.
    """
    for program in programs:
        if program.ended:
            findings.add(f"{program.name} ended by itself, with codes {program.ended}: see its log")
        lines = program.log.read_text(encoding="utf-8", errors="replace").splitlines()
        for text in [*find_errors(lines), *find_tracebacks(lines)]:
            findings.add(f"the log of {program.name} has: {text}")


def find_errors(lines: Iterable[str]) -> list[str]:
    """Find the errors in a log that nothing explains."""
    errors = [line for line in lines if " ERROR infinitic" in line]
    return [line[:300] for line in errors if not any(re.search(each.pattern, line) for each in EXPECTED)]


_RAISED = re.compile(r"[\s|]*([\w.]+(?:: .*)?)$")
"""The line behind the frames of a traceback, which names the error. In a group it has bars."""


def find_tracebacks(lines: Iterable[str]) -> list[str]:
    """Find the tracebacks in a log: for each one the line that names its error."""
    found, inside = list[str](), False
    for line in lines:
        if "Traceback (most recent call last)" in line:
            inside = True
        elif inside and (raised := _RAISED.match(line)):
            found.append(raised[1][:300])
            inside = False
    return [*found, "it has no end"] if inside else found
