"""The verbs on workflows, on virtual time: start, describe, list, signal, cancel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from infinitic import (
    Channel,
    QueryFailedError,
    UsageError,
    Workflow,
    WorkflowCanceledError,
    WorkflowTerminatedError,
    WorkflowUnknownError,
    query,
    workflow,
)
from infinitic.cli.commands.cancel import cancel
from infinitic.cli.commands.complete_timers import complete_timers
from infinitic.cli.commands.delete import delete
from infinitic.cli.commands.list import StatusFilter, WorkflowList, list_workflows as list_stored
from infinitic.cli.commands.query import ask
from infinitic.cli.commands.result import fetch_result
from infinitic.cli.commands.signal import signal
from infinitic.cli.commands.terminate import terminate
from infinitic.cli.connection import Connection
from infinitic.cli.describe.command import describe
from infinitic.cli.parsing import parse_instant, parse_metadata
from infinitic.cli.project import Project
from infinitic.cli.results import StartReport
from infinitic.cli.start.command import start
from infinitic.errors import InfiniticError, RequestRefusedError
from infinitic.storage import Page
from infinitic_testing.simulation import Simulation


@dataclass(frozen=True)
class Order:
    item: str
    count: int


@workflow(name="Shop")
class Shop(Workflow):
    answers = Channel[int]()
    asked: int = 0

    async def rest(self) -> str:
        await self.timer(timedelta(days=1))
        return "rested"

    async def buy(self, order: Order, *, gift: bool = False) -> list[str]:
        return [order.item] * order.count + (["paper"] if gift else [])

    @query(name="count")
    def count_questions(self, factor: int = 1, *, plus: int = 0) -> int:
        return self.asked * factor + plus

    async def ask(self) -> int:
        self.asked += 1
        return await self.answers.receive() + 1

    async def tell(self) -> str:
        return self.context.meta["who"].decode()

    async def say(self, word: str) -> str:
        return word

    async def fail(self) -> None:
        raise LookupError("sold out")


def connect(sim: Simulation) -> Connection:
    sim.add_workflow(Shop)
    return Connection(sim.client, sim.transport, sim.storage, Project(("Payments",), {"Shop": (Shop,)}))


async def list_workflows(
    at: Connection, name: str | None = None, status: StatusFilter | None = None, **more: Any
) -> WorkflowList:
    assert at.storage is not None
    return await list_stored(at.storage, name, status, **more)


def result(ended: StartReport) -> object:
    assert isinstance(ended.result, msgspec.Raw)
    return msgspec.json.decode(ended.result)


ONE = '{"item": "cup", "count": 2}'


@pytest.mark.parametrize(
    ("inputs", "bought"),
    [
        ([f"[{ONE}]"], ["cup", "cup"]),
        ([f'{{"order": {ONE}, "gift": true}}'], ["cup", "cup", "paper"]),
    ],
)
async def test_start_waits_for_the_result(sim: Simulation, inputs: list[str], bought: list[str]) -> None:
    seen: list[StartReport] = []
    ended = await start(connect(sim), "Shop.buy", inputs, wait=True, on_start=seen.append)
    assert (ended.status, result(ended), ended.error) == ("completed", bought, "")
    assert [(each.workflow_id, each.status) for each in seen] == [(ended.workflow_id, "")]


async def test_start_takes_the_path_of_a_class(sim: Simulation) -> None:
    request = {"traveller": "Ada", "manager": "Grace", "city": "Lisbon", "nights": 3, "remind_after": 1.5}
    path = "infinitic.cli.demo.booking:Trip.book"
    started = await start(connect(sim), path, [msgspec.json.encode([request]).decode()])
    assert (started.workflow_name, started.method_name) == ("Trip", "book")
    with pytest.raises(UsageError) as caught:
        await start(connect_alone(sim), path, ['"Ada"'])
    assert "Trip.book() argument 'request'" in str(caught.value)


async def test_start_without_waiting(sim: Simulation) -> None:
    at = connect(sim)
    started = await start(at, "Shop.tell", [], meta=["who=Ada=B"])
    assert (started.workflow_name, started.method_name, started.status) == ("Shop", "tell", "")
    assert await sim.client.get_handle(Shop.tell, started.workflow_id).result() == "Ada=B"


async def test_start_reports_a_failure(sim: Simulation) -> None:
    ended = await start(connect(sim), "Shop.fail", [], wait=True)
    assert ended.status == "failed"
    assert ended.error == f"Workflow Shop.fail failed (workflow_id {ended.workflow_id}): LookupError: sold out"


async def test_start_waits_until_its_timeout(sim: Simulation) -> None:
    at = connect(sim)
    ended = await start(at, "Shop.ask", [], wait=True, timeout=5)
    assert (ended.status, ended.error) == (
        "running",
        f"No result of Shop.ask (workflow_id {ended.workflow_id}) within 5 s; it runs on",
    )
    await cancel(at, "Shop", ended.workflow_id, confirm=True)


@pytest.mark.parametrize(
    ("target", "inputs", "message"),
    [
        (
            "Shop",
            [],
            "'Shop' names no method: write module:Class.method, or Name.method; try: infinitic start Shop.ask",
        ),
        (
            "Shoe.ask",
            [],
            "The configuration has no code of a workflow 'Shoe': write module:Class.method; "
            "try: infinitic start Shop.ask",
        ),
        ("Train.buy", [], "The configuration has no code of a workflow 'Train': write module:Class.method"),
        (
            "Payments.pay",
            [],
            "'Payments' is a service: workflows call its tasks, and they cannot be started from outside",
        ),
        (
            "Shop.bye",
            [f"[{ONE}]"],
            "The workflow Shop has no method 'bye'; its methods are: ask, buy, fail, rest, say, tell; "
            f"try: infinitic start Shop.buy --input '[{ONE}]'",
        ),
        ("Shop.sell", [], "The workflow Shop has no method 'sell'; its methods are: ask, buy, fail, rest, say, tell"),
        (
            "Shop.buy",
            [],
            "Shop.buy() misses argument 'order'; "
            """try: infinitic start Shop.buy --input '[{"item": "text", "count": 1}]'""",
        ),
        (
            "Shop.ask",
            ["1"],
            "Shop.ask() takes 0 positional arguments, got 1; try: infinitic start Shop.ask --input '[]'",
        ),
        (
            "Shop.buy",
            [ONE],
            "Shop.buy() has no argument 'item' that is passed by name; "
            f"try: infinitic start Shop.buy --input '[{ONE}]'",
        ),
        (
            "Shop.buy",
            ['{"a":'],
            "--input takes JSON, got '{\"a\":': Input data was truncated; try: infinitic start Shop.buy --input '[{",
        ),
        (
            "Shop.say",
            ["Ada"],
            "--input takes JSON, got 'Ada': JSON is malformed: invalid character (byte 0); try: "
            """infinitic start Shop.say --input '"Ada"'""",
        ),
        (
            "Shop.say",
            ["[" * 9000],
            "--input takes JSON with at most 200 levels; this has more; try: infinitic start Shop.say",
        ),
        ("no_such_module:Shop.buy", [], "no_such_module:Shop: there is no module 'no_such_module' in the working dir"),
        ("..a:b.buy", [], "..a:b: '..a:b' is not the path of a class: write package.module.Class"),
        ("infinitic.clock:Clok.now", [], "infinitic.clock:Clok: the module infinitic.clock ("),
        ("infinitic.clock:Clock.now", [], "infinitic.clock:Clock is not a workflow class: it does not derive from"),
    ],
)
async def test_start_refuses_before_it_sends(sim: Simulation, target: str, inputs: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        await start(connect(sim), target, inputs)
    assert str(caught.value).startswith(message)
    assert (await list_workflows(connect_alone(sim))).workflows == []


def connect_alone(sim: Simulation) -> Connection:
    return Connection(sim.client, sim.transport, sim.storage)


async def test_start_checks_types(sim: Simulation) -> None:
    with pytest.raises(UsageError, match=r"Shop\.buy\(\) argument 'order': .*count") as caught:
        await start(connect(sim), "Shop.buy", ['[{"item": "cup", "count": "x"}]'], more=["--wait"])
    example = """[{"item": "text", "count": 1}]"""
    assert str(caught.value).endswith(f"; try: infinitic start Shop.buy --input '{example}' --wait")


async def test_describe_signal_and_list(sim: Simulation) -> None:
    at = connect(sim)
    asked = (await start(at, "Shop.ask", [])).workflow_id
    info = await describe(at, "Shop", asked)
    assert (info.status, [each.method_name for each in info.methods]) == ("running", ["ask"])
    assert info.started_at is not None
    assert info.started_at.endswith("Z")
    sent = await signal(at, "Shop", asked, "answers", "41", confirm=True)
    assert (sent.what, sent.applied) == ("signal", True)
    assert await sim.client.get_handle(Shop.ask, asked).result() == 42
    assert (await describe(at, "Shop", asked)).status == "completed"
    failed = (await start(at, "Shop.fail", [], wait=True)).workflow_id
    listed = await list_workflows(at, status=StatusFilter.FAILED)
    assert [(each.workflow_id, each.status) for each in listed.workflows] == [(failed, "failed")]
    assert listed.cursor is None


async def test_a_list_is_continued_with_its_cursor(sim: Simulation) -> None:
    at = connect(sim)
    ids = [(await start(at, "Shop.fail", [], wait=True)).workflow_id for _ in range(5)]
    first = await list_workflows(at, "Shop", limit=3)
    second = await list_workflows(at, "Shop", limit=3, cursor=first.cursor)
    assert {each.workflow_id for each in first.workflows + second.workflows} == set(ids)
    assert (len(first.workflows), len(second.workflows), second.cursor) == (3, 2, None)
    assert len((await list_workflows(at, "Shop", limit=1, everything=True)).workflows) == 5
    assert (await list_workflows(at, "Other")).workflows == []
    with pytest.raises(UsageError, match=r"^--cursor: "):
        await list_workflows(at, cursor="nonsense")


async def test_a_signal_without_the_class_is_sent_unchecked(sim: Simulation) -> None:
    at = connect(sim)
    asked = (await start(at, "Shop.ask", [])).workflow_id
    await signal(connect_alone(sim), "Shop", asked, "answers", "1", confirm=True)
    assert await sim.client.get_handle(Shop.ask, asked).result() == 2


@pytest.mark.parametrize(
    ("channel", "value", "message"),
    [
        ("replies", "1", "The workflow Shop has no channel 'replies'; its channels are: answers"),
        ("answers", "one", "--input takes JSON, got 'one': JSON is malformed: invalid character (byte 0)"),
        ("answers", '"one"', "expected int"),
    ],
)
async def test_a_signal_is_checked(sim: Simulation, channel: str, value: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        await signal(connect(sim), "Shop", "some-id", channel, value)
    assert message in str(caught.value)


ACTIONS: list[Callable[[Connection], Awaitable[object]]] = [
    lambda at: describe(at, "Shop", "no-such-id"),
    lambda at: cancel(at, "Shop", "no-such-id", confirm=True),
    lambda at: terminate(at, "Shop", "no-such-id", confirm=True),
    lambda at: complete_timers(at, "Shop", "no-such-id", confirm=True),
    lambda at: signal(at, "Shop", "no-such-id", "answers", "1", confirm=True),
]


@pytest.mark.parametrize("action", ACTIONS)
async def test_an_unknown_id(sim: Simulation, action: Callable[[Connection], Awaitable[object]]) -> None:
    at = connect(sim)
    await sim.run_until_idle()
    with pytest.raises(WorkflowUnknownError, match="no-such-id"):
        await action(at)


async def test_an_unknown_workflow_creates_no_topic(sim: Simulation) -> None:
    at = connect(sim)
    await sim.run_until_idle()
    with pytest.raises(
        InfiniticError, match=r"^There is no workflow 'Shpo' at this broker; the configuration has Shop$"
    ):
        await describe(at, "Shpo", "some-id")
    assert "workflow-engine:Shpo" not in sim.transport.broker.overview()


async def test_without_a_worker_there_is_no_answer(sim: Simulation) -> None:
    at = connect_alone(sim)
    await sim.client.dispatch(sim.client.new_workflow(Shop).ask)
    with pytest.raises(
        InfiniticError, match=r"^No answer within 30 s: no worker has the state engine of 'Shop': start one that hosts"
    ):
        await describe(at, "Shop", "some-id")


async def test_cancel(sim: Simulation) -> None:
    at = connect(sim)
    asked = (await start(at, "Shop.ask", [])).workflow_id
    assert not (await cancel(at, "Shop", asked)).applied
    await sim.run_until_idle()
    assert (await describe(at, "Shop", asked)).status == "canceled"


async def test_cancel_one_method(sim: Simulation) -> None:
    at = connect(sim)
    asked = (await start(at, "Shop.ask", [])).workflow_id
    method = await sim.client.dispatch(sim.client.get_workflow_by_id(Shop, asked).ask)
    assert (await cancel(at, "Shop", asked, method_id=method.method_id, confirm=True)).applied
    with pytest.raises(WorkflowCanceledError):
        await method.result()
    assert (await describe(at, "Shop", asked)).status == "running"
    await cancel(at, "Shop", asked, confirm=True)


async def test_complete_timers(sim: Simulation) -> None:
    at = connect(sim)
    started = (await start(at, "Shop.rest", [])).workflow_id
    began = sim.now
    assert (await complete_timers(at, "Shop", started, method_id=started, confirm=True)).applied
    assert await sim.client.get_handle(Shop.rest, started).result() == "rested"
    assert sim.now == began


async def test_terminate(sim: Simulation) -> None:
    at = connect(sim)
    asked = (await start(at, "Shop.ask", [])).workflow_id
    assert (await terminate(at, "Shop", asked, reason="wrong order", confirm=True)).applied
    assert (await describe(at, "Shop", asked)).status == "terminated"
    ended = await fetch_result(at, "Shop", asked)
    assert (ended.status, ended.error) == (
        "terminated",
        f"Workflow Shop.ask was terminated (workflow_id {asked}): wrong order",
    )


async def test_delete(sim: Simulation) -> None:
    at = connect(sim)
    asked = (await start(at, "Shop.ask", [])).workflow_id
    with pytest.raises(RequestRefusedError, match="it has not closed"):
        await delete(at, None, asked)
    await terminate(at, "Shop", asked, confirm=True)
    assert (await delete(at, None, asked)).applied
    await sim.run_until_idle()
    assert await sim.client.list_workflows(name="Shop") == Page([], None)


def test_since() -> None:
    now = datetime(2026, 1, 31, tzinfo=UTC)
    assert parse_instant("90s", now) == now - timedelta(seconds=90)
    assert parse_instant("1.5h", now) == now - timedelta(minutes=90)
    assert parse_instant("2w", now) == now - timedelta(days=14)
    assert parse_instant("2026-01-30T12:00Z") == datetime(2026, 1, 30, 12, tzinfo=UTC)
    assert parse_instant("2026-01-30").tzinfo is not None
    for wrong in ("yesterday", "5", "-1h", "2026-13-01", "9999999999999w"):
        with pytest.raises(UsageError, match=r"^--since takes a date"):
            parse_instant(wrong)


def test_metadata() -> None:
    assert parse_metadata(["a=b=c", "d="]) == {"a": b"b=c", "d": b""}
    with pytest.raises(UsageError, match=r"^--meta takes key=value, got 'a'$"):
        parse_metadata(["a"])


async def test_a_query_is_asked(sim: Simulation) -> None:
    at = connect(sim)
    asked = (await start(at, "Shop.ask", [])).workflow_id
    report = await ask(at, None, asked, "count", [])
    assert (report.workflow_name, report.query, bytes(report.answer)) == ("Shop", "count", b"1")
    assert bytes((await ask(at, "Shop", asked, "count_questions", ["[3]"])).answer) == b"3", "by its attribute, too"
    assert bytes((await ask(at, "Shop", asked, "count", ['{"factor": 2, "plus": 5}'])).answer) == b"7"
    assert bytes((await ask(connect_alone(sim), "Shop", asked, "count", ["2"])).answer) == b"2", "without the class"
    with pytest.raises(QueryFailedError, match="has no query 'total': it has count"):
        await ask(connect_alone(sim), "Shop", asked, "total", [])
    await signal(at, "Shop", asked, "answers", "1", confirm=True)


@pytest.mark.parametrize(
    ("query", "inputs", "message"),
    [
        ("total", [], "The workflow Shop has no query 'total'; its queries are: count"),
        ("count", ["x"], "--input takes JSON"),
        ("count", ['"two"'], r"argument 'factor'"),
        ("count", ["1", "2"], "takes 1 positional argument, got 2"),
    ],
)
async def test_a_query_is_checked(sim: Simulation, query: str, inputs: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        await ask(connect(sim), "Shop", "some-id", query, inputs)


async def test_a_query_of_no_instance_is_told_so(sim: Simulation) -> None:
    at = connect(sim)
    await start(at, "Shop.say", ['"hello"'])
    with pytest.raises(WorkflowUnknownError):
        await ask(at, "Shop", "no-such-id", "count", [])


async def test_tags_and_custom_ids_from_the_command_line(sim: Simulation) -> None:
    connection = connect(sim)
    first = await start(connection, "Shop.ask", [], tags=["eu", "vip"], custom_id="order-7")
    again = await start(connection, "Shop.ask", [], custom_id="order-7")
    assert again.workflow_id == first.workflow_id
    other = await start(connection, "Shop.ask", [], tags=["eu"])
    await sim.run_until_idle()
    shown = await describe(connection, "Shop", first.workflow_id)
    assert (shown.tags, shown.custom_id) == (("eu", "vip"), "order-7")
    listed = await list_stored(sim.storage, "Shop", tag="eu")
    assert sorted(row.workflow_id for row in listed.workflows) == sorted([first.workflow_id, other.workflow_id])
    page = await list_stored(sim.storage, "Shop", tag="eu", limit=1)
    rest = await list_stored(sim.storage, "Shop", tag="eu", limit=1, cursor=page.cursor)
    assert [*page.workflows, *rest.workflows] == listed.workflows
    by_client = await sim.client.list_workflows(name="Shop", tag="vip")
    assert [found.key.id for found in by_client.found] == [first.workflow_id]
    report = await signal(connection, "Shop", None, "answers", "4", tag="vip")
    assert (report.workflow_id, report.tag) == (None, "vip")
    assert await sim.client.get_handle(Shop.ask, first.workflow_id).result() == 5
    await terminate(connection, "Shop", None, tag="eu", reason="closing down")
    with pytest.raises(WorkflowTerminatedError, match="closing down"):
        await sim.client.get_handle(Shop.ask, other.workflow_id).result()
    await sim.run_until_idle()
    assert (await list_stored(sim.storage, "Shop", tag="eu")).workflows == []


async def test_a_command_is_for_one_workflow_or_for_a_tag(sim: Simulation) -> None:
    connection = connect(sim)
    await sim.run_until_idle()
    with pytest.raises(UsageError, match="the ID of one, or --tag TAG"):
        await cancel(connection, "Shop", "some-id", tag="eu")
    with pytest.raises(UsageError, match="the ID of one, or --tag TAG"):
        await cancel(connection, "Shop", None)
    with pytest.raises(UsageError, match="--confirm waits for one workflow"):
        await cancel(connection, "Shop", None, tag="eu", confirm=True)
    with pytest.raises(UsageError, match="A tag must be non-empty text"):
        await cancel(connection, "Shop", None, tag="")
    with pytest.raises(UsageError, match="--tag needs --workflow NAME"):
        await list_stored(sim.storage, tag="eu")
    with pytest.raises(UsageError, match="--tag needs --workflow NAME, and takes no other filter"):
        await list_stored(sim.storage, "Shop", StatusFilter.RUNNING, tag="eu")
    with pytest.raises(UsageError, match="--custom-id needs --workflow NAME, and takes no other filter"):
        await list_stored(sim.storage, "Shop", tag="eu", custom_id="order-7")


async def test_the_holder_of_a_custom_id_is_listed(sim: Simulation) -> None:
    connection = connect(sim)
    for number in range(2):
        new = sim.client.new_workflow(Shop, custom_id=f"order-{number}")
        await sim.client.dispatch(new.ask)
    holder = (await sim.client.dispatch(sim.client.new_workflow(Shop, custom_id="order-1").ask)).workflow_id
    (row,) = (await list_stored(sim.storage, "Shop", custom_id="order-1")).workflows
    assert (row.workflow_id, row.status) == (holder, "running")
    (found,) = (await sim.client.list_workflows(name="Shop", custom_id="order-1")).found
    assert found.key.id == holder
    assert (await sim.client.list_workflows(name="Shop", custom_id="order-2")).found == []
    with pytest.raises(UsageError, match=r"list_workflows\(custom_id=…\) takes name, limit and cursor"):
        await sim.client.list_workflows(custom_id="order-1")
    with pytest.raises(UsageError, match="A custom id must be non-empty text"):
        await sim.client.list_workflows(name="Shop", custom_id="")
    for number in range(2):
        await terminate(
            connection,
            "Shop",
            (await sim.client.get_ids(sim.client.get_workflow_by_custom_id(Shop, f"order-{number}")))[0],
            confirm=True,
        )
