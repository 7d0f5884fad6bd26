"""What verbs work with, a `Link`, and how a command gets one from a configuration file.

Verbs are coroutine functions that take a `Link`; `run` opens it for a command, and turns errors into exit codes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Protocol, TypeVar

import typer

from infinitic import config as configuration, topics
from infinitic.cli.exits import exit_codes
from infinitic.cli.values import imported, seconds, text
from infinitic.client.client import Client
from infinitic.client.stubs import Target
from infinitic.definitions.workflow_spec import WorkflowSpec, spec_of
from infinitic.definitions.workflows import ReplayCheck, Workflow
from infinitic.errors import ConfigurationError, InfiniticError, UsageError
from infinitic.ids import check_name
from infinitic.storage import StateKey, Storage, StorageConfigurationError
from infinitic.transport import Transport, TransportUnavailable
from infinitic.worker.configured import import_services, import_workflows

T = TypeVar("T")

WRONG = 2
CONNECT_SECONDS = 15.0
ANSWER_SECONDS = 30.0

WorkflowId = Annotated[str, typer.Argument(metavar="ID", help="The id of the workflow.", parser=text)]
WorkflowName = Annotated[
    str | None,
    typer.Option(
        "--workflow",
        help="The name of the workflow; not needed if the storage has an instance of this id.",
        parser=text,
    ),
]
Confirm = Annotated[bool, typer.Option("--confirm", help="Return only when the engine has applied it.")]
Timeout = Annotated[
    float,
    typer.Option("--timeout", parser=seconds, metavar="SECONDS", help="How long to wait for the engine's answer."),
]


class NoAnswer(InfiniticError):
    """The engine has not answered in time."""


@dataclass(frozen=True)
class Project:
    """The services and workflows of a configuration. `workflows` has the classes, or their paths, by name."""

    services: tuple[str, ...] = ()
    workflows: Mapping[str, tuple[str | type[Workflow], ...]] = field(
        default_factory=dict[str, tuple[str | type[Workflow], ...]]
    )

    def workflow(self, name: str) -> type[Workflow] | None:
        """The class of the newest version; None if the configuration has no code of this workflow."""
        classes = [imported(each) if isinstance(each, str) else each for each in self.workflows.get(name, ())]
        return max(classes, key=lambda cls: spec_of(cls).version, default=None)

    @property
    def known(self) -> str:
        """The workflows, for a message."""
        names = ", ".join(sorted(self.workflows))
        return f"the configuration has {names}" if names else "the configuration has none"


class Configuration(Protocol):
    """What commands need of a configuration. Adapters connect when they are first used."""

    @property
    def project(self) -> Project: ...
    def transport(self) -> Transport: ...
    def storage(self) -> Storage | None: ...
    def import_classes(self) -> None: ...


@dataclass(frozen=True)
class Link:
    """What verbs work with. `client` is open."""

    client: Client
    transport: Transport
    storage: Storage | None = None
    project: Project = field(default_factory=Project)

    async def name_of(self, name: str | None, workflow_id: str) -> str:
        """The name of the workflow of an instance: `name`, or that of the configuration's that the storage knows.

        Raises `UsageError` if it is not given and cannot be found.
        """
        check_name("A workflow id", workflow_id)
        if name is not None:
            return check_name("The name of a workflow", name)
        known = sorted(self.project.workflows)
        if self.storage is not None and known:
            async with within(CONNECT_SECONDS, "The database did not answer"):
                stored = await self.storage.states.load([StateKey(each, workflow_id) for each in known])
            if len(stored) == 1:
                return next(iter(stored)).name
        if len(known) == 1:
            return known[0]
        raise UsageError(
            f"The storage has no workflow {workflow_id}: say its name with --workflow; {self.project.known}"
        )

    async def instance(self, name: str, workflow_id: str) -> Target:
        """An instance by names alone. Raises if nothing was ever sent to a workflow of this name."""
        check_name("The name of a workflow", name)
        check_name("A workflow id", workflow_id)
        if not (await self.transport.stats(topics.workflow_engine(name))).subscriptions:
            if name in self.project.workflows:
                raise InfiniticError(f"The workflow '{name}' has never run at this broker")
            raise InfiniticError(f"There is no workflow '{name}' at this broker; {self.project.known}")
        return self.stub(name, workflow_id)

    def stub(self, name: str, workflow_id: str) -> Target:
        """An instance by names that are known to be right."""
        spec = WorkflowSpec(Workflow, None, name, 0, 0.0, ReplayCheck.SIMPLE, {}, {}, {}, ())
        return Target(self.client, spec, workflow_id, {})


async def answered(link: Link, name: str, call: Awaitable[T], timeout: float = ANSWER_SECONDS) -> T:
    """What the engine answers. That nobody does within `timeout` seconds is an error that says why."""
    try:
        async with asyncio.timeout(timeout):
            return await call
    except TimeoutError:
        why = f"is a worker with the state engine of '{name}' running?"
        if _heard.last:
            why = _heard.last
        elif not await consumers(link.transport, topics.workflow_engine(name)):
            why = f"no worker has the state engine of '{name}': start one that hosts it"
        raise NoAnswer(f"No answer within {timeout:g} s: {why}") from None


async def consumers(transport: Transport, topic: topics.Topic) -> int:
    """How many consume the main subscription of a topic; 0 if there is none."""
    found = (await transport.stats(topic)).subscriptions.get(topic.subscription or "")
    return 0 if found is None else found.consumers


@asynccontextmanager
async def within(seconds: float, what: str) -> AsyncGenerator[None]:
    """Around what waits for a broker or database. Raises `TransportUnavailable` with what was heard meanwhile."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        heard = f": {_heard.last}" if _heard.last else ": does it run, and is its address in the configuration right?"
        raise TransportUnavailable(f"{what} within {seconds:g} s{heard}") from None


class _Heard(logging.Handler):
    """Keeps the last warning of the library, for the one message of an error; shows all of them while `aloud`."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""
        self.aloud = False

    def emit(self, record: logging.LogRecord) -> None:
        message = " ".join(record.getMessage().split())
        of_the_file = record.name == "infinitic.config"  # no reason why something does not answer
        if not of_the_file:
            self.last = message
        if self.aloud or of_the_file:
            typer.echo(f"Warning: {message}", err=True)


_heard = _Heard()


@contextmanager
def warnings_shown() -> Generator[None]:
    """Around a long wait: what goes wrong meanwhile is told on stderr."""
    _heard.aloud = True
    try:
        yield
    finally:
        _heard.aloud = False


@contextmanager
def exits() -> Generator[None]:
    """Around the body of a command: as `exit_codes`, and 2 for what is wrong with the command or the configuration."""
    library = logging.getLogger("infinitic")
    library.addHandler(_heard)  # the one message is that of the error
    try:
        with exit_codes():
            try:
                yield
            except (UsageError, StorageConfigurationError) as error:
                typer.echo(f"Error: {error}", err=True)  # mistakes in a file have a line each
                raise typer.Exit(WRONG) from None
    finally:
        library.removeHandler(_heard)
        _heard.last = ""


def run(config: Path, verb: Callable[[Link], Awaitable[T]]) -> T:
    """Run a verb on what the configuration says; early ends become exit codes, and one message."""

    async def linked() -> T:
        async with opened(config) as link:
            return await verb(link)

    with exits():
        return asyncio.run(linked())


def run_on_storage(config: Path, verb: Callable[[Storage], Awaitable[T]]) -> T:
    """Run a verb that needs the storage alone: it works while the broker is away."""

    async def opened_storage() -> T:
        storage = load(config).storage()
        if storage is None:
            raise UsageError("The configuration has no storage: there is nothing to list")
        async with storage, within(CONNECT_SECONDS, "The database did not answer"):
            return await verb(storage)

    with exits():
        return asyncio.run(opened_storage())


def load(config: Path) -> Configuration:
    """Read a configuration file. Raises `ConfigurationError`."""
    if not config.exists() or config.is_dir():
        raise ConfigurationError(f"There is no configuration file {config}: name one with --config or INFINITIC_CONFIG")
    return read(config)


def read(config: Path) -> Configuration:
    """What a file that exists says."""
    found = configuration.load(config)
    document = found.document
    services = tuple(each.name for each in document.services)
    paths = {each.name: tuple(each.executor.paths) if each.executor else () for each in document.workflows}
    return _Read(Project(services, paths), found)


@dataclass(frozen=True)
class _Read:
    """A `Configuration` out of a file."""

    project: Project
    config: configuration.Config

    def transport(self) -> Transport:
        return self.config.make_transport()

    def storage(self) -> Storage | None:
        return self.config.make_storage()

    def import_classes(self) -> None:
        """Import what a worker would host. Raises `ConfigurationError`."""
        import_services(self.config)
        import_workflows(self.config)


@asynccontextmanager
async def opened(config: Path) -> AsyncGenerator[Link]:
    """Connect to what the configuration says. Raises what a broker that is away raises, instead of waiting for it."""
    found = load(config)
    async with AsyncExitStack() as stack:
        transport = await stack.enter_async_context(found.transport())
        storage = found.storage()
        if storage is not None:
            await stack.enter_async_context(storage)
        async with within(CONNECT_SECONDS, "The broker did not answer"):
            await reach(transport)
            client = await stack.enter_async_context(Client(transport, storage=storage))
        yield Link(client, transport, storage, found.project)


async def reach(transport: Transport, seconds: float = CONNECT_SECONDS) -> None:
    """Return if the broker answers, else raise."""
    try:
        async with asyncio.timeout(seconds):
            await transport.stats(topics.service_executor("infinitic-doctor"))
    except TimeoutError:
        raise TransportUnavailable(f"The broker did not answer within {seconds:g} s") from None
