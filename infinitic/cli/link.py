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
from infinitic.cli.values import imported
from infinitic.client import Client
from infinitic.client_stubs import WorkflowStub
from infinitic.errors import ConfigurationError, InfiniticError, UsageError
from infinitic.ids import check_name
from infinitic.replay.divergence import ReplayCheck
from infinitic.replay.spec import WorkflowSpec, spec_of
from infinitic.storage import Storage, StorageConfigurationError
from infinitic.transport import Transport, TransportUnavailable
from infinitic.workflows import Workflow

T = TypeVar("T")

WRONG = 2
CONNECT_SECONDS = 15.0
ANSWER_SECONDS = 30.0

_SILENT = logging.NullHandler()

Config = Annotated[
    Path, typer.Option("--config", envvar="INFINITIC_CONFIG", help="The configuration file.", show_envvar=True)
]
DEFAULT_CONFIG = Path("infinitic.yml")
WorkflowName = Annotated[str, typer.Option("--workflow", help="The name of the workflow.")]
Confirm = Annotated[bool, typer.Option("--confirm", help="Return only when the engine has applied it.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.001, help="Seconds to wait for an answer of the engine.")]


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


@dataclass(frozen=True)
class Link:
    """What verbs work with. `client` is open."""

    client: Client
    transport: Transport
    storage: Storage | None = None
    project: Project = field(default_factory=Project)

    async def instance(self, name: str, workflow_id: str) -> WorkflowStub:
        """A stub of an instance by names alone. Raises if nothing was ever sent to a workflow of this name."""
        check_name("The name of a workflow", name)
        check_name("A workflow id", workflow_id)
        if not (await self.transport.stats(topics.workflow_engine(name))).subscriptions:
            if name in self.project.workflows:
                raise InfiniticError(f"The workflow '{name}' has never run at this broker")
            raise InfiniticError(f"There is no workflow '{name}' at this broker; {self.project.known}")
        spec = WorkflowSpec(Workflow, None, name, 0, 0.0, ReplayCheck.SIMPLE, {}, {}, {}, ())
        return WorkflowStub(self.client, spec, workflow_id, {})


async def answered(name: str, call: Awaitable[T], timeout: float = ANSWER_SECONDS) -> T:
    """What the engine answers. Without a worker nobody does: that is an error after `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout):
            return await call
    except TimeoutError:
        raise InfiniticError(
            f"No answer within {timeout:g} s: is a worker with the state engine of '{name}' running?"
        ) from None


@contextmanager
def exits() -> Generator[None]:
    """Around the body of a command: as `exit_codes`, and 2 for what is wrong with the command or the configuration."""
    logging.getLogger("infinitic").addHandler(_SILENT)  # the one message is that of the error
    with exit_codes():
        try:
            yield
        except (UsageError, StorageConfigurationError) as error:
            typer.echo(f"Error: {error}", err=True)  # mistakes in a file have a line each
            raise typer.Exit(WRONG) from None


def run(config: Path, verb: Callable[[Link], Awaitable[T]]) -> T:
    """Run a verb on what the configuration says; early ends become exit codes, and one message."""

    async def linked() -> T:
        async with opened(config) as link:
            return await verb(link)

    with exits():
        return asyncio.run(linked())


def load(config: Path) -> Configuration:
    """Read a configuration file. Raises `ConfigurationError`."""
    if not config.is_file():
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
        return self.config.transport()

    def storage(self) -> Storage | None:
        return self.config.storage()


@asynccontextmanager
async def opened(config: Path) -> AsyncGenerator[Link]:
    """Connect to what the configuration says. Raises what a broker that is away raises, instead of waiting for it."""
    found = load(config)
    async with AsyncExitStack() as stack:
        transport = await stack.enter_async_context(found.transport())
        storage = found.storage()
        if storage is not None:
            await stack.enter_async_context(storage)
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
