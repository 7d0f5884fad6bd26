"""Says in plain words what is wrong with a message.

The decoder names a field as it is called on the wire: ``$.c[0].p``. People who read a dead letter
want to know the field, ``commands[0].position``, and its value. This runs only for messages that
cannot be decoded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

import msgspec
from msgspec import inspect

_AT = re.compile(r"(.*) - at `\$(.*)`", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_MISSING = re.compile(r"Object missing required field `([^`]+)`")

MAX_SHOWN = 80
"""Characters of a value that are shown."""


def describe_mistake(kind: Any, body: bytes, text: str) -> str:
    """Put an error of the decoder in plain words.

    Args:
        kind: the type of the message: a struct, or a union of structs.
        body: what arrived.
        text: the error. It is returned as it is if it names no field, or the field is not found.
    """
    matched = _AT.fullmatch(text)
    problem, path = (matched[1], matched[2]) if matched else (text, "")
    missing = _MISSING.fullmatch(problem)
    if matched is None and missing is None:
        return text
    try:
        names, value, info = _follow(inspect.type_info(kind), msgspec.json.decode(body), path)
        if missing is None and value is msgspec.UNSET:
            return f"a value in the field '{names}' is wrong ({problem[:1].lower()}{problem[1:]})"
        if missing is None:
            return f"the field '{names}' is {_show(value)} ({problem[:1].lower()}{problem[1:]})"
    except (ValueError, OverflowError, RecursionError):
        # Something else is wrong, too: it is no Unicode text, or nested too deep. The error alone
        # has to do.
        return text
    field = _find_field(_choose_struct(info, value), missing[1])
    name = missing[1] if field is None else field.name
    return f"the field '{names}.{name}' is missing" if names else f"the field '{name}' is missing"


def _follow(info: inspect.Type | None, value: object, path: str) -> tuple[str, object, inspect.Type | None]:
    """Go along a path of the wire.

    Returns:
        The path in plain names, and the value and the type at its end. The value is `UNSET` if the
        path cannot be followed to its end.
    """
    names, end = "", 0
    for step in _STEP.finditer(path):
        if step.start() != end:
            break
        end = step.end()
        struct = _choose_struct(info, value)
        if step[1] is not None:
            field = _find_field(struct, step[1])
            names += f".{step[1] if field is None else field.name}"
            value = cast("dict[str, object]", value).get(step[1]) if isinstance(value, dict) else None
            info = None if field is None else field.type
        else:
            index = int(step[2])
            if struct is not None and index < len(struct.fields):
                names += f".{struct.fields[index].name}"
                info = struct.fields[index].type
            else:
                names += step[0]
                info = _get_item_type(info)
            items = cast("Sequence[object]", value) if isinstance(value, list) else ()
            value = items[index] if index < len(items) else None
    if end != len(path):
        # The decoder does not say which value of a mapping is wrong.
        value = msgspec.UNSET
    return names.removeprefix("."), value, info


def _choose_struct(info: inspect.Type | None, value: object) -> inspect.StructType | None:
    """Choose the struct that a value is of: by its tag, if there are several."""
    kinds = info.types if isinstance(info, inspect.UnionType) else (info,)
    structs = [each for each in kinds if isinstance(each, inspect.StructType)]
    if len(structs) > 1 and isinstance(value, dict):
        known = cast("dict[str, object]", value)
        structs = [each for each in structs if each.tag_field is not None and known.get(each.tag_field) == each.tag]
    return structs[0] if len(structs) == 1 else None


def _find_field(struct: inspect.StructType | None, name: str) -> inspect.Field | None:
    fields = () if struct is None else struct.fields
    return next((each for each in fields if each.encode_name == name), None)


def _get_item_type(info: inspect.Type | None) -> inspect.Type | None:
    kinds = info.types if isinstance(info, inspect.UnionType) else (info,)
    for each in kinds:
        if isinstance(each, inspect.VarTupleType | inspect.ListType):
            return each.item_type
    return None


def _show(value: object) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"an array of {len(cast('Sequence[object]', value))}"
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
