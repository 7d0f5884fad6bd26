"""What a client gives for a method that it started: its result, now or later."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar, cast

from infinitic.client.stubs import Target, WorkflowStub, target_of
from infinitic.client.waits import MethodWait, Waits
from infinitic.clock import to_seconds
from infinitic.definitions.workflow_spec import MethodSpec
from infinitic.errors import UsageError
from infinitic.messages.client import Response
from infinitic.middleware.call import ClientCall
from infinitic.middleware.chain import Layer, run_through

R = TypeVar("R")


class HandleClient(Protocol):
    """What handles need of the client that made them."""

    name: str
    layers: tuple[Layer[ClientCall], ...]
    """What stands around its calls, outermost first."""
    waits: Waits
    """The methods whose end the client waits for."""

    async def read_outcome(self, response: Response, name: str, spec: MethodSpec, workflow_id: str, /) -> Any:
        """Return the value that a method has ended with, or raise the error that it stands for."""
        ...


class WorkflowHandle(Generic[R]):
    """A method of a workflow that was started. `Client.dispatch` and `Client.get_handle` make one.

    Wait for the method with `result`, now or later, in this process or in another one. A handle
    holds no connection: it may be dropped, and made again from the id.

    Attributes:
        workflow_id: the id of the instance.
        method_id: the id of the method; that of the first one is `workflow_id`.
    """

    def __init__(
        self,
        client: HandleClient,
        stub: Target,
        spec: MethodSpec,
        workflow_id: str,
        method_id: str,
        wait: MethodWait | None = None,
    ) -> None:
        self._client = client
        self._stub = stub
        self._spec = spec
        self._wait = wait
        self.workflow_id = workflow_id
        self.method_id = method_id

    @property
    def target(self) -> Target:
        """The instance, as stubs name it."""
        return self._stub._replace(workflow_id=self.workflow_id, tags=(), custom_id="", holder_of="")

    @property
    def workflow_name(self) -> str:
        """The name of the workflow."""
        return self._stub.spec.name

    @property
    def method_name(self) -> str:
        """The name of the method."""
        return self._spec.name

    async def result(self, timeout: float | timedelta | None = None) -> R:
        """Wait for the result. It can be fetched until the retention of the workflow ends.

        Args:
            timeout: seconds (or timedelta) to wait.

        Raises:
            TimeoutError: there is no result in time. The workflow goes on.
            WorkflowFailedError: the method raised an error.
            WorkflowCanceledError: the workflow, or the method, was cancelled.
            WorkflowTerminatedError: the workflow was terminated.
            WorkflowUnknownError: there is no such instance, or its retention has ended.
            RequestRefusedError: the instance takes no requests: it is parked, for instance.
        """
        seconds = None if timeout is None else to_seconds(timeout)
        if not self._client.layers:
            return await self._fetch(seconds)
        call = ClientCall(
            "result",
            self._client.name,
            self.workflow_name,
            self.workflow_id,
            self.method_name,
            arguments=lambda: ((), {"timeout": timeout}),
        )
        return cast(R, await run_through(self._client.layers, call, lambda: self._fetch(seconds)))

    async def _fetch(self, seconds: float | None) -> R:
        waits = self._client.waits
        wait = self._wait
        # What a parallel method returned is told once, so it is kept.
        if wait is None or wait.has_failed or not (wait.kept or (wait.is_settled and not wait.may_change)):
            wait = self._wait = await waits.join(self._stub.spec.name, self.workflow_id, self.method_id)
        try:
            response = await waits.outcome(wait, seconds)
        except TimeoutError:
            if seconds is None or wait.is_settled:
                raise
            raise TimeoutError(
                f"No result of {self.workflow_name}.{self.method_name} (workflow_id {self.workflow_id}) "
                f"within {seconds:g} s; it runs on"
            ) from None
        return cast(R, await self._client.read_outcome(response, self._stub.spec.name, self._spec, self.workflow_id))

    def forget_failure(self) -> None:
        """Ask for the result again: the workflow was re-opened. The verbs of `Client` do this."""
        self._wait = None

    def __repr__(self) -> str:
        return f"<WorkflowHandle {self.workflow_name}.{self.method_name} {self.workflow_id}>"


def find_target(target: object) -> Target:
    """Find what a stub or a handle stands for: one instance, or all that have a tag.

    Raises:
        UsageError: it stands for none.
    """
    if isinstance(target, WorkflowHandle):
        return target.target
    if isinstance(target, WorkflowStub):
        target = target_of(target)
    if isinstance(target, Target):
        if target.is_new:
            raise UsageError("A stub of new_workflow stands for no instance yet: use the handle or get_workflow_by_id")
        return target
    raise UsageError(f"This takes a stub of get_workflow_by_id or a handle, got {target!r}")


def find_method(target: object) -> str:
    """Find the id of the parallel method that a handle stands for; empty: the whole instance."""
    if isinstance(target, WorkflowHandle) and target.method_id != target.workflow_id:
        return target.method_id
    return ""


def find_instance(target: object) -> tuple[str, str]:
    """Find the name and the id of the one instance that a stub or a handle stands for.

    Raises:
        UsageError: it stands for none, or is known by a tag or custom id only.
    """
    found = find_target(target)
    if found.workflow_id is None:
        raise UsageError(f"This takes one instance by its id, got one {found.describe()} of {found.spec.name}")
    return found.spec.name, found.workflow_id
