"""Exceptions as data.

`describe` makes an `ExceptionDetail` of an exception. `matches` looks for it in a list of names.
`fit` cuts a failure to the bytes that a message has left for it.

Nothing here makes an exception of data again: such an exception is read, and never raised.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, cast, overload

import msgspec
from msgspec.structs import replace

from infinitic.codec.difference import find_difference
from infinitic.errors import ExceptionDetail, TaskFailure, UsageError
from infinitic.limits import is_deeper

MAX_TRACEBACK = 32 * 1024
MAX_MESSAGE = 8 * 1024
MAX_NAME = 1024
MAX_ATTRIBUTES = 16 * 1024
MAX_ATTRIBUTE_DEPTH = 50
MAX_CAUSES = 8
MAX_SUMMARIES = 50


def describe(exc: BaseException) -> ExceptionDetail:
    """Make data of an exception. It never raises an `Exception`, whatever the methods of `exc` do.

    Texts are cut, in bytes of UTF-8: names to 1 KiB, messages to 8 KiB, tracebacks to 32 KiB. There
    are at most 8 causes: those of ``raise … from``, or else what was being handled. `attributes`
    are the public ones of the exception, and its ``args`` as a list. They are kept if they are
    plain JSON with finite floats, at most 50 levels deep, and as many as fit in 16 KiB.

    Args:
        exc: the exception.
    """
    chain: list[BaseException] = []
    link: BaseException | None = exc
    while link is not None and len(chain) <= MAX_CAUSES and not any(link is seen for seen in chain):
        chain.append(link)
        context = None if link.__suppress_context__ else link.__context__
        link = context if link.__cause__ is None else link.__cause__  # an exception can be false
    cause: ExceptionDetail | None = None
    for link in reversed(chain):
        cause = ExceptionDetail(
            name=_cut_middle(qualified_name(type(link)), MAX_NAME),
            message=_cut_middle(_read_message(link), MAX_MESSAGE),
            traceback=_cut_middle(_format_traceback(link), MAX_TRACEBACK),
            cause=cause,
            attributes=_read_attributes(link),
        )
    return cast(ExceptionDetail, cause)


def matches(exc: BaseException, ignored: Iterable[type[BaseException] | str]) -> bool:
    """Whether the class of an exception, or one of its bases, is in a list.

    Args:
        exc: the exception.
        ignored: classes or names. A name is short (``SoldOut``) or qualified
            (``shop.flights.SoldOut``).

    Raises:
        UsageError: something in the list is neither a class nor text.
    """
    names: set[str] | None = None
    for wanted in (ignored,) if isinstance(ignored, str | type) else ignored:
        if isinstance(wanted, str):
            if names is None:
                names = {name for base in type(exc).__mro__ for name in _list_names(base)}
            if wanted in names:
                return True
        elif isinstance(cast(object, wanted), type):
            if isinstance(exc, wanted):
                return True
        else:
            raise UsageError(f"an exception is named by its class or by text, not by {wanted!r}")
    return False


def qualified_name(cls: type) -> str:
    """Module and name of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def _list_names(cls: type) -> tuple[str, str, str]:
    return cls.__name__, cls.__qualname__, qualified_name(cls)


def _read_message(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception as error:  # noqa: BLE001 - a __str__ of users
        return f"<its message cannot be read: {type(error).__name__}>"


def _format_traceback(exc: BaseException) -> str:
    """Format the traceback, without those of the causes. The members of a group are listed."""
    try:
        text = "".join(traceback.format_exception(exc, chain=False))
    except Exception as error:  # noqa: BLE001 - methods of users are called
        text = f"<its traceback cannot be read: {type(error).__name__}>\n"
    if isinstance(exc, BaseExceptionGroup):
        members = _list_members(cast("BaseExceptionGroup[BaseException]", exc))
        lines = [f"  {type(each).__qualname__}: {_read_message(each)[:200]}\n" for each in members[:MAX_SUMMARIES]]
        more = len(members) - len(lines)
        text += f"Members of the group:\n{''.join(lines)}{f'  and {more} more' if more else ''}"
    return text


def _list_members(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """List the exceptions in a group, and in the groups in it."""
    found: list[BaseException] = []
    waiting: list[BaseException] = [group]
    while waiting:
        each = waiting.pop()
        if isinstance(each, BaseExceptionGroup):
            waiting += reversed(cast("BaseExceptionGroup[BaseException]", each).exceptions)
        else:
            found.append(each)
    return found


def _read_attributes(exc: BaseException) -> dict[str, Any]:
    found: dict[str, Any] = {}
    candidates: dict[str, Any]
    room = MAX_ATTRIBUTES
    try:
        candidates = {"args": list(exc.args)} if exc.args else {}
        candidates |= vars(exc)
    except Exception:  # noqa: BLE001 - `args` and `__dict__` can be anything
        return found
    for name, value in candidates.items():
        with suppress(Exception):  # whatever it is, it is not plain JSON
            text = msgspec.json.encode({name: value})
            plain = msgspec.json.decode(text)
            fits = len(text) <= room and not is_deeper(text, MAX_ATTRIBUTE_DEPTH)
            if not name.startswith("_") and fits and find_difference({name: value}, plain) is None:
                found |= plain
                room -= len(text)
    return found


def _cut_middle(text: str, limit: int) -> str:
    """Cut the middle out of a text, until it has at most `limit` bytes of UTF-8."""
    data = text.encode(errors="backslashreplace")
    if len(data) > limit:
        half = limit // 2 - 40
        left_out = f"\n… {len(data) - 2 * half} bytes are left out …\n".encode()
        data = data[:half] + left_out + data[-half:]
    return data.decode(errors="ignore")


SMALLEST = 1024
"""Bytes into which every failure can be made to fit."""


@overload
def fit(failure: TaskFailure, limit: int) -> TaskFailure: ...
@overload
def fit(failure: ExceptionDetail, limit: int) -> ExceptionDetail: ...
def fit(failure: TaskFailure | ExceptionDetail, limit: int) -> TaskFailure | ExceptionDetail:
    """Cut a failure until it fits. What matters least is left out first.

    The failures of earlier attempts go first, the oldest before the others. Then go tracebacks,
    those of the causes first; then attributes; then the causes, the deepest first; then the end of
    the message. A failure that fits is returned as it is.

    Args:
        failure: what is cut.
        limit: bytes of JSON that it may have, 1,024 or more.

    Raises:
        UsageError: the limit is below 1,024 bytes.
    """
    if limit < SMALLEST:
        raise UsageError(f"A failure takes {SMALLEST} bytes or more, and the limit is {limit}")
    if _measure(failure) <= limit:
        return failure
    if isinstance(failure, ExceptionDetail):
        return _fit_detail(failure, limit)
    return _fit_failure(failure, limit)


def _fit_failure(failure: TaskFailure, limit: int) -> TaskFailure:
    earlier = list[TaskFailure]()
    link = failure.previous
    while link is not None:
        earlier.append(replace(link, previous=None))
        link = link.previous
    alone = replace(failure, previous=None)
    room = limit - _measure(alone)
    if room < 0:
        rest = _measure(replace(alone, exception=ExceptionDetail("", "")))
        if rest + SMALLEST // 2 > limit:
            alone = replace(alone, worker_name=fit_text(alone.worker_name, SMALLEST // 4))
            rest = _measure(replace(alone, exception=ExceptionDetail("", "")))
        return replace(alone, exception=_fit_detail(alone.exception, limit - rest))
    kept = list[TaskFailure]()
    for each in earlier:  # the newest first
        room -= _measure(each) + len(',"previous":')
        if room < 0:
            break
        kept.append(each)
    previous: TaskFailure | None = None
    for each in reversed(kept):
        previous = replace(each, previous=previous)
    return replace(alone, previous=previous)


def fit_text(text: str, limit: int) -> str:
    """Cut a text until it fits. It ends with "…" then.

    Control characters and the like take up to six bytes in JSON. What cannot be UTF-8 is written as
    an escape.

    Args:
        text: what is cut.
        limit: bytes of JSON that it may have, with its quotes.
    """
    # More characters cannot fit.
    text = text[: max(limit, 0)].encode(errors="backslashreplace").decode()
    if _measure(text) <= limit:
        return text
    fits, fails = 0, len(text)
    while fails - fits > 1:
        middle = (fits + fails) // 2
        if _measure(f"{text[:middle]}…") <= limit:
            fits = middle
        else:
            fails = middle
    return f"{text[:fits]}…" if limit > len('"…"'.encode()) else ""


def _measure(value: TaskFailure | ExceptionDetail | str) -> int:
    return len(msgspec.json.encode(value))


def _fit_detail(detail: ExceptionDetail, limit: int) -> ExceptionDetail:
    chain = [detail]
    while (cause := chain[-1].cause) is not None:
        chain.append(cause)
    chain = [replace(each, cause=None) for each in chain]
    sizes = [_measure(each) + len(',"cause":') for each in chain]

    def cut(index: int, **changes: Any) -> bool:
        """Change one of the chain, and tell whether all of it fits now."""
        chain[index] = replace(chain[index], **changes)
        sizes[index] = _measure(chain[index]) + len(',"cause":')
        return sum(sizes) <= limit

    def reduce() -> bool:
        backwards = range(len(chain) - 1, -1, -1)
        return (
            any(cut(index, traceback="") for index in backwards)
            or any(cut(index, attributes={}) for index in backwards)
            or any(cut(index, message=fit_text(chain[index].message, 512)) for index in backwards if index)
        )

    if not reduce():
        while len(chain) > 1 and sum(sizes) > limit:
            chain.pop()
            sizes.pop()
        if sum(sizes) > limit:
            name = fit_text(chain[0].name, SMALLEST // 4)
            rest = _measure(ExceptionDetail(name, "")) + len(',"cause":')
            chain[0] = ExceptionDetail(name, fit_text(chain[0].message, limit - rest + 2))
    fitted: ExceptionDetail | None = None
    for each in reversed(chain):
        fitted = replace(each, cause=fitted)
    return cast(ExceptionDetail, fitted)
