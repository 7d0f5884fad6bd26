"""Stories of errors, timeouts, cancellation, inline functions and repair."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from infinitic import (
    Client,
    TaskFailedError,
    TaskTimedOutError,
    UsageError,
    Workflow,
    WorkflowCanceledError,
    WorkflowFailedError,
    WorkflowTimedOutError,
    WorkflowUnknownError,
)
from tests.simulation.scenarios.stories.letters import Letters, Mirror, Weather, make_services
from tests.simulation.scenarios.stories.story import Story

LONG = timedelta(days=400)


class Leaf(Workflow):
    letters = Workflow.new_service(Letters)

    async def refuse(self) -> str:
        return await self.letters.refuse("a leaf")

    async def rest(self) -> str:
        await self.timer(LONG)
        return "rested"


class Branch(Workflow):
    leaf = Workflow.new_workflow(Leaf)

    async def refuse(self) -> str:
        return await self.leaf.refuse()


class Errors(Workflow):
    letters = Workflow.new_service(Letters)
    mirror = Workflow.new_service(Mirror)
    hurried = Workflow.new_service(Letters, total_timeout=0.5)
    branch = Workflow.new_workflow(Branch)
    leaf = Workflow.new_workflow(Leaf)
    short_leaf = Workflow.new_workflow(Leaf, total_timeout=0.5)

    async def raise_one(self) -> str:
        raise LookupError("my own")

    async def catch(self) -> str:
        try:
            await self.letters.refuse("no")
        except TaskFailedError:
            return await self.mirror.reverse("ko")
        return "never"

    async def ignore(self) -> str:
        """What fails and is never awaited fails nobody: a task, a branch, a child."""
        self.dispatch(self.letters.refuse, "ignored")
        self.dispatch(self.branch.refuse)
        branch = asyncio.ensure_future(self._fail())
        await asyncio.wait([branch])
        return f"{type(branch.exception()).__name__} ignored"

    async def attributes(self) -> list[object]:
        try:
            await self.letters.refuse_twice("attempt")
        except TaskFailedError as error:
            failure = error.last_failure
            assert failure.previous is not None
            last, before = failure.exception, failure.previous.exception
            return [last.name.rpartition(".")[2], last.message, last.attributes["code"], before.message]
        return []

    async def nested(self) -> list[str]:
        """The failure of a task two generations below."""
        try:
            await self.branch.refuse()
        except WorkflowFailedError as error:
            chain: BaseException | None = error
            names = list[str]()
            while chain is not None:
                names.append(type(chain).__name__)
                chain = chain.__cause__
            return names
        return []

    async def unknown(self) -> str:
        try:
            await self.get_workflow_by_id(Leaf, "nobody").refuse()
        except WorkflowUnknownError:
            return "unknown"
        return "known"

    async def too_slow(self) -> str:
        try:
            await self.hurried.never("a")
        except TaskTimedOutError:
            return "task timed out"
        return "never"

    async def late_child(self) -> str:
        late = self.dispatch(self.short_leaf.rest)
        try:
            await late
        except WorkflowTimedOutError:
            return f"child timed out: {late.is_timed_out()}"
        return "never"

    async def inline_number(self) -> int:
        return self.inline(lambda: 7)

    async def inline_stub(self) -> str:
        """A stub cannot be used inside."""
        try:
            self.inline(lambda: self.dispatch(self.mirror.reverse, "ab"))
        except (UsageError, TaskFailedError):
            return "refused"
        return "taken"

    async def rest(self) -> str:
        return await self.leaf.rest()

    async def _fail(self) -> None:
        raise LookupError("a branch")


class Picnic(Workflow):
    weather = Workflow.new_service(Weather)

    async def go(self) -> str:
        return await self.weather.look()

    async def ask(self) -> list[str]:
        asked = self.dispatch(self.weather.look)
        seen = list[str]()
        try:
            await asked
        except TaskFailedError as error:
            seen.append(str(error.last_failure.exception.message))
        return seen


async def _play_errors(client: Client) -> object:
    new = client.new_workflow(Errors)
    found: list[object] = []
    try:
        await new.raise_one()
    except WorkflowFailedError as error:
        found.append(str(error).rpartition(": ")[2])
    found += list(
        await asyncio.gather(
            new.catch(),
            new.ignore(),
            new.attributes(),
            new.nested(),
            new.unknown(),
            new.inline_number(),
            new.inline_stub(),
        )
    )
    handle = await client.dispatch(new.rest)
    # Its child begins at some time before or after this.
    await client.cancel(handle)
    try:
        await handle.result()
    except WorkflowCanceledError:
        found.append("canceled")
    return found


async def _play_timeouts(client: Client) -> object:
    new = client.new_workflow(Errors)
    found: list[object] = list(await asyncio.gather(new.too_slow(), new.late_child()))
    handle = await client.dispatch(client.new_workflow(Leaf).rest)
    try:
        await handle.result(timeout=0.2)
    except TimeoutError:
        found.append("the client waits no longer")
    await client.cancel(handle)
    try:
        await handle.result()
    except WorkflowCanceledError:
        found.append("canceled")
    return found


async def _play_repair(client: Client) -> object:
    """Failed tasks run again, by status, by id and by service. What was caught is history."""
    Weather.is_good = False
    new = client.new_workflow(Picnic)
    handles = [await client.dispatch(new.go) for _ in range(3)]
    caught = await new.ask()
    failed = 0
    for handle in handles:
        try:
            await handle.result()
        except WorkflowFailedError:
            failed += 1
    Weather.is_good = True
    await client.retry_tasks(handles[0], status="failed")
    await client.retry_tasks(handles[1], task_id=f"{handles[1].workflow_id}-0")
    await client.retry_tasks(handles[2], service=Weather)
    return [caught, failed, *[await handle.result() for handle in handles]]


ERRORS = Story(
    (Errors, Branch, Leaf),
    make_services,
    _play_errors,
    [
        "my own",
        "ok",
        "LookupError ignored",
        ["Refused", "attempt 1", 7, "attempt 0"],
        ["WorkflowFailedError", "WorkflowFailedError", "TaskFailedError"],
        "unknown",
        7,
        "refused",
        "canceled",
    ],
)
TIMEOUTS = Story(
    (Errors, Branch, Leaf),
    make_services,
    _play_timeouts,
    ["task timed out", "child timed out: True", "the client waits no longer", "canceled"],
)
REPAIR = Story((Picnic,), make_services, _play_repair, [["rain"], 3, "sun", "sun", "sun"])
