"""What a middleware sees of a client call."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class ClientCall:
    """A call of a client, as `Middleware.client_call` sees it.

    Attributes:
        verb: what is done, by the name of the method of `Client`: "dispatch", "broadcast", "query",
            "cancel", "list_workflows" and so on; "call" where a method of a stub is called and
            awaited, "signal" where a value is sent to a channel, "result" where a handle waits.
        client_name: the name of the client.
        workflow_name: the name of the workflow; empty if the call is for no single one.
        workflow_id: the id of the instance; empty if it is not known: by tag, by custom id. That of
            a new instance is known before it starts. If another one holds its custom id, that one
            is meant.
        method_name: the method, query or channel; empty if there is none.
        meta: what travels along with "call", "dispatch", "broadcast" and "signal". It may be
            changed: the workflow finds it in its context. The other verbs send no meta.
        tags: those of a new instance.
        custom_id: that of a new instance, or of the one that is meant; empty: none.
        tag: all instances with this tag are meant; empty: they are not.
    """

    def __init__(
        self,
        verb: str,
        client_name: str,
        workflow_name: str = "",
        workflow_id: str = "",
        method_name: str = "",
        *,
        meta: dict[str, bytes] | None = None,
        tags: tuple[str, ...] = (),
        custom_id: str = "",
        tag: str = "",
        arguments: Callable[[], Arguments] = lambda: ((), {}),
    ) -> None:
        self.verb = verb
        self.client_name = client_name
        self.workflow_name = workflow_name
        self.workflow_id = workflow_id
        self.method_name = method_name
        self.meta = dict(meta or {})
        self.tags = tags
        self.custom_id = custom_id
        self.tag = tag
        self._read = arguments

    @cached_property
    def _arguments(self) -> Arguments:
        return self._read()

    @property
    def args(self) -> tuple[Any, ...]:
        """The arguments that travel, decoded as the receiver will: a copy."""
        return self._arguments[0]

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments, as `args`; for other verbs, the options of the call."""
        return self._arguments[1]

    def __repr__(self) -> str:
        name = ".".join(filter(None, (self.workflow_name, self.method_name)))
        return f"<ClientCall {' '.join(filter(None, (self.verb, name, self.workflow_id)))}>"
