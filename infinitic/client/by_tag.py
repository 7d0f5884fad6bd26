"""What clients do by tag and by custom id."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ParamSpec, TypeVar, cast

from infinitic.client.handles import find_target
from infinitic.client.intercepting import client_verb, describe_method, with_meta
from infinitic.client.requests import Requests
from infinitic.client.stubs import MethodStub, StubClient, make_stub
from infinitic.definitions.stubs import check_meta
from infinitic.definitions.tags import check_custom_id, check_tag
from infinitic.errors import UsageError
from infinitic.ids import check_name
from infinitic.messages.tags import make_custom_id_key, make_tag_key
from infinitic.middleware.call import ClientCall
from infinitic.middleware.chain import Layer, run_through

P = ParamSpec("P")
T = TypeVar("T")


class ByTagVerbs:
    """The methods of `Client` for tags and custom ids."""

    name: str
    layers: tuple[Layer[ClientCall], ...]
    _requests: Requests

    def get_workflow_by_tag(self, cls: Callable[..., T], tag: str, *, meta: Mapping[str, bytes] | None = None) -> T:
        """Make a stub of all running instances that have this tag: signal and cancel them.

        What is sent reaches the instances that were started before, also those whose start is still
        on its way. ``broadcast`` calls a method of all of them; no method can be awaited.

        Args:
            cls: the workflow class, or an ABC or Protocol that describes it.
            tag: one of those that the instances were started with.
            meta: bytes that methods called through this stub find in their context.

        Raises:
            UsageError: `cls` is no workflow class, or the tag or the meta cannot be one.
        """
        return cast(T, make_stub(cast(StubClient, self), cls, tag=check_tag(tag), meta=check_meta(meta or {})))

    def get_workflow_by_custom_id(
        self, cls: Callable[..., T], custom_id: str, *, meta: Mapping[str, bytes] | None = None
    ) -> T:
        """Make a stub of the running instance that was started with this custom id.

        It can do what a stub of `get_workflow_by_id` can. Each use asks the tag engine who holds
        the custom id, and raises `WorkflowUnknownError` if nobody does.

        Args:
            cls: the workflow class, or an ABC or Protocol that describes it.
            custom_id: as it was given to `new_workflow`.
            meta: bytes that methods called through this stub find in their context.

        Raises:
            UsageError: `cls` is no workflow class, or the custom id or the meta cannot be one.
        """
        holder_of, checked = check_custom_id(custom_id), check_meta(meta or {})
        return cast(T, make_stub(cast(StubClient, self), cls, holder_of=holder_of, meta=checked))

    @client_verb
    async def get_ids(self, target: object, *, limit: int | None = None, after: str = "") -> list[str]:
        """List the ids of the running instances of a stub, in the order of their bytes.

        Args:
            target: a stub of `get_workflow_by_tag` or `get_workflow_by_custom_id`.
            limit: how many at most. None: all, which are asked for page by page.
            after: only ids behind this one: the last one of the page before.

        Raises:
            RequestRefusedError: the request went to the dead letters.
            UsageError: `target` is another stub, or an argument cannot be.
        """
        found = find_target(target)
        if not found.tag and not found.holder_of:
            raise UsageError(f"get_ids takes a stub of get_workflow_by_tag, got {target!r}")
        if limit is not None and limit < 1:
            raise UsageError(f"The limit of get_ids must be 1 or more, got {limit!r}")
        if after:
            check_name("A workflow id", after)
        key = make_tag_key(found.tag) if found.tag else make_custom_id_key(found.holder_of)
        return await self._requests.tags.list_ids(found.spec.name, key, limit, after)

    async def broadcast(
        self, method: Callable[P, Coroutine[Any, Any, Any]], /, *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Call a method of all running instances that have a tag. Nobody waits for the results.

        ``await client.broadcast(client.get_workflow_by_tag(Trip, "eu").add_bonus, 10)``

        Args:
            method: a method of a stub of `get_workflow_by_tag`, not called.
            args: its arguments.
            kwargs: its keyword arguments.

        Raises:
            UsageError: the arguments do not fit, or `method` is not of such a stub. Nothing was
                sent.
            PayloadError: an argument cannot be sent. Nothing was sent.
        """
        if not isinstance(method, MethodStub) or not method.workflow.tag:
            raise UsageError(
                "broadcast takes a method of a stub by tag, as in "
                f"client.broadcast(client.get_workflow_by_tag(Trip, …).add_bonus, …), got {method!r}"
            )
        arguments = method.spec.signature.encode_arguments(args, kwargs)
        if not self.layers:
            await self._requests.broadcast(method, arguments)
            return
        call = describe_method("broadcast", self, method, arguments)
        await run_through(self.layers, call, lambda: self._requests.broadcast(with_meta(method, call), arguments))
