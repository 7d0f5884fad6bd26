"""Corrects a command line of ``infinitic start`` that does not fit, so that it can be pasted."""

from __future__ import annotations

import dataclasses
import json
import shlex
import types
import typing
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from enum import Enum
from inspect import Parameter, signature
from typing import Any, Literal, Union, get_args, get_origin
from uuid import UUID

import msgspec
from pydantic import BaseModel

from infinitic.cli.parsing import encode_arguments
from infinitic.definitions.workflow_spec import MethodSpec
from infinitic.definitions.workflows import Workflow
from infinitic.errors import InfiniticError

_MAX_LEVELS = 4
_EXAMPLES: dict[object, object] = {
    str: "text",
    int: 1,
    float: 1.5,
    bool: True,
    bytes: "",
    datetime: "2026-01-31T12:00:00Z",
    date: "2026-01-31",
    time: "12:00:00",
    timedelta: "PT1H",
    UUID: "00000000-0000-4000-8000-000000000000",
    None: None,
    type(None): None,
}


def format_start_command(target: str, inputs: Sequence[str], more: Sequence[str] = ()) -> str:
    """Format the command that starts a workflow.

    Args:
        target: the method, as a person types it.
        inputs: the values of ``--input``.
        more: further words for the end of the command.
    """
    words = ["infinitic", "start", target]
    for each in inputs:
        words += ["--input", each]
    return shlex.join([*words, *more])


def find_fitting_inputs(cls: type[Workflow], method: MethodSpec, inputs: Sequence[str]) -> list[str] | None:
    """Find values of ``--input`` that a method takes.

    A shell takes quotes away, and a pair of brackets is easily forgotten. So the given values are
    tried with these added. If that does not help, example values are made from the type hints.

    Args:
        cls: the class of the workflow.
        method: the method.
        inputs: the values that do not fit.

    Returns:
        Values that fit; None if none were found.
    """
    quoted = [each if _is_json(each) else json.dumps(each) for each in inputs]
    candidates = [quoted, [f"[{','.join(quoted)}]"]] if inputs else []
    candidates += [[each] for each in [_make_example_call(cls, method)] if each is not None]
    for candidate in candidates:
        if list(candidate) != list(inputs) and _fits(method, candidate):
            return candidate
    return None


def _fits(method: MethodSpec, inputs: Sequence[str]) -> bool:
    try:
        method.signature.decode_arguments(encode_arguments(inputs))
    except (InfiniticError, RecursionError):
        return False
    return True


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        return False
    return True


def _make_example_call(cls: type[Workflow], method: MethodSpec) -> str | None:
    """Make a JSON array with an example of each needed argument; None if that is impossible."""
    function = getattr(cls, method.attribute)
    try:
        hints = typing.get_type_hints(function)
        parameters = list(signature(function).parameters.values())[1:]
    except (NameError, TypeError, ValueError):
        return None
    needed = [each for each in parameters if each.default is Parameter.empty and each.kind < Parameter.VAR_POSITIONAL]
    try:
        return json.dumps([_make_example(hints.get(each.name, Any), 0) for each in needed], ensure_ascii=False)
    except (TypeError, ValueError):
        return None


def _make_example(hint: Any, depth: int) -> object:
    """Make an example of a JSON value that a hint takes, as far as that can be guessed.

    Raises:
        ValueError: it cannot be guessed.
    """
    if hint in _EXAMPLES:
        return _EXAMPLES[hint]
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return inner[0]
    if origin is typing.Annotated or origin in (Union, types.UnionType):
        return _make_example(inner[0], depth)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return next(iter(hint)).value
    fields = _list_needed_fields(hint)
    if fields is not None:
        if depth >= _MAX_LEVELS:
            raise ValueError(f"{hint} is nested too deep")
        return {name: _make_example(each, depth + 1) for name, each in fields.items()}
    if origin is tuple:
        return [_make_example(each, depth) for each in inner if each is not Ellipsis]
    if origin in (dict, typing.Mapping) or hint is dict:
        return {}
    if hint in (list, tuple, set, frozenset) or origin is not None:
        return []
    return "text"


def _list_needed_fields(hint: Any) -> dict[str, Any] | None:
    """List the hints of the fields that a class needs, by name; None if the class has no fields."""
    if typing.is_typeddict(hint):
        hints = typing.get_type_hints(hint)
        return {name: hints[name] for name in getattr(hint, "__required_keys__", hints)}
    if not isinstance(hint, type):
        return None
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        missing = dataclasses.MISSING
        needed = [
            f for f in dataclasses.fields(hint) if f.init and f.default is missing and f.default_factory is missing
        ]
        return {each.name: hints[each.name] for each in needed}
    if issubclass(hint, BaseModel):
        return {f.alias or name: f.annotation for name, f in hint.model_fields.items() if f.is_required()}
    if issubclass(hint, msgspec.Struct):
        return {each.encode_name: each.type for each in msgspec.structs.fields(hint) if each.required}
    return None
