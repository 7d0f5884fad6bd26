"""Which fields of pydantic models were set.

This is kept beside the JSON text of a value, which has no place for it.

`model_fields_set` and `exclude_unset` tell "left out" from "set to its default". A model writes all
its fields, so that a receiver whose class has other defaults gets the values of the sender. The
fields that were not set are listed in a member ``$unset`` at the end of the text:
``{"id":1,"note":null,"$unset":[[["note"],[],[[]]]]}``. A value that is no JSON object is wrapped:
``{"$value":[…],"$unset":[…]}``. Each entry has three parts: the names that were not set, the names
that were set although the text lacks them, and the places of all models to which this applies. A
place is a list of steps from the value inwards: names of fields, and positions in lists, tuples and
dicts.

Every codec but those of single builtins removes this member when it decodes. So a receiver with a
wider hint, such as `Any`, gets the value alone. To a value that happens to end with such a member,
the codec adds an empty one.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Collection, Container, Hashable, Iterable, Iterator
from typing import Any

import msgspec

_Place = tuple[int | str, ...]
_Entry = tuple[tuple[str, ...], tuple[str, ...], list[_Place]]

END = b"]}"
"""How a text ends that has something beside the value: looked at first, for speed."""
_MEMBER = b'"$unset":'
_WRAPPER = b'{"$value":'
_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder(list[_Entry]).decode


def join(data: bytes, value: object, models: Collection[tuple[Any, Any]]) -> bytes | None:
    """The text of a value, and beside it what was set in these models.

    Args:
        data: JSON text of the value.
        value: what the text is read as.
        models: pairs of models as they were sent and as they are in `value`.

    Returns None if one of them cannot be reached: it stands in a set, or in an object of a class
    without fields.
    """
    wanted = {id(arrived): (sent, arrived) for sent, arrived in models}
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[_Place]] = {}
    for place, model in _models(value, wanted) if wanted else ():
        sent, arrived = (each.__pydantic_fields_set__ for each in wanted.pop(id(model)))
        names = tuple(sorted(arrived - sent)), () if sent <= arrived else tuple(sorted(sent - arrived))
        groups.setdefault(names, []).append(place)
    if wanted:
        return None
    member = b"%b%b}" % (_MEMBER, _to_json([(*names, places) for names, places in groups.items()]))
    if data[:1] != b"{" or data.startswith(_WRAPPER):
        return b"%b%b,%b" % (_WRAPPER, data, member)
    return b"{" + member if data == b"{}" else b"%b,%b" % (data[:-1], member)


def needs_mark(data: bytes) -> bool:
    """True if the JSON text of a value looks as if something stood beside it."""
    return data[-2:] == END and data.find(_MEMBER) >= 0


def split(data: bytes) -> tuple[bytes, list[_Entry]]:
    """The JSON text of a value, and what stands beside it.

    In the text of another program, nothing stands beside the value.
    """
    if data[-2:] != END:
        return data, []
    start = data.rfind(_MEMBER)
    before = data[start - 1 : start] if start > 0 else b""
    if before not in (b"{", b","):  # not there, or the end of another name
        return data, []
    try:
        marks = _from_json(data[start + len(_MEMBER) : -1])
    except msgspec.MsgspecError:
        return data, []
    if before == b"{":
        return b"{}", marks
    text = data[: start - 1]
    return (text[len(_WRAPPER) :] if text.startswith(_WRAPPER) else text + b"}"), marks


def apply(marks: list[_Entry], value: object) -> None:
    """Put right what was set in the models of a value.

    Args:
        marks: what stood beside its text.
        value: the value as it was read.

    Raises:
        ValueError: a place is none of a model.
    """
    items: dict[int, tuple[Any, list[Any]]] = {}  # positions in a dict would be counted from its start each time
    try:
        for unset, also_set, places in marks:
            for place in places:
                model: Any = value
                for step in place:
                    model = _fields(model)[step] if isinstance(step, str) else _item(model, step, items)
                known = model.__pydantic_fields_set__
                known.difference_update(unset)
                if also_set:
                    fields: Container[str] = model.__class__.model_fields
                    known.update(name for name in also_set if name in fields)
    except (AttributeError, LookupError, TypeError) as error:
        raise ValueError(f"what stands in {_MEMBER.decode()} does not fit the value") from error


def _models(value: object, wanted: dict[int, Any]) -> Iterator[tuple[_Place, Any]]:
    """The wanted models in a value, each with its place."""
    rest: list[tuple[_Place, Any]] = [((), value)]
    while rest and wanted:
        place, each = rest.pop()
        if id(each) in wanted:
            yield place, each
        inner: Iterable[tuple[int | str, Any]] = _fields(each).items()
        if not inner:
            inner = enumerate(_items(each)) if isinstance(each, dict | list | tuple | deque) else ()
        rest += [((*place, step), item) for step, item in inner if type(item) not in _SCALARS]


_SCALARS = {str, int, float, bool, type(None)}


def _items(value: Any) -> list[Any]:
    """What has a position in a container: the values of a dict."""
    kind: Any = value.__class__
    return list(value.values() if issubclass(kind, dict) else value)


def _item(value: Any, position: int, known: dict[int, tuple[Any, list[Any]]]) -> Any:
    kind: Any = value.__class__
    if not issubclass(kind, dict):
        return value[position]
    _, values = known.get(id(value)) or known.setdefault(id(value), (value, _items(value)))
    return values[position]


def _fields(value: Any) -> dict[str, Any]:
    """The fields of an object by name, without calling any code of its class."""
    names = _names(value.__class__)
    if names is None:
        return {}
    if names:
        return {name: getattr(value, name) for name in names if hasattr(value, name)}
    own: dict[str, Any] = value.__dict__
    extra: dict[str, Any] | None = value.__pydantic_extra__
    return own | extra if extra else own


@functools.lru_cache(1024)
def _names(kind: Hashable) -> tuple[str, ...] | None:
    """The names of the fields of a dataclass; none for a pydantic model; None for all others."""
    if hasattr(kind, "__pydantic_generic_metadata__"):
        return ()
    return tuple(getattr(kind, "__dataclass_fields__", ())) or None
