"""Typed stubs: objects that look like a service.

They turn calls into commands of the instance that they belong to.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import timedelta
from functools import cached_property
from typing import Any

from infinitic.definitions.batch_methods import find_batches
from infinitic.definitions.home import Home
from infinitic.definitions.service_contract import ServiceContract, TaskSpec, check_service, contract_of
from infinitic.definitions.services import check_timeout
from infinitic.errors import UsageError
from infinitic.ids import check_name

INSTANCE = "_infinitic_instance"
"""The attribute of a workflow object that holds its `Instance`."""


class ServiceStub:
    """A service in a class body. Each workflow object gets its own `BoundService` of it."""

    def __init__(
        self,
        contract: Callable[..., Any],
        tags: Iterable[str] = (),
        meta: Mapping[str, bytes] | None = None,
        total_timeout: float | timedelta | None = None,
    ) -> None:
        check_service("new_service", contract)
        if isinstance(tags, str):
            raise UsageError(f"new_service(tags={tags!r}): tags are a set of texts, e.g. {{'eu'}}")
        self.contract_class: Any = contract
        self.tags = tuple(sorted(check_name("A tag", tag) for tag in tags))
        self.meta = check_meta(meta or {})
        self.total_timeout = check_timeout("total_timeout of a stub", total_timeout)
        self.attribute = ""

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self.attribute = name

    @cached_property
    def contract(self) -> ServiceContract:
        """The contract, read when it is first needed."""
        return contract_of(self.contract_class)

    def __get__(self, workflow: object | None, owner: type[Any] | None = None) -> object:
        if workflow is None:
            return self
        instance: Home | None = getattr(workflow, INSTANCE, None)
        if instance is None:
            raise UsageError(
                f"The stub '{self.attribute}' of {type(workflow).__name__} is for a running workflow: "
                "start one through a client"
            )
        bound = BoundService(self, instance)
        if self.attribute:
            vars(workflow)[self.attribute] = bound
        return bound

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise UsageError(
            f"A stub of {self.contract_class.__name__} is for the code of a workflow: use it as "
            f"self.{self.attribute or 'stub'}.{name}(…) in a method"
        )


def check_meta(meta: Mapping[Any, Any]) -> dict[str, bytes]:
    """Copy meta: a mapping of texts to bytes.

    Raises:
        UsageError: it is no such mapping, or a key cannot be encoded.
    """
    for key, value in meta.items():
        if not isinstance(key, str) or not isinstance(value, bytes):
            raise UsageError(f"meta is a mapping of texts to bytes, got {key!r}: {value!r}")
        if not key.isascii():
            _check_text(key)
    return dict(meta)


def _check_text(key: str) -> None:
    try:
        key.encode()
    except UnicodeEncodeError:
        raise UsageError(f"A key of meta contains a lone surrogate: {key!r}") from None


class BoundService:
    """A service as the code of one instance sees it."""

    def __init__(self, stub: ServiceStub, instance: Home) -> None:
        self._stub = stub
        self._instance = instance

    def __getattr__(self, name: str) -> TaskStub:
        contract = self._stub.contract
        spec = contract.tasks.get(name)
        if spec is None:
            self._refuse_batch(name)
            if name.startswith("_"):
                raise AttributeError(name)
            known = ", ".join(sorted(contract.tasks))
            raise UsageError(f"The service {contract.name} has no task '{name}'; it has {known}")
        task = TaskStub(self._instance, contract.name, spec, self._stub)
        vars(self)[name] = task
        return task

    def _refuse_batch(self, name: str) -> None:
        """Raise `UsageError` if this is a batch method."""
        contract = self._stub.contract
        for found in find_batches(contract.cls).values():
            if found.attribute == name:
                task = next((each for each, spec in contract.tasks.items() if spec.name == found.options.task), "…")
                raise UsageError(
                    f"{contract.name}.{name} is the batch method of the task '{found.options.task}', and workers call "
                    f"it: call self.{self._stub.attribute or '…'}.{task}(…) for each task"
                )


class TaskStub:
    """One task of a service, as the code of one instance sees it.

    Call it for a coroutine, or give it to `Workflow.dispatch`.
    """

    __slots__ = ("attribute", "instance", "meta", "service", "spec", "tags", "total_timeout")

    def __init__(self, instance: Home, service: str, spec: TaskSpec, stub: ServiceStub) -> None:
        self.instance = instance
        self.service = service
        self.spec = spec
        self.attribute = stub.attribute
        self.tags = stub.tags
        carried = instance.carried_meta
        self.meta = {**carried, **stub.meta} if carried else stub.meta
        self.total_timeout = stub.total_timeout or spec.total_timeout

    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        if not self.spec.signature.is_coroutine:
            raise UsageError(
                f"{self.service}.{self.spec.name} is a plain method (`def`), and what it returns cannot be awaited: "
                f"await self.dispatch(self.{self.attribute or '…'}.{self.spec.attribute}, …) instead"
            )
        if self.instance.loop.dead:
            self.instance.refuse("a task")
        return self._call(self.spec.signature.encode_arguments(args, kwargs))

    async def _call(self, arguments: bytes) -> Any:
        return await self.instance.schedule(self, arguments)
