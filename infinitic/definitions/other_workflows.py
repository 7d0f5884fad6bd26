"""The part of `Workflow` that is about other workflows: stubs of children, and of instances."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import TypeVar, cast

from infinitic.definitions.home import Home
from infinitic.definitions.stubs import INSTANCE
from infinitic.definitions.tags import check_custom_id, check_tag
from infinitic.definitions.workflow_stubs import NewWorkflow, check_workflow
from infinitic.errors import UsageError
from infinitic.ids import check_name

T = TypeVar("T")


class OtherWorkflows:
    """Base of `Workflow`."""

    @property
    def _infinitic(self) -> Home:
        instance = vars(self).get(INSTANCE)
        if instance is None:
            raise UsageError(f"This {type(self).__name__} does not run: start a workflow through a client")
        return cast("Home", instance)

    @staticmethod
    def new_workflow(
        contract: Callable[..., T],
        *,
        tags: Iterable[str] = (),
        custom_id: str | None = None,
        meta: Mapping[str, bytes] | None = None,
        total_timeout: float | timedelta | None = None,
    ) -> T:
        """Make a stub that starts *child* workflows, for the class body or the code of a method.

        ``invoices = Workflow.new_workflow(Invoice)``.

        Each call of a method starts a new instance, and waits for the end of that method. So the
        workflow that calls is the *parent*::

            number = await self.invoices.issue(order)

        A child that fails raises `WorkflowFailedError`, with the whole chain of causes. The parent
        stays open until each of its children has ended.

        Args:
            contract: the class of the workflow, or an ABC or Protocol that describes it.
            tags: texts by which running children are found, up to 64.
            custom_id: at most one instance with this id runs at a time. If there is one already, no
                child is started: the call waits for that one, and gives its result. Cancelling the
                parent does not cancel it.
            meta: named bytes that each child finds in its context.
            total_timeout: seconds (or a timedelta) to wait for each child. `WorkflowTimedOutError`
                is raised then.

        Raises:
            UsageError: what was given is not the class of a workflow, or cannot be sent.
        """
        return cast(T, NewWorkflow(contract, meta, total_timeout, tags, custom_id))

    def get_workflow_by_id(
        self, contract: Callable[..., T], workflow_id: str, *, meta: Mapping[str, bytes] | None = None
    ) -> T:
        """Make a stub of another instance that runs: call its methods, and signal its channels.

        ::

            trip = self.get_workflow_by_id(Trip, trip_id)
            await trip.approvals.send(True)
            points = await trip.add_bonus(10)

        A method waits for its result. If there is no such instance, or if it is closed, that raises
        `WorkflowUnknownError`. A signal is not waited for.

        Args:
            contract: the class of the workflow, or an ABC or Protocol that describes it.
            workflow_id: the id of the instance.
            meta: bytes that methods called through this stub find in their context. They are added
                to those of the workflow.

        Raises:
            UsageError: what was given is not the class of a workflow, or the id or the meta cannot
                be one.
        """
        check_workflow("get_workflow_by_id", contract)
        checked = check_name("A workflow id", workflow_id)
        return cast(T, self._infinitic.find_workflow(contract, meta, workflow_id=checked))

    def get_workflow_by_tag(self, contract: Callable[..., T], tag: str) -> T:
        """Make a stub of all instances that have a tag: signal their channels.

        ::

            await self.get_workflow_by_tag(Trip, "user:42").approvals.send(True)

        It reaches the instances that have the tag when the tag engine gets the signal, also this
        one if it has the tag. A method cannot be called so, since there would be many results.

        Args:
            contract: the class of the workflow, or an ABC or Protocol that describes it.
            tag: the tag.

        Raises:
            UsageError: what was given is not the class of a workflow, or the tag cannot be one.
        """
        check_workflow("get_workflow_by_tag", contract)
        return cast(T, self._infinitic.find_workflow(contract, tag=check_tag(tag)))

    def get_workflow_by_custom_id(
        self, contract: Callable[..., T], custom_id: str, *, meta: Mapping[str, bytes] | None = None
    ) -> T:
        """Make a stub of the instance that holds a custom id: call its methods, and signal it.

        If nobody holds the custom id, a method raises `WorkflowUnknownError`, and a signal is
        dropped.

        Args:
            contract: the class of the workflow, or an ABC or Protocol that describes it.
            custom_id: the custom id.
            meta: as for `get_workflow_by_id`.

        Raises:
            UsageError: what was given is not the class of a workflow, or the custom id or the meta
                cannot be one.
        """
        check_workflow("get_workflow_by_custom_id", contract)
        return cast(T, self._infinitic.find_workflow(contract, meta, holder_of=check_custom_id(custom_id)))
