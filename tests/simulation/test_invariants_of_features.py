"""Rules about runs, repair, custom ids, tags and queries find what breaks them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import ClassVar

import pytest
from msgspec import Raw
from msgspec.structs import replace as replace_struct

from infinitic import Channel, Client, Workflow, WorkflowFailedError, query, task_context
from infinitic.definitions.workflow_spec import spec_of
from infinitic.engines import state
from infinitic.messages import client, commands, events
from infinitic.messages.events import Event
from infinitic.storage import Change, TagKey, TagKind
from infinitic.storage.integrity import check_head, check_segment
from infinitic.transport import Message
from infinitic_storages.memory import InMemoryStorage
from infinitic_testing.invariants import InvariantViolated, check_stored
from infinitic_testing.invariants.run_rules import check_run
from infinitic_testing.loop import run
from tests.simulation.cases import Case, Numbers
from tests.simulation.tape import (
    Note,
    Player,
    Tape,
    find,
    find_violation,
    has_event,
    is_acknowledged,
    is_published,
    move,
    record,
    rewrite,
)
from tests.simulation.world import host_engines, host_executors


class Laps(Workflow):
    numbers = Workflow.new_service(Numbers)

    async def count(self, left: int, total: int) -> int:
        total = await self.numbers.add(total, 1)
        if left:
            self.dispatch(self.numbers.wait, left, 5.0)
            self.continue_as_new(self.count, left - 1, total)
        return total


async def _run_laps(client: Client) -> object:
    return await client.new_workflow(Laps).count(2, 0)


class Garage:
    async def mend(self, times: int) -> int:
        if task_context().retry_sequence < times:
            raise LookupError("no spare part")
        return times


class Shop(Workflow):
    garage = Workflow.new_service(Garage)
    closing = Channel[int]()

    async def open(self) -> int:
        return await self.closing.receive()

    async def mend(self, times: int) -> int:
        return await self.garage.mend(times)


async def _run_shop(client: Client) -> object:
    handle = await client.dispatch(client.new_workflow(Shop).open)
    shop = client.get_workflow_by_id(Shop, handle.workflow_id)
    with pytest.raises(WorkflowFailedError):
        await shop.mend(1)
    await client.retry_tasks(handle)
    await asyncio.sleep(10.0)
    await shop.closing.send(7)
    return await handle.result()


class Order(Workflow):
    items = Channel[int]()

    async def fill(self) -> int:
        return await self.items.receive()


async def _run_orders(client: Client) -> object:
    filled = list[int]()
    for item in range(2):
        handle = await client.dispatch(client.new_workflow(Order, custom_id="order", tags={"orders"}).fill)
        await asyncio.sleep(10.0)
        await client.get_workflow_by_id(Order, handle.workflow_id).items.send(item)
        filled.append(await handle.result())
    return filled


class Parcel(Workflow):
    numbers = Workflow.new_service(Numbers, tags={"parcels"})

    async def pack(self) -> int:
        return await self.numbers.wait(1, 5.0)


async def _run_parcel(client: Client) -> object:
    return await client.new_workflow(Parcel).pack()


class Ledger(Workflow):
    sums = Channel[int]()
    total: int = 0

    async def keep(self, number: int) -> int:
        for _ in range(number):
            self.total += await self.sums.receive()
        return self.total

    @query
    def read(self) -> int:
        return self.total


async def _run_ledger(client: Client) -> object:
    handle = await client.dispatch(client.new_workflow(Ledger).keep, 2)
    ledger = client.get_workflow_by_id(Ledger, handle.workflow_id)
    await asyncio.sleep(1.0)
    await ledger.sums.send(1, confirm=True)
    read = await client.query(ledger.read)
    await ledger.sums.send(2, confirm=True)
    return [read, await handle.result()]


class Draft(Workflow):
    numbers = Workflow.new_service(Numbers)
    closing = Channel[int]()
    mended: ClassVar[bool] = False

    async def write(self) -> int:
        found = await self.numbers.add(1, 1)
        if not self.mended:
            raise LookupError("a mistake")
        return await self.numbers.add(found, 1)

    async def stay(self) -> int:
        return await self.closing.receive()


async def _run_draft(client: Client) -> object:
    """It is open all the time: what is closed is replayed, and mended code would not fail again."""
    Draft.mended = False
    handle = await client.dispatch(client.new_workflow(Draft).write)
    draft = client.get_workflow_by_id(Draft, handle.workflow_id)
    stays = await client.dispatch(draft.stay)
    with pytest.raises(WorkflowFailedError):
        await handle.result()
    Draft.mended = True
    await client.retry_workflow_task(handle, confirm=True)
    found = await handle.result()
    await draft.closing.send(7)
    return [found, await stays.result()]


LAPS = Case("laps", (Laps,), _run_laps)
SHOP = Case("shop", (Shop,), _run_shop, (Garage,))
ORDERS = Case("orders", (Order,), _run_orders)
LEDGER = Case("ledger", (Ledger,), _run_ledger)
PARCELS = Case("parcels", (Parcel,), _run_parcel)

DRAFT = Case("draft", (Draft,), _run_draft, (Numbers,))

_CASES = {case.name: case for case in (LAPS, SHOP, ORDERS, LEDGER, PARCELS, DRAFT)}


@cache
def record_feature(name: str, *, split: bool = False) -> tuple[Note, ...]:
    """Record one of the cases of this module, once for all tests."""
    return tuple(record(_CASES[name], *((host_engines, host_executors) if split else ())))


def change_events(kind: type[Event], change: Callable[[Event], Sequence[Event]]) -> Callable[[Tape], Tape]:
    """Let the first segment with an event of a type have others in its place."""

    def forge(tape: Tape) -> Tape:
        def happened(old: list[Event]) -> list[Event]:
            return [new for event in old for new in (change(event) if isinstance(event, kind) else (event,))]

        return rewrite(tape, find(tape, has_event(kind)), happened=happened)

    return forge


def skip_a_run(event: Event) -> Sequence[Event]:
    assert isinstance(event, events.RunStarted)
    return [replace_struct(event, run=event.run + 1)]


def begin_a_run_unasked(event: Event) -> Sequence[Event]:
    return [event, events.RunStarted(1)]


def begin_a_run_too_early(tape: Tape) -> Tape:
    """The result that the next run has waited for is not in the history."""
    index = find(tape, has_event(events.RunStarted))
    return rewrite(
        tape, index, happened=lambda old: [event for event in old if not isinstance(event, events.TaskResult)]
    )


def reopen_tasks(**fields: object) -> Callable[[Event], Sequence[Event]]:
    """Have other fields in what is written of the tasks that run again."""

    def change(event: Event) -> Sequence[Event]:
        assert isinstance(event, events.Reopened)
        return [replace_struct(event, tasks=tuple(replace_struct(each, **fields) for each in event.tasks))]

    return change


def reopen_another_method(event: Event) -> Sequence[Event]:
    assert isinstance(event, events.Reopened)
    return [replace_struct(event, methods=("another",))]


def rerun_otherwise(**fields: object) -> Callable[[Event], Sequence[Event]]:
    """Have other fields in what is written of code that runs again."""

    def change(event: Event) -> Sequence[Event]:
        assert isinstance(event, events.Reopened)
        return [replace_struct(event, **fields)]

    return change


def go_on_after_the_failure(event: Event) -> Sequence[Event]:
    return [event, commands.RecordPatch("a change")]


def rerun_at_another_time(tape: Tape) -> Tape:
    """The activation behind the re-opening sees the time of the clock."""
    index = find(tape, has_event(events.Reopened))
    following = find(tape[index:], has_event(events.Activated)) + index
    return rewrite(
        tape,
        following,
        happened=lambda old: [
            replace_struct(event, at=event.at + 1.0) if isinstance(event, events.Activated) else event for event in old
        ],
    )


def reopen_unasked(tape: Tape) -> Tape:
    index = find(tape, has_event(events.Reopened))
    return rewrite(tape, index, deduplication_ids=())


def claim_twice(tape: Tape) -> Tape:
    """A claim comes again, and another instance is said to hold the custom id."""
    index = find(tape, lambda note: note.claim is not None)
    claim = tape[index].claim
    assert claim is not None
    return [*tape[: index + 1], replace(tape[index], claim=replace_struct(claim, id="another")), *tape[index + 1 :]]


def start_while_the_first_runs(tape: Tape) -> Tape:
    """The signal that ends the first instance never comes, and the second one starts."""
    second = [note.change for note in tape if isinstance(note.change, Change) and note.change.expected is None][1]
    ending = find(tape, is_published("workflow-engine", b'"signal"'))
    return [*tape[:ending], *(note for note in tape[ending:] if second.key.id in repr(note))]


def answer_otherwise(**fields: object) -> Callable[[Tape], Tape]:
    """Have other fields in the answer to a query."""

    def forge(tape: Tape) -> Tape:
        index = find(tape, is_published("client", b'"queried"'))
        message = tape[index].message
        assert message is not None
        answer = client.decode(message.body)
        assert isinstance(answer, client.Queried)
        return _publish(tape, index, replace_struct(answer, **fields))

    return forge


def answer_from_an_old_history(tape: Tape) -> Tape:
    return answer_otherwise(activation=1, value=Raw(b"0"))(tape)


def _publish(tape: Tape, index: int, response: client.Response) -> Tape:
    message = Message("forged", None, client.encode(response))
    return [*tape[:index], replace(tape[index], message=message), *tape[index + 1 :]]


def acknowledge_the_question_unanswered(tape: Tape) -> Tape:
    acknowledged = find(tape, is_acknowledged("workflow-executor", b'"ask"'))
    return move(tape, acknowledged, find(tape, is_published("workflow-engine", b'"asked"')))


BREAKS: tuple[tuple[str, str, bool, Callable[[Tape], Tape]], ...] = (
    ("run-settled", "laps", False, change_events(events.RunStarted, skip_a_run)),
    ("run-settled", "laps", False, change_events(commands.ScheduleTask, begin_a_run_unasked)),
    ("run-settled", "laps", False, begin_a_run_too_early),
    ("reopened-failed", "shop", False, change_events(events.Reopened, reopen_tasks(retry_sequence=2))),
    ("reopened-failed", "shop", False, change_events(events.Reopened, reopen_tasks(retry_sequence=0))),
    ("reopened-failed", "shop", False, change_events(events.Reopened, reopen_tasks(timeout_at=5.0))),
    ("reopened-failed", "shop", False, change_events(events.Reopened, reopen_tasks(position=7))),
    ("reopened-failed", "shop", False, change_events(events.Reopened, reopen_another_method)),
    ("reopened-asked", "shop", False, reopen_unasked),
    ("rerun-of-failure", "draft", False, change_events(events.Reopened, rerun_otherwise(rerun=1))),
    ("rerun-of-failure", "draft", False, change_events(events.Reopened, rerun_otherwise(methods=()))),
    ("rerun-of-failure", "draft", True, change_events(commands.FailMethod, go_on_after_the_failure)),
    ("time-forward", "draft", False, rerun_at_another_time),
    ("reopened-asked", "draft", False, reopen_unasked),
    ("unique-holder", "orders", False, claim_twice),
    ("unique-holder", "orders", False, start_while_the_first_runs),
    ("query-same", "ledger", False, answer_otherwise(value=Raw(b"66"))),
    ("query-same", "ledger", False, answer_otherwise(request="client-99")),
    ("query-fresh", "ledger", False, answer_from_an_old_history),
    ("query-same", "ledger", True, answer_otherwise(value=Raw(b"66"))),
    ("query-fresh", "ledger", True, answer_from_an_old_history),
    ("question-kept", "ledger", True, acknowledge_the_question_unanswered),
)


@pytest.mark.parametrize(
    ("rule", "case", "split", "change"), BREAKS, ids=[f"{number}-{each[0]}" for number, each in enumerate(BREAKS)]
)
def test_what_breaks_a_rule_is_named_by_it(rule: str, case: str, split: bool, change: Callable[[Tape], Tape]) -> None:
    assert find_violation(_CASES[case], change(list(record_feature(case, split=split)))) == rule


@pytest.mark.parametrize("split", [False, True], ids=["fused", "split"])
@pytest.mark.parametrize("name", _CASES)
def test_what_is_not_forged_breaks_no_rule(name: str, split: bool) -> None:
    assert find_violation(_CASES[name], record_feature(name, split=split)) is None


def play_feature(tape: Sequence[Note], case: Case) -> Player:
    player = Player({spec.name: spec for spec in map(spec_of, case.workflows)})
    player.play(tape)
    return player


def find_unhealed(player: Player) -> tuple[str, str] | None:
    try:
        player.check_healed()
    except InvariantViolated as violation:
        return violation.rule, violation.message
    return None


def find_waiting(tape: Tape) -> Tape:
    """The part of the tape of orders until the first one waits for its item."""
    return tape[: find(tape, is_published("workflow-engine", b'"signal"'))]


@pytest.mark.parametrize("kind", [TagKind.WORKFLOW, TagKind.CUSTOM_ID])
def test_tags_that_are_not_true_are_named(kind: TagKind) -> None:
    """S31, S32."""
    tape = list(record_feature("orders"))
    key = TagKey(kind, "Order", "orders" if kind is TagKind.WORKFLOW else "order")
    added = [note.tag for note in find_waiting(tape) if note.tag is not None and note.tag.key == key][-1]
    removed = [note.tag for note in tape if note.tag is not None and note.tag.key == key][-1]
    assert (added.live, removed.live) == (True, False)

    player = play_feature(tape, ORDERS)
    tags = player.database.tags
    assert find_unhealed(player) is None
    assert player.invariants.evaluated["tags-true"] == 4
    if kind is TagKind.WORKFLOW:
        tags.update([replace_struct(removed, live=True, version=removed.version + 1)])
    else:
        tags.claim(key, removed.id, removed.version + 1, removed.at)
    assert find_unhealed(player) == ("tags-true", f"it is closed, and still has {kind.value} {key.tag!r}")

    player = play_feature(find_waiting(tape), ORDERS)
    assert find_unhealed(player) is None
    player.database.tags.update([replace_struct(added, live=False, version=added.version + 1)])
    assert find_unhealed(player) == ("tags-true", f"it runs, and has not {kind.value} {key.tag!r}")


def test_tags_of_tasks_that_are_not_true_are_named() -> None:
    """S31."""
    tape = list(record_feature("parcels"))
    waiting = tape[: find(tape, is_published("workflow-engine", b'"task_completed"'))]
    changes = [note.tag for note in tape if note.tag is not None and note.tag.key.kind is TagKind.TASK]
    assert [each.live for each in changes] == [True, False]
    added, removed = changes

    player = play_feature(tape, PARCELS)
    assert find_unhealed(player) is None
    assert player.invariants.evaluated["task-tags-true"] == 1
    player.database.tags.update([replace_struct(removed, live=True, version=removed.version + 1)])
    assert find_unhealed(player) == ("task-tags-true", "task 0 has ended, and still has the tag 'parcels'")

    player = play_feature(waiting, PARCELS)
    player.database.tags.update([replace_struct(added, live=False, version=added.version + 1)])
    # Nobody hosts the service: so the task may be open.
    storage = InMemoryStorage(player.database)
    with pytest.raises(InvariantViolated, match="task 0 is open, and has not the tag 'parcels'"):
        run(player.invariants.check_healed(storage, services=()))


def test_a_run_whose_document_says_something_else_than_its_head_is_named() -> None:
    tape = list(record_feature("shop"))
    player = play_feature(tape[: find(tape, is_acknowledged("service-executor"))], SHOP)
    [(key, stored)] = player.database.heads.items()
    head = state.decode(check_head(key, stored).head)
    assert head.open
    storage = InMemoryStorage(player.database)
    assert "run-told" not in {each.rule for each in run(check_stored(storage))}
    player.database.heads[key] = replace_struct(stored, head=state.encode(replace_struct(head, open=())))
    assert "run-told" in {each.rule for each in run(check_stored(storage))}


def test_a_run_whose_document_goes_back_in_time_is_named() -> None:
    tape = list(record_feature("laps"))
    player = play_feature(tape[: find(tape, has_event(events.RunStarted))], LAPS)
    [(key, stored)] = player.database.heads.items()
    head = state.decode(check_head(key, stored).head)
    segments = [events.decode(check_segment(key, each).events) for each in player.database.segments[key]]
    assert check_run(head, segments) is None
    earlier = [[_set_back(event) for event in segments[-1]]]
    assert earlier != segments[-1:]
    wrong = check_run(head, [*segments[:-1], *earlier])
    assert wrong is not None
    assert wrong.endswith("ends before it begins")


def _set_back(event: Event) -> Event:
    return replace_struct(event, at=event.at - 100.0) if isinstance(event, events.Activated) else event
