"""Exceptions as data: `describe` makes an `ExceptionDetail` of one, `matches` finds it in a list of names.

Nothing here builds an exception from data: an exception that travelled is read, never raised again.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, cast

import msgspec

from infinitic.difference import difference
from infinitic.errors import ExceptionDetail, UsageError

MAX_TRACEBACK = 32 * 1024
MAX_MESSAGE = 8 * 1024
MAX_ATTRIBUTES = 16 * 1024
MAX_CAUSES = 8
MAX_SUMMARIES = 50


def describe(exc: BaseException) -> ExceptionDetail:
    """An exception as data, whatever it is like: an `Exception` raised by its own methods is caught.

    Texts are cut to what a message can carry, in bytes of UTF-8: 8 KiB of message and 32 KiB of traceback
    for the exception and each of its causes (``raise … from``, else what was being handled), of which there
    are at most 8. `attributes` are the public ones of the instance, and its ``args`` as a list, as far as
    they are plain JSON with finite floats, and as many as fit in 16 KiB.
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
            name=qualified_name(type(link)),
            message=_bounded(_message(link), MAX_MESSAGE),
            traceback=_bounded(_traceback(link), MAX_TRACEBACK),
            cause=cause,
            attributes=_attributes(link),
        )
    return cast(ExceptionDetail, cause)


def matches(exc: BaseException, ignored: Iterable[type[BaseException] | str]) -> bool:
    """True if the class of `exc` or one of its bases is in `ignored`.

    A text is a short name (``SoldOut``) or a qualified one (``shop.flights.SoldOut``).
    Raises `UsageError` for anything that is neither a class nor text.
    """
    names: set[str] | None = None
    for wanted in (ignored,) if isinstance(ignored, str | type) else ignored:
        if isinstance(wanted, str):
            if names is None:
                names = {name for base in type(exc).__mro__ for name in _names(base)}
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


def _names(cls: type) -> tuple[str, str, str]:
    return cls.__name__, cls.__qualname__, qualified_name(cls)


def _message(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception as error:  # noqa: BLE001 - a __str__ of users
        return f"<its message cannot be read: {type(error).__name__}>"


def _traceback(exc: BaseException) -> str:
    """The traceback without that of the causes, which have their own. The members of a group are listed."""
    try:
        text = "".join(traceback.format_exception(exc, chain=False))
    except Exception as error:  # noqa: BLE001 - methods of users are called
        text = f"<its traceback cannot be read: {type(error).__name__}>\n"
    if isinstance(exc, BaseExceptionGroup):
        members = _members(cast("BaseExceptionGroup[BaseException]", exc))
        lines = [f"  {type(each).__qualname__}: {_message(each)[:200]}\n" for each in members[:MAX_SUMMARIES]]
        more = len(members) - len(lines)
        text += f"Members of the group:\n{''.join(lines)}{f'  and {more} more' if more else ''}"
    return text


def _members(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The exceptions in a group and in the groups in it."""
    found: list[BaseException] = []
    waiting: list[BaseException] = [group]
    while waiting:
        each = waiting.pop()
        if isinstance(each, BaseExceptionGroup):
            waiting += reversed(cast("BaseExceptionGroup[BaseException]", each).exceptions)
        else:
            found.append(each)
    return found


def _attributes(exc: BaseException) -> dict[str, Any]:
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
            if not name.startswith("_") and len(text) <= room and difference({name: value}, plain) is None:
                found |= plain
                room -= len(text)
    return found


def _bounded(text: str, limit: int) -> str:
    """Valid text of at most `limit` bytes of UTF-8, its middle left out."""
    data = text.encode(errors="backslashreplace")
    if len(data) > limit:
        half = limit // 2 - 40
        left_out = f"\n… {len(data) - 2 * half} bytes are left out …\n".encode()
        data = data[:half] + left_out + data[-half:]
    return data.decode(errors="ignore")
