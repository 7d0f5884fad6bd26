"""What release 0.1 would have written.

It had neither zones behind datetimes nor marks of what was set in a model.
"""

from __future__ import annotations

from typing import Any

import msgspec

from infinitic.codec import unset_fields
from infinitic.codec.datetimes import remove_suffix

_parts = msgspec.json.Decoder(list[msgspec.Raw] | dict[str, list[msgspec.Raw] | dict[str, msgspec.Raw]]).decode


def is_same_call(recorded: bytes, requested: bytes) -> bool:
    """Tell whether code asks for the call that history holds, also one that release 0.1 wrote.

    Args:
        recorded: the arguments in the history.
        requested: the arguments that the code gives now.
    """
    if recorded == requested:
        return True
    if b"[" not in requested[1:] and b'"$unset"' not in requested:
        return False
    try:
        before, now = _parts(recorded), _parts(requested)
        return bool(_simplify(before, marks=False) == _simplify(now, marks=True))
    except (msgspec.MsgspecError, RecursionError):
        return False


def _simplify(part: Any, *, marks: bool) -> Any:
    """Arguments as plain JSON, in the way of release 0.1 if `marks`.

    Objects become lists, for their order counts.
    """
    kind: Any = part.__class__
    if issubclass(kind, list):
        return [_simplify(each, marks=marks) for each in part]
    if issubclass(kind, dict):
        return [(name, _simplify(each, marks=marks)) for name, each in part.items()]
    data = bytes(part)
    return _order(msgspec.json.decode(unset_fields.split(data)[0] if marks else data), marks=marks)


def _order(value: Any, *, marks: bool) -> Any:
    kind: Any = value.__class__
    if issubclass(kind, list):
        return [_order(each, marks=marks) for each in value]
    if issubclass(kind, dict):
        return [(key, _order(each, marks=marks)) for key, each in value.items()]
    if issubclass(kind, str):
        return remove_suffix(value) if marks else value
    return kind, value
