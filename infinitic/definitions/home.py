"""What the objects in the hands of workflow code ask of the instance that they belong to.

Stubs, deferreds, channels, `Workflow` itself and the loop of the instance all know it as their
`Home`. `infinitic.replay.instance.Instance` is the only real one. The types of stubs and deferreds
are not named here: these import this module.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from logging import Logger, LoggerAdapter
from typing import Any, NoReturn, Protocol

from infinitic.errors import UsageError


@dataclass(frozen=True)
class WorkflowContext:
    """What a workflow may know about itself. `self.context` gives it.

    Args:
        workflow_id: the id of the instance.
        workflow_name: the name of the workflow, as messages have it.
        version: the version of the class; an instance keeps the one it began with.
        method_id: the id of the method whose code runs.
        method_name: the name of that method, as messages have it.
        meta: what the client that started the workflow gave it. In a method that was called later,
            what its caller gave is added, and counts where both have a key.
        tags: those that the workflow was started with, in the order of the alphabet.
    """

    workflow_id: str
    workflow_name: str
    version: int
    method_id: str
    method_name: str
    meta: Mapping[str, bytes]
    tags: tuple[str, ...] = ()


class HomeLoop(asyncio.AbstractEventLoop):
    """The loop of one instance, as the objects of workflow code see it."""

    now: float
    """The time of the activation that runs: seconds since 1970."""
    dead: bool
    """True once the instance is closed."""
    home: Home


class Home(Protocol):
    """An instance, as its loop and the objects of its workflow code see it."""

    @property
    def id(self) -> str:
        """The id of the instance."""
        ...

    @property
    def run(self) -> int:
        """The number of its run, from 0 on."""
        ...

    @property
    def loop(self) -> HomeLoop:
        """The private loop of the instance."""
        ...

    @property
    def context(self) -> WorkflowContext:
        """What the code may know about its workflow, and which method runs."""
        ...

    @property
    def random(self) -> random.Random:
        """A generator whose numbers are the same in every replay."""
        ...

    @property
    def logger(self) -> LoggerAdapter[Logger]:
        """A logger that is silent during replay."""
        ...

    @property
    def replaying(self) -> bool:
        """True while the instance repeats what its history holds."""
        ...

    @property
    def carried_meta(self) -> Mapping[str, bytes]:
        """The meta entries that it hands on to its tasks and children. Mostly empty."""
        ...

    def next_number(self) -> int:
        """Number a task, future, deferred or receiver: it hashes by this number."""
        ...

    # Commands.

    def dispatch(self, method: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Ask for a task, and return its deferred."""
        ...

    def schedule(self, stub: Any, arguments: bytes) -> asyncio.Future[Any]:
        """Ask for the task of a `TaskStub` whose arguments are encoded; return its deferred."""
        ...

    def timer(self, due: float) -> Any:
        """Ask for a timer that is due at this time (seconds since 1970); return its deferred."""
        ...

    def start_timer(self, due: float, handle: object, *, sleeps: bool) -> int:
        """Ask for a timer that fires a handle of the loop, and return its position.

        `sleeps` says that the code does nothing but wait for it.
        """
        ...

    def cancel_position(self, position: int) -> None:
        """Record that nobody waits for the task or timer of this position any more."""
        ...

    def inline(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function once and record what came of it; in replay, give what was recorded."""
        ...

    def patched(self, change_id: str) -> bool:
        """Whether the instance has a change of its code. The first answer holds."""
        ...

    # Other instances.

    def bind_workflow(self, stub: Any) -> Any:
        """Make the stub with which the code uses a `NewWorkflow`."""
        ...

    def find_workflow(
        self,
        contract: Callable[..., Any],
        meta: Mapping[str, bytes] | None = None,
        *,
        workflow_id: str = "",
        tag: str = "",
        holder_of: str = "",
    ) -> Any:
        """Make a stub of another instance, or of those that have a tag."""
        ...

    def request(self, stub: Any, arguments: bytes) -> asyncio.Future[Any]:
        """Ask for the child or call of a `RemoteMethod`, with encoded arguments."""
        ...

    def signal(self, channel: Any, value: bytes, meta: dict[str, bytes]) -> None:
        """Send a signal, which is encoded, to a `RemoteChannel`."""
        ...

    def continue_as_new(self, method: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NoReturn:
        """End the first method, and begin the next run with another call."""
        ...

    # Waiting.

    def combine(self, parts: Sequence[Any], *, every: bool) -> Any:
        """Make one deferred of several: `all_of` if `every`, else `any_of`."""
        ...

    async def wait_until(self, predicate: Callable[[], bool]) -> None:
        """Wait until a condition over the attributes holds."""
        ...

    # Trouble.

    def refuse(self, what: str, instead: str = ...) -> NoReturn:
        """Refuse what workflow code must not do; the error has the line and says what to do."""
        ...

    def report(self, context: dict[str, Any]) -> None:
        """Log an exception that nobody handles. `context` is that of asyncio's handlers."""
        ...

    def note(self, message: str, *args: object) -> None:
        """Log a warning, once, not in every replay."""
        ...


def find_home() -> Home | None:
    """Find the instance whose loop runs; None if no workflow code runs."""
    home: Home | None = getattr(asyncio._get_running_loop(), "home", None)
    return home


def current_home() -> Home:
    """Return the instance whose loop runs.

    Raises:
        UsageError: no workflow code runs.
    """
    home = find_home()
    if home is None:
        raise UsageError("all_of() can only be used by the code of a workflow, while it runs")
    return home
