"""What must be true when all is healed, read from storage, topics, clients and logs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from chaos.journal import Journal
from chaos.processes import Program
from chaos.shapes import CANCELED, NAMES, choose_shape, expect, fetch_outcome
from chaos.stage import Stage
from chaos.workflows import SIGNALS, Chores
from infinitic import Client, topics
from infinitic.definitions.workflow_spec import spec_of
from infinitic.engines import state
from infinitic.errors import InfiniticError
from infinitic.messages import commands, events
from infinitic.messages.events import Event
from infinitic.messages.outcomes import WorkflowStatus
from infinitic.replay.history import Replay
from infinitic.replay.instance import Instance
from infinitic.runtime.history import feed_history
from infinitic.runtime.publisher import CAUSE
from infinitic.storage import Query, Segment, StateKey, StateStorage
from infinitic.topics import Topic
from infinitic.transport import Transport
from tests.simulation.invariants import check_closed, check_history, decode_history

PAGE = 200
AT_ONCE = 50
"""How many questions are asked at once."""


class Findings:
    """What the checks have found.

    Attributes:
        violations: what is wrong, one line each.
        instances: how many instances there are.
        orphans: how many of them were started by a client that was killed before it could note it.
    """

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.instances = 0
        self.orphans = 0

    def add(self, what: str) -> None:
        """Note a violation."""
        self.violations.append(what)


async def iterate_keys(states: StateStorage, status: WorkflowStatus | None = None) -> AsyncIterator[StateKey]:
    """Give the keys of all instances, or of those with a status."""
    cursor: str | None = None
    while True:
        page = await states.find(Query(status=status, limit=PAGE, cursor=cursor))
        for found in page.found:
            yield found.key
        cursor = page.cursor
        if cursor is None:
            return


async def list_running(states: StateStorage) -> list[str]:
    """List the instances that run."""
    return [f"{key.name} {key.id}" async for key in iterate_keys(states, WorkflowStatus.RUNNING)]


async def end_orphans(client: Client, states: StateStorage, noted: set[str]) -> None:
    """Cancel those instances that wait for a client that no longer knows them.

    A client may be killed after it has started a workflow and before it could note the id.
    """
    async for key in iterate_keys(states, WorkflowStatus.RUNNING):
        if key.id not in noted and key.name in ("Talk", "Leave"):
            await client.cancel(client.get_workflow_by_id(NAMES[key.name], key.id))


async def check_instances(states: StateStorage, journals: Sequence[Journal], findings: Findings) -> None:
    """Check each instance: it has ended, with the right outcome, and its history is sound."""
    noted = {workflow_id for journal in journals for _, workflow_id in journal.list_started()}
    async for key in iterate_keys(states):
        findings.instances += 1
        findings.orphans += key.id not in noted
        try:
            await _check_instance(states, key, journals, is_orphan=key.id not in noted)
        except (AssertionError, InfiniticError) as wrong:
            findings.add(f"{key.name} {key.id}: {type(wrong).__name__}: {wrong}")
        noted.discard(key.id)
    for lost in noted:
        findings.add(f"{lost} was started, and is not in storage")


async def _check_instance(states: StateStorage, key: StateKey, journals: Sequence[Journal], *, is_orphan: bool) -> None:
    stored = (await states.load([key]))[key]
    assert not stored.damage, stored.damage
    head = state.decode(stored.head)
    segments = [segment async for segment in _read_history(states, key)]
    history = decode_history(segments)
    check_history(key, head, segments)
    assert head.closed, f"it is not closed: {head}"
    check_closed(key, head, history)
    instance = Instance(spec_of(NAMES[key.name]), head.id, head.meta, head.run)
    try:
        replay = Replay(instance)
        await feed_history(replay, key, head.sequence, states)
        replay.finish(unanswered=False)
    finally:
        instance.close()
    _check_outcome(key, history, journals, is_orphan=is_orphan)


async def _read_history(states: StateStorage, key: StateKey) -> AsyncIterator[Segment]:
    after = 0
    while True:
        page = await states.history(key, after=after, limit=PAGE)
        for segment in page:
            yield segment
        if len(page) < PAGE:
            return
        after = page[-1].sequence


def _check_outcome(key: StateKey, history: Sequence[Event], journals: Sequence[Journal], *, is_orphan: bool) -> None:
    started = next(event for event in history if isinstance(event, events.MethodStarted))
    number, rounds, _ = msgspec.json.decode(started.arguments, type=tuple[int, int, float])
    outcome = _find_outcome(key, history)
    judge_outcome(key.name, number, rounds, outcome, journals, is_orphan=is_orphan)


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


async def find_left_messages(transport: Transport) -> dict[str, str]:
    """Find topics in which messages are left, waiting, in hand or delayed."""
    left = dict[str, str]()
    for topic in list_topics():
        for name, each in (await transport.stats(topic)).subscriptions.items():
            if each.backlog or each.unacked or each.delayed:
                left[topic.name] = f"{name}: {each.backlog} wait, {each.unacked} in hand, {each.delayed} delayed"
    return left


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
    """Check that no program has ended by itself, and that no log has a traceback."""
    for program in programs:
        if program.ended:
            findings.add(f"{program.name} ended by itself, with codes {program.ended}: see its log")
        for text in _find_tracebacks(program.log):
            findings.add(f"a traceback is in the log of {program.name}: {text}")


def _find_tracebacks(log: Path) -> list[str]:
    """Find the tracebacks of a log: the line that each one ends with."""
    found, inside = list[str](), False
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("Traceback"):
            inside = True
        elif inside and line and not line.startswith((" ", "\t")):
            found.append(line[:200])
            inside = False
    return found
