"""Asks a live instance a question, by one of its `@query` methods, and checks that it only reads.

A query has no place in the history. So replay does not repeat it, and whatever it changed would
make this object differ from the one that another worker makes of the history. What it asks for is
refused where it asks; what it changed is found afterwards. Either way the object is of no use any
more.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context
from itertools import islice
from operator import is_
from types import ModuleType
from typing import Any, NamedTuple, Protocol, cast

from msgspec import Raw

from infinitic.definitions.stubs import INSTANCE, BoundService
from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.errors import (
    ExceptionDetail,
    InfiniticError,
    PayloadTooLargeError,
    PayloadUnavailable,
    UsageError,
    WorkflowCodeError,
)
from infinitic.failures import describe
from infinitic.limits import MAX_VALUE_DEPTH, describe_too_deep, is_deeper
from infinitic.replay.loop import WorkflowLoop
from infinitic.replay.recorder import IDLE, METHOD, Recorder
from infinitic.replay.stops import Discarded, StopActivation

LONGEST_FAILURE = 64 * 1024
"""How many bytes the reason has for which a query failed."""
MAX_LOOKED_AT = 2_000
"""How many objects behind one attribute are looked at, before and after a query."""


class QueryError(InfiniticError):
    """A query has no answer.

    Attributes:
        failure: why, for the client.
        is_broken: whether the query may have changed the instance, which must not be used any more.
    """

    def __init__(self, failure: ExceptionDetail, *, is_broken: bool) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.is_broken = is_broken


class Questioned(Protocol):
    """An `Instance`, as this module uses it."""

    spec: WorkflowSpec
    loop: WorkflowLoop
    next_number: Callable[[], int]


def ask(instance: Questioned, recorder: Recorder, workflow: object, name: str, arguments: Raw) -> bytes:
    """Call a query of a workflow object, whose code rests.

    Args:
        instance: that of the object.
        recorder: refuses commands meanwhile.
        workflow: the object.
        name: the query, as messages name it.
        arguments: its arguments, as they travel.

    Returns:
        What it returned, as it travels.

    Raises:
        QueryError: it has no answer. If the error says so, the instance must not be used any more.
        PayloadUnavailable: a codec could not encode or decode a payload now.
    """
    spec, loop = instance.spec, instance.loop
    query = spec.queries.get(name)
    if query is None:
        has = f"it has {', '.join(sorted(spec.queries))}" if spec.queries else "it has none"
        raise _make_error(UsageError(f"Workflow {spec.name}, version {spec.version}, has no query '{name}': {has}"))
    context = Context()
    context.run(METHOD.set, ("", name, {}))
    before = _look_at(instance, workflow)
    result = Raw()
    raised: BaseException | None = None
    numbers = instance.next_number
    # Whatever is made takes a number, and would move those of the code.
    instance.next_number = loop.next_number = recorder.refuse_in_query
    recorder.begin_query()
    loop.runs_query = True
    try:
        args, kwargs = query.signature.decode_arguments(recorder.decode_payload(arguments))
        value = context.run(loop.enter, lambda: getattr(workflow, query.attribute)(*args, **kwargs))
        if inspect.isawaitable(value):
            if inspect.iscoroutine(value):
                value.close()
            raise UsageError(f"The query {spec.name}.{name} returned {value!r}: a query answers at once")
        data = query.signature.encode_result(value)
        if is_deeper(data, MAX_VALUE_DEPTH):
            raise PayloadTooLargeError(describe_too_deep(f"The result of {spec.name}.{name}"))
        result = Raw(recorder.encode_payload(data))
    except (StopActivation, Discarded):
        pass
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 (whatever the code raises fails the query)
        raised = error
    finally:
        loop.runs_query = False
        instance.next_number = loop.next_number = numbers
        recorder.mode = IDLE
    if isinstance(recorder.fault, PayloadUnavailable):
        raise recorder.fault
    if recorder.fault is not None:
        raise _make_broken(recorder.fault)
    changed = (
        "it woke what waits, or started something"
        if loop.is_ready
        else _find_change(before, _look_at(instance, workflow))
    )
    if changed is not None:
        raise _make_broken(
            WorkflowCodeError(
                f"Workflow {spec.name}: the query {name} must only read, and {changed}. What a query changes is not in "
                "the history. To change a workflow, send a signal or call a method"
            )
        )
    if raised is not None:
        raise _make_error(raised) from raised
    return bytes(result)


def _make_error(error: BaseException) -> QueryError:
    return QueryError(describe(error), is_broken=False)


def _make_broken(error: InfiniticError) -> QueryError:
    return QueryError(describe(error), is_broken=True)


class _Seen(NamedTuple):
    """What an attribute refers to: the objects, and how long those are that hold others."""

    objects: list[object]
    lengths: list[int]


def _look_at(instance: object, workflow: object) -> dict[str, _Seen]:
    """Look at the attributes of a workflow object, and at what is behind them, within bounds.

    Its instance is left out: the recorder guards that.

    The objects are kept, so that no new one can have the identity of an old one.
    """
    seen = {id(instance)}
    return {
        name: _follow(value, seen)
        for name, value in vars(workflow).items()
        # Stubs are made when they are first used.
        if name != INSTANCE and not isinstance(value, BoundService)
    }


def _follow(value: object, seen: set[int]) -> _Seen:
    objects, lengths = [value], list[int]()
    for each in objects:
        if len(objects) >= MAX_LOOKED_AT:
            break
        if isinstance(each, _LEAVES) or id(each) in seen:
            continue
        seen.add(id(each))
        parts = _list_parts(each)
        if parts is not None:
            held, length = parts
            lengths.append(length)
            objects += islice(held, MAX_LOOKED_AT)
    return _Seen(objects, lengths)


_LEAVES = (str, bytes, int, float, complex, type(None), type, ModuleType, WorkflowLoop)


def _list_parts(each: object) -> tuple[Iterable[object], int] | None:
    """What an object holds, and how much that is; None if it holds nothing that can change."""
    if isinstance(each, asyncio.Future):
        return (), int(cast("asyncio.Future[object]", each).done())
    if isinstance(each, dict):
        mapping = cast("dict[object, object]", each)
        return (part for pair in mapping.items() for part in pair), len(mapping)
    if isinstance(each, list | tuple | set | frozenset | deque):
        several = cast("list[object]", each)
        return several, len(several)
    if callable(each):
        return None
    fields = dict[str, object](getattr(each, "__dict__", ()))
    for name in _list_slots(type(each)):
        fields[name] = getattr(each, name, None)
    return fields.values(), len(fields)


def _list_slots(cls: type[Any]) -> list[str]:
    slots: list[str] = []
    for base in cls.__mro__:
        own: str | Iterable[str] = vars(base).get("__slots__", ())
        slots += [own] if isinstance(own, str) else own
    return [name for name in slots if not name.startswith("__")]


def _find_change(before: Mapping[str, _Seen], after: Mapping[str, _Seen]) -> str | None:
    """Say what a query has changed; None if nothing."""
    for name in {**before, **after}:
        if name not in before:
            return f"it set self.{name}"
        if name not in after:
            return f"it deleted self.{name}"
        old, new = before[name], after[name]
        same = len(old.objects) == len(new.objects) and all(map(is_, old.objects, new.objects))
        if not same or old.lengths != new.lengths:
            return f"it changed self.{name}"
    return None
