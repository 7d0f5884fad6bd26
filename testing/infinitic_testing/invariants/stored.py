"""Checks what any storage and any broker hold when all work is done.

It needs no observer, so it works on real servers, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence

import msgspec

from infinitic import ids
from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.engines import retries
from infinitic.engines.state import WorkflowHead
from infinitic.engines.workflow.due import find_next_due
from infinitic.errors import DecodingError, InfiniticError
from infinitic.messages import commands, events
from infinitic.messages.events import Event
from infinitic.replay.history import cut_to_run
from infinitic.replay.waits import list_waits
from infinitic.runtime.history import decode_head, replay_history
from infinitic.storage import Change, DamagedState, Found, Query, Segment, StateKey, Storage
from infinitic.storage.integrity import ensure_checked
from infinitic.topics import DEAD_LETTERS, Topic
from infinitic.transport import SubscriptionStats, Transport
from infinitic_testing.explaining import FindSpecs
from infinitic_testing.invariants.event_rules import EVENT_RULES
from infinitic_testing.invariants.history import ObservedHistory
from infinitic_testing.invariants.instances import WrittenStep
from infinitic_testing.invariants.run_rules import check_run
from infinitic_testing.invariants.step_rules import compare_head, find_left_open
from infinitic_testing.invariants.traffic import Sent
from infinitic_testing.invariants.violation import InvariantViolated

_PAGE = 500
_NEEDS_MESSAGES = frozenset({"input-known", "retry-counted", "delegated-once", "reopened-asked"})
"""Rules that only somebody can check who has seen the messages."""

OVERDUE_SECONDS = 120.0
"""For so long a timer may be overdue: clocks differ, and brokers round."""

_WAITING_LINE = "waits for a signal"


class StoredInstance(msgspec.Struct, frozen=True, eq=False):
    """One instance, as it is stored.

    Attributes:
        key: its name and id.
        head: its head.
        segments: its history.
        found: by what lists find it.
    """

    key: StateKey
    head: WorkflowHead
    segments: Sequence[Segment]
    found: Found


async def list_instances(storage: Storage) -> AsyncIterator[Found]:
    """List all instances of a storage, newest start first.

    Args:
        storage: any one.
    """
    cursor: str | None = None
    while True:
        page = await storage.states.find(Query(limit=_PAGE, cursor=cursor))
        for found in page.found:
            yield found
        cursor = page.cursor
        if cursor is None:
            return


async def read_instance(storage: Storage, found: Found) -> StoredInstance | None:
    """Read one instance. None if it was purged since it was found.

    Args:
        storage: any one.
        found: by what lists find it.

    Raises:
        DamagedState: it cannot be read.
        NewerSchema: a newer release has written it.
    """
    states, key = ensure_checked(storage).states, found.key
    stored = (await states.load([key])).get(key)
    if stored is None:
        return None
    head = decode_head(key, stored)
    segments: list[Segment] = []
    # Earlier runs may be gone, in part.
    after = max(head.base - 1, 0)
    while after < head.sequence:
        more = await states.history(key, after=after, limit=_PAGE, outbox=True)
        if not more:
            raise DamagedState(key, f"Segment {after + 1}", "it is missing")
        segments += more
        after = more[-1].sequence
    return StoredInstance(key, head, segments, found)


async def check_stored(
    storage: Storage,
    *,
    specs: FindSpecs | None = None,
    services: Collection[str] | None = None,
    now: float | None = None,
    evaluated: Counter[str] | None = None,
) -> list[InvariantViolated]:
    """Check all instances of a storage: their heads, their histories, and that they have ended.

    Call it when no worker writes any more.

    Args:
        storage: any one.
        specs: finds the code of a workflow by its name, to replay it. None: nothing is replayed.
        services: the services that somebody hosts. None: all are.
        now: seconds since the Unix epoch. An instance may wait for a later time. None: no instance
            may wait for any time.
        evaluated: counts how often each rule was checked.

    Returns:
        What is wrong. Empty if all rules hold.
    """
    violations: list[InvariantViolated] = []
    counted = Counter[str]() if evaluated is None else evaluated

    def judge(rule: str, wrong: str | None, key: StateKey) -> None:
        counted[rule] += 1
        if wrong is not None:
            violations.append(InvariantViolated(rule, wrong, key))

    async for found in list_instances(storage):
        try:
            instance = await read_instance(storage, found)
        except (DamagedState, DecodingError) as error:
            judge("history-kept", f"what is stored cannot be read: {error}", found.key)
            continue
        if instance is not None:
            history = check_history(instance, judge)
            if history is not None:
                unended = await _find_unended(storage, instance, history, specs, services, now, judge)
                judge("all-end", unended, instance.key)
    return violations


Judge = Callable[[str, str | None, StateKey], None]
"""Is called with a rule, what is wrong (or None), and the instance."""


def check_history(instance: StoredInstance, judge: Judge) -> ObservedHistory | None:
    """Check one history, and the head that it leads to.

    Returns:
        What follows from the history; None if it cannot be decoded.
    """
    key, head = instance.key, instance.head
    history, nobody = ObservedHistory(), Sent()
    all_events: list[Event] = []
    all_segments: list[list[Event]] = []
    for number, segment in enumerate(instance.segments, max(head.base, 1)):
        wrong = None if segment.sequence == number else f"segment {segment.sequence} comes after {number - 1}"
        judge("history-gapless", wrong, key)
        try:
            happened = events.decode(segment.events)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            judge("history-kept", f"segment {number} cannot be decoded: {error}", key)
            return None
        if number == head.base:
            happened = list(cut_to_run(happened))
            history.expect_run(head.run, happened)
        # The clock of the engine is not stored. The time that the code saw is not before it.
        at = next((event.at for event in happened if isinstance(event, events.Activated)), float("inf"))
        step = WrittenStep(key, None, Change(key, None, 0, b"", at, segment), head, happened, ())
        for event in happened:
            for rule, check in EVENT_RULES.get(type(event), ()):
                if rule not in _NEEDS_MESSAGES:
                    judge(rule, check(event, history, step, nobody), key)
            history.add(event, number)
        all_events += happened
        all_segments.append(happened)
    last = max(head.base - 1, 0) + len(instance.segments)
    wrong = None if head.sequence == last else f"its head knows {head.sequence} segments, and {last} are there"
    judge("history-gapless", wrong, key)
    judge("head-matches-history", compare_head(key, head, history, all_events), key)
    judge("run-told", check_run(head, [*[[]] * max(head.base - 1, 0), *all_segments]), key)
    if head.closed:
        judge("nothing-left-open", find_left_open(key, head), key)
        entry = instance.found.entry
        listed = entry.closed_at == head.closed_at and entry.status == head.status
        judge("nothing-left-open", None if listed else f"it is closed, and lists say {entry}", key)
    return history


async def _find_unended(
    storage: Storage,
    instance: StoredInstance,
    history: ObservedHistory,
    specs: FindSpecs | None,
    services: Collection[str] | None,
    now: float | None,
    judge: Judge,
) -> str | None:
    """Say why an instance should have ended; None if it has, or waits for somebody from outside."""
    key, head = instance.key, instance.head
    versions: Mapping[int, WorkflowSpec] = {} if specs is None else specs(key.name)
    spec = None if head.version is None else versions.get(head.version)
    if head.probe is not None:
        return f"it waits for the answer of a probe: {head.probe}"
    if head.stalled is not None:
        # If it was terminated while it was stalled, its code does not repeat its history.
        return None if head.closed else f"it is stalled: {head.stalled}"
    waits: list[str] | None = None
    if spec is not None:
        try:
            live, _, _ = await replay_history(key, head, spec, ensure_checked(storage).states)
        except InfiniticError as error:
            judge("replay-same", f"a replay differs: {error}", key)
            return None
        waits = list_waits(live)
        live.close()
        judge("replay-same", None, key)
    if head.closed:
        return None
    is_hosted = specs is None or (bool(versions) if head.version is None else spec is not None)
    if is_hosted and not head.parked:
        unanswered = await find_unanswered(storage, head, history, specs)
        if unanswered is not None:
            return unanswered
    return find_hang(head, history, waits, services, now, is_hosted=is_hosted)


async def find_unanswered(
    storage: Storage, head: WorkflowHead, history: ObservedHistory, specs: FindSpecs | None
) -> str | None:
    """Say which child or call will never be answered; None if all can be.

    Args:
        storage: any one.
        head: that of the instance that waits.
        history: what follows from its history.
        specs: finds the code of a workflow by its name. None: all are hosted.
    """
    for position in sorted(history.open_tasks):
        request = history.requests[position]
        last = retries.find(head.retries, position)
        remote_id = ids.remote_id(head.id, head.run, position, 0 if last is None else last.retry_sequence)
        match request:
            case commands.StartChild():
                key, method_id = StateKey(request.workflow, remote_id), remote_id
            case commands.CallRemote():
                key, method_id = StateKey(request.workflow, request.workflow_id), remote_id
            case _:
                continue
        if request.custom_id or (specs is not None and not specs(key.name)):
            # It may wait for another instance that holds the custom id.
            continue
        stored = (await ensure_checked(storage).states.load([key])).get(key)
        if stored is None:
            return f"it waits for {key}, which does not exist: {request}"
        other = decode_head(key, stored)
        waits = any(method.id == method_id and not method.ended and method.waiters for method in other.methods)
        if not waits and not other.parked:
            return f"it waits for method {method_id} of {key}, which has ended, or does not know it: {request}"
    return None


def find_hang(
    head: WorkflowHead,
    history: ObservedHistory,
    waits: Sequence[str] | None,
    services: Collection[str] | None,
    now: float | None,
    *,
    is_hosted: bool,
) -> str | None:
    """Say why a running instance does not go on by itself; None if it need not.

    Args:
        head: its head.
        history: what follows from its history.
        waits: what its code waits for, see `list_waits`. None: that is not known.
        services: the services that somebody hosts. None: all are.
        now: seconds since the Unix epoch: it may wait for a later time. None: for no time.
        is_hosted: whether somebody hosts its code.
    """
    if head.parked:
        return "it is parked"
    if not is_hosted:
        return None
    if head.deciding or head.pending:
        return f"its code is not run: stimuli wait from segment {head.deciding or head.pending} on"
    unhosted = False
    for position in sorted(history.open_tasks):
        request = history.requests[position]
        if not isinstance(request, commands.ScheduleTask):
            # It waits for another instance, which has to end itself: see `find_unanswered`.
            unhosted = True
            continue
        service = request.service
        if services is None or service in services:
            return f"task {position} of service {service} is open, and all work is done"
        unhosted = True
    due = find_next_due(head)
    if due is not None and (now is None or due < now - OVERDUE_SECONDS) and not unhosted:
        return f"its next timer or retry is due at {due!r}, and it is {now!r}: {head.timers} {head.retries}"
    if due is not None or unhosted or waits is None or any(_WAITING_LINE in line for line in waits):
        return None
    # Code that waits for another method waits for a call from outside.
    if waits and all("other code of the workflow" in line for line in waits):
        return None
    return f"it waits for nothing that can come: {list(waits)}"


async def check_topics(
    transport: Transport, topics: Iterable[Topic], *, evaluated: Counter[str] | None = None
) -> list[InvariantViolated]:
    """Check that no message waits in topics, is in hand, or is delayed.

    Args:
        transport: any one.
        topics: those with a main subscription count; the others keep nothing.
        evaluated: counts how often each rule was checked.

    Returns:
        What is wrong. Empty if all rules hold.
    """
    violations: list[InvariantViolated] = []
    for topic in topics:
        stats = (await transport.stats(topic)).subscriptions
        wrong = find_waiting_messages(topic.name, stats)
        if evaluated is not None:
            evaluated["queues-empty"] += 1
        if wrong is not None:
            violations.append(InvariantViolated("queues-empty", wrong))
    return violations


def find_waiting_messages(topic: str, subscriptions: dict[str, SubscriptionStats]) -> str | None:
    """Say what is left in a topic; None if nothing is."""
    for name, stats in subscriptions.items():
        if stats.backlog or stats.unacked or stats.delayed:
            kind = "dead letters" if topic.startswith(DEAD_LETTERS) else "messages"
            return (
                f"{topic}, subscription {name}: {stats.backlog} {kind} wait, {stats.unacked} are in hand, "
                f"{stats.delayed} are delayed"
            )
    return None
