"""Values of whatever pydantic takes, as its ``TypeAdapter`` takes them.

What JSON has no place for is kept beside the text.

The core schema that pydantic made of the hint is copied and changed, three times:

- to read: our config everywhere, and datetimes with the zone behind them
  (`infinitic.codec.datetimes`);
- to write: our config;
- to write with care, where the second did not keep all: zones, and lists where the hint says tuple
  or the reverse.

Which fields of models were set stands beside the text (`infinitic.codec.unset_fields`).
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, time
from functools import partial
from typing import Any, cast

from infinitic.codec import advice, unset_fields
from infinitic.codec.datetimes import read_moment, standardize, write_moment
from infinitic.codec.difference import Notes, find_difference, show
from infinitic.codec.round_trip import PLAIN, ZONED, RoundTripCodec, hint_name, summarize_error, walk_hint

_FLOATS: dict[str, Any] = {"ser_json_inf_nan": "strings"}
_CONFIG = _FLOATS | {"ser_json_bytes": "base64", "val_json_bytes": "base64"}
_building = threading.RLock()
_LISTS = ("list_type", "tuple_type")
_OPAQUE = {"cls", "default", "expected", "members", "metadata"}  # what a core schema holds of user values

_Change = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]


class PydanticCodec(RoundTripCodec):
    """A hint that pydantic takes. Raises what pydantic raises if it does not."""

    __slots__ = (
        "_careful",
        "_classes",
        "_floats",
        "_from_json",
        "_has_models",
        "_notes",
        "_schema",
        "_to_json",
        "_tuples",
        "_validate",
    )

    def __init__(self, hint: object) -> None:
        super().__init__(hint)
        from pydantic import BaseModel, TypeAdapter
        from pydantic_core import SchemaSerializer, SchemaValidator

        # TypeAdapter takes no `config` for models, dataclasses and TypedDicts, and models ignore
        # the one around them: ours is written into a copy of the schema.
        self._classes: set[type] = set()
        adapter: TypeAdapter[Any] = TypeAdapter(cast(Any, hint))
        self._schema = dict(adapter.core_schema)
        config = cast(Any, _CONFIG)
        reading = _configure(self._schema, self._classes, _change_to_read)
        with _build_anew(self._classes):
            validator = SchemaValidator(reading, config)
            serializer = SchemaSerializer(_configure(self._schema, set(), _keep), config)
        self._has_models = any(issubclass(each, BaseModel) for each in self._classes)
        self._to_json = serializer.to_json
        self._careful: Any = None
        # What a union takes as it is must not arrive as its twin.
        unions = _kinds_in_unions(self._schema)
        self._tuples = not any({"list", "tuple"} <= kinds for kinds in unions)
        self._floats = not any({"int", "float"} <= kinds for kinds in unions)
        self._notes = Notes(tuples=self._tuples, floats=self._floats)
        self._from_json = validator.validate_json
        self._validate = validator.validate_python

    def encode(self, value: Any) -> bytes:
        models: list[tuple[Any, Any]] | None = None
        notes = self._notes
        if self._has_models:
            models = []
            notes = Notes(tuples=self._tuples, floats=self._floats, unset=models)
        arrived: Any = None
        change: str | None = None
        failure: Exception | None = None
        try:
            data = self._to_json(value, by_alias=True, round_trip=True, warnings="error")
            arrived = self._from_json(data)
            change = find_difference(value, arrived, notes)
        except Exception as error:  # noqa: BLE001 - serializers, validators and __eq__ of users raise anything
            data, failure = b"", error
        if change is not None or failure is not None:
            models = [] if self._has_models else None
            found = self._encode_with_care(value, models)
            if found is None:
                self._refuse(value, change, failure)
            data, arrived = found
        if models or (data[-2:] == unset_fields.END and unset_fields.needs_mark(data)):
            marked = unset_fields.join(data, arrived, models or ())
            if marked is None:
                self._refuse(value, f": {advice.IN_SET}", None)
            return marked
        return data

    def _encode_with_care(self, value: Any, models: list[tuple[Any, Any]] | None) -> tuple[bytes, Any] | None:
        """The text of a value of which pydantic would lose something, and what it is read as.

        None if this loses something, too.
        """
        tuples: dict[int, Any] = {}
        try:
            data = self._careful_writer()(value, by_alias=True, round_trip=True, warnings="error", context=tuples)
            arrived = self._from_json(data)
            lists = self._tuples and tuples
            notes = Notes(lists=lists, tuples=self._tuples, floats=self._floats, unset=models)
            kept = find_difference(value, arrived, notes) is None
        except Exception:  # noqa: BLE001 - as in `encode`, which tells the reason that it found without this
            return None
        return (data, arrived) if kept else None

    def _careful_writer(self) -> Any:
        if self._careful is None:
            from pydantic_core import SchemaSerializer

            with _build_anew(self._classes):
                schema = _configure(self._schema, set(), _change_to_write_with_care)
                self._careful = SchemaSerializer(schema, cast(Any, _CONFIG)).to_json
        return self._careful

    def _read(self, data: bytes) -> Any:
        if data[-2:] != unset_fields.END:
            return self._from_json(data)
        data, marks = unset_fields.split(data)
        value = self._from_json(data)
        if marks and self._has_models:
            unset_fields.apply(marks, value)
        return value

    def _reason(self, value: Any, error: Exception) -> str:
        try:
            self._validate(value, strict=True)
        except Exception as strict_error:  # noqa: BLE001 - validators of users raise anything
            error = self._beyond_lists(value, strict_error)
            return f"expected {hint_name(self.hint)}, got {show(value)}: {summarize_error(error)}"
        # The serializer is stricter than the validator, or cannot read what it writes, or has a
        # bug.
        return super()._reason(value, error) + self._cure(error)

    def _beyond_lists(self, value: Any, error: Exception) -> Exception:
        """What else is wrong, beside a list for a tuple or the reverse, which would be taken."""
        problems: list[Any] = cast(Any, error).errors() if hasattr(error, "errors") else []
        if not any(each["type"] in _LISTS and each["input"].__class__ in (list, tuple) for each in problems):
            return error
        try:
            from pydantic_core import to_json

            text = to_json(value, bytes_mode="base64", inf_nan_mode="strings")  # JSON has one kind of list
            self._from_json(text, strict=True)
        except Exception as found:  # noqa: BLE001 - validators of users raise anything
            return found if hasattr(found, "errors") else error
        return error

    def _cure(self, error: Exception) -> str:
        problems: list[Any] = cast(Any, error).errors() if hasattr(error, "errors") else []
        if any("[key]" in each["loc"] for each in problems):
            return advice.KEY
        if any(each["type"] in ("enum", "literal_error") for each in problems):
            return advice.NO_JSON_VALUE
        if any(each["type"] == "missing" and self._is_init_var(each["loc"][-1]) for each in problems):
            return advice.INIT_VAR
        if any(hasattr(part, "get_secret_value") for part in walk_hint(self.hint, {})):
            return advice.SECRET
        return ""

    def _is_init_var(self, name: object) -> bool:
        classes = [each for each in self._classes if dataclasses.is_dataclass(each)]
        return any(
            name in each.__dataclass_fields__ and name not in [field.name for field in dataclasses.fields(each)]
            for each in classes
        )


# ── Changing a core schema ────────────────────────────────────────────────────────────────────────


def _configure(node: object, classes: set[type], change: _Change) -> Any:
    """A copy of a core schema with our config.

    Each field is written under the one name it is read by.

    Adds to `classes` the models and dataclasses that are found in it. `change` is given each node
    and its copy.
    """
    if isinstance(node, list | tuple):
        items = [_configure(item, classes, change) for item in cast(Iterable[Any], node)]
        return items if isinstance(node, list) else tuple(items)
    if type(node) is not dict:
        return node
    fields = cast(dict[str, Any], node)
    copy = {key: item if key in _OPAQUE else _configure(item, classes, change) for key, item in fields.items()}
    kind = fields.get("type")
    if kind in ("model", "dataclass") or (kind == "typed-dict" and "config" in fields):
        config = dict(fields.get("config") or {})
        config.pop("validate_by_alias", None)
        # An __init__ of its own validates by the config of the class: bytes stay as that has them.
        copy["config"] = config | (_FLOATS if fields.get("custom_init") else _CONFIG)
        if kind != "typed-dict":
            classes.add(fields["cls"])
    elif kind in ("model-field", "dataclass-field", "typed-dict-field"):
        alias = copy.pop("validation_alias", None)
        copy.pop("serialization_alias", None)
        if isinstance(alias, str):
            copy["validation_alias"] = copy["serialization_alias"] = alias
    return change(fields, copy)


def _kinds_in_unions(schema: dict[str, Any]) -> list[set[object]]:
    """For each union in a core schema, the kinds of schemas that it is made of, however deep."""
    nodes = list(_walk_nodes(schema, {}))
    definitions = {node["ref"]: node for node in nodes if isinstance(node.get("ref"), str)}
    return [
        {node.get("type") for node in _walk_nodes(each, definitions)} for each in nodes if each.get("type") == "union"
    ]


def _walk_nodes(schema: object, definitions: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The nodes of a core schema, and of the definitions that it refers to."""
    rest = [schema]
    seen: set[object] = set()
    for each in rest:
        if isinstance(each, list | tuple):
            rest += cast("list[Any]", each)
        elif type(each) is dict:
            node = cast("dict[str, Any]", each)
            yield node
            rest += [item for key, item in node.items() if key not in _OPAQUE]
            reference = node.get("schema_ref")
            if isinstance(reference, str) and reference not in seen:
                seen.add(reference)
                rest.append(definitions.get(reference))


def _keep(node: dict[str, Any], copy: dict[str, Any]) -> dict[str, Any]:
    return copy


def _change_to_read(node: dict[str, Any], copy: dict[str, Any]) -> dict[str, Any]:
    """Datetimes and times are read by pydantic.

    If it cannot, they are read with the zone behind them, and then checked by it.
    """
    if node.get("type") not in _MOMENTS:
        return copy
    from pydantic_core import core_schema

    outer: dict[str, Any] = {key: copy.pop(key) for key in ("ref", "serialization") if key in copy}
    plain = core_schema.no_info_after_validator_function(standardize, cast(Any, copy))
    reader = core_schema.no_info_plain_validator_function(partial(read_moment, _MOMENTS[node["type"]]))
    zoned = core_schema.chain_schema([reader, cast(Any, dict(copy))])
    union = core_schema.union_schema([(plain, PLAIN), (zoned, ZONED)], mode="left_to_right")
    return cast("dict[str, Any]", union) | outer


def _change_to_write_with_care(node: dict[str, Any], copy: dict[str, Any]) -> dict[str, Any]:
    """Datetimes and times with their zones, lists and tuples each as the other."""
    write = _WRITERS.get(node.get("type", ""))
    if write is None or "serialization" in copy:
        return copy
    from pydantic_core import core_schema

    inner = cast(Any, {key: item for key, item in copy.items() if key != "ref"})
    when: Any = "json"
    copy["serialization"] = core_schema.wrap_serializer_function_ser_schema(
        write, info_arg=True, schema=inner, when_used=when
    )
    return copy


def _write_moment(value: Any, pydantic: Any, info: Any) -> Any:
    text = write_moment(value) if isinstance(value, datetime | time) else None
    return pydantic(value) if text is None else text


def _write_list(value: Any, pydantic: Any, info: Any) -> Any:
    if value.__class__ is not tuple:
        return pydantic(value)
    info.context[id(value)] = value
    return pydantic(list(value))


def _write_tuple(value: Any, pydantic: Any, info: Any) -> Any:
    return pydantic(tuple(value) if value.__class__ is list else value)


_MOMENTS: dict[str, type[datetime] | type[time]] = {"datetime": datetime, "time": time}
_WRITERS: dict[str, Any] = {
    "datetime": _write_moment,
    "time": _write_moment,
    "list": _write_list,
    "tuple": _write_tuple,
}


@contextmanager
def _build_anew(classes: set[type]) -> Generator[None]:
    """Makes pydantic-core build by our schema.

    It would reuse what a nested model was built with before.
    """
    with _building:
        complete: list[Any] = [model for model in classes if model.__dict__.get("__pydantic_complete__")]
        for model in complete:
            model.__pydantic_complete__ = False
        try:
            yield
        finally:
            for model in complete:
                model.__pydantic_complete__ = True
