"""Validates sections of a configuration with pydantic, and finds the lines of its errors."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from infinitic.config.keys import explain_refusal, is_earlier_name, translate
from infinitic.config.nodes import Node
from infinitic.config.problems import Problems

M = TypeVar("M", bound=BaseModel)
Loc = tuple[str | int, ...]

FILE_SUFFIX = "_file"
"""`password_file` names a file that holds the secret `password`."""

MAX_SECRET_BYTES = 1024 * 1024
"""How many bytes a file with a secret may have."""

_MAPPING_EXPECTED = ("model_type", "model_attributes_type", "dict_type", "mapping_type")

# Errors whose message needs no value. A text in place of a mapping may be `password:secret`.
_SELF_EXPLAINING = ("value_error", *_MAPPING_EXPECTED)
_QUOTED = re.compile(r"""(['"]).*\1…?""")
_CREDENTIALS = re.compile(r"//[^/]*@")


class SectionReader:
    """Reads sections by their models, and remembers where each value stands.

    Args:
        folder: the folder at which relative paths of files with secrets begin.
        problems: where mistakes are noted.
    """

    def __init__(self, folder: Path, problems: Problems) -> None:
        self._folder = folder
        self._problems = problems
        self._nodes: dict[Loc, Node] = {}
        self._failed: set[Loc] = set()

    def find_node(self, *loc: str | int) -> Node:
        """Find what stands at a place, or else the nearest section around it.

        Args:
            loc: keys by their names of today, and indexes of lists: `"services", 0, "name"`.
        """
        while loc and loc not in self._nodes:
            loc = loc[:-1]
        return self._nodes[loc]

    def validate(self, model: type[M], data: object, loc: Loc = ()) -> M | None:
        """Make a section of the values that `read_mapping` gave.

        Args:
            model: the class of the section.
            data: the values, by the names of their keys.
            loc: the place of the section.

        Returns:
            The section; None if it is not valid. Each error is noted as a mistake at its line.
        """
        try:
            return model.model_validate(data)
        except ValidationError as error:
            for each in error.errors(include_url=False, include_context=False):
                self._add_error(loc, each["loc"], each["type"], each["msg"], each.get("input"))
        return None

    def read_mapping(
        self, node: Node, fields: Mapping[str, FieldInfo], loc: Loc, section: str, more: Mapping[str, object] = {}
    ) -> dict[str, Any]:
        """Read the keys of a mapping. An unknown key is noted as a mistake.

        Args:
            node: the mapping as it was written.
            fields: the keys that it may have.
            loc: the place of the mapping.
            section: the section that it is, in the words of `infinitic.config.keys`.
            more: further keys that it may have; their values are left out.

        Returns:
            The values by the names that their keys have today.
        """
        self._nodes[loc] = node
        found: dict[str, Any] = {}
        children = node.children or {}
        for key, child in children.items():
            name, factor = translate(section, key)
            name = key if key in fields or key in more else name
            secret = name.removesuffix(FILE_SUFFIX)
            if name in more:
                continue
            if name in fields:
                if key != name and is_earlier_name(section, key):
                    message = f"this key is called '{name}' now: rename it; the old name still works"
                    self._problems.warn(child.where, child.path, message)
                value = self._read_value(fields[name].annotation, child, (*loc, name), f"{section}.{name}".lstrip("."))
                if factor is not None and isinstance(value, int | float):
                    value = float(value) * factor if abs(value) < 1e300 else value
                if self._names_secret(name, fields) and isinstance(value, str):
                    # The adapter reads this file itself, whenever it needs the secret.
                    value = str(self._folder / value)
            elif self._names_secret(name, fields):
                name, value = secret, self._read_secret(child, (*loc, secret))
            else:
                self._refuse(child, key, section, [*fields, *more], loc)
                continue
            if name in found or (name in fields and key != name and name in children):
                self._problems.add(child.where, child.path, f"'{name}' is given twice")
            if child.broken:
                self._failed.add((*loc, name))
            else:
                found[name] = value
        return found

    @staticmethod
    def _names_secret(name: str, fields: Mapping[str, FieldInfo]) -> bool:
        secret = name.removesuffix(FILE_SUFFIX)
        return name != secret and secret in fields and _is_secret(fields[secret].annotation)

    def _read_value(self, annotation: Any, node: Node, loc: Loc, section: str) -> Any:
        self._nodes[loc] = node
        items = node.items
        if items is not None:
            return [
                self._read_value(_get_item_type(annotation), each, (*loc, index), section)
                for index, each in enumerate(items)
                if not each.broken
            ]
        children = node.children
        if children is not None:
            model = _choose_model(annotation, children)
            if model is not None:
                return self.read_mapping(node, list_keys(model), loc, section)
            return {key: self._read_value(None, each, (*loc, key), section) for key, each in children.items()}
        if isinstance(node.value, bool) and any(each in (int, float) for each in _iterate_types(annotation)):
            self._fail(node, loc, f"must be a number, got {str(node.value).lower()}")
        if _is_secret(annotation):
            node.hidden = True
        return node.value

    def _read_secret(self, node: Node, loc: Loc) -> str:
        self._nodes[loc] = node
        if not isinstance(node.value, str) or node.broken:
            self._fail(node, loc, "must be the path of a file")
            return ""
        # A variable in place of the path may hold the secret itself.
        file = "the file" if node.hidden else f"the file {node.value}"
        node.hidden = True
        try:
            with (self._folder / node.value).open("rb") as opened:
                data = opened.read(MAX_SECRET_BYTES + 1)
            if len(data) > MAX_SECRET_BYTES:
                raise ValueError(f"it has more than {MAX_SECRET_BYTES:,} bytes")
            text = data.decode()
        except (OSError, ValueError) as error:
            self._fail(node, loc, f"cannot read {file}: {_explain_unreadable(error)}")
            return ""
        return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")

    def _fail(self, node: Node, loc: Loc, message: str) -> None:
        if not node.broken:
            node.broken = True
            self._problems.add(node.where, node.path, message)
        self._failed.add(loc)

    def _refuse(self, node: Node, key: str, section: str, known: list[str], loc: Loc) -> None:
        message = explain_refusal(section, key)
        if message is None:
            close = get_close_matches(translate(section, key)[0], known, 1) if len(key) < 100 else []
            hint = f" (did you mean '{close[0]}'?)" if close else f"; the known keys are {_join(known)}"
            message = f"unknown key{hint}"
            if ":" in key:
                message = "unknown key; a space is missing after ':'"
            # That the right key is missing would be the same mistake again.
            self._failed.update((*loc, each) for each in close)
        self._problems.add(node.where, node.path, message)

    def _add_error(self, base: Loc, loc: tuple[int | str, ...], kind: str, message: str, value: object) -> None:
        at = base
        # Pydantic puts the tags of unions among the keys.
        for part in loc:
            at = (*at, part) if (*at, part) in self._nodes else at
        node = self._nodes[at]
        if kind == "missing":
            at, path = (*at, loc[-1]), node.path_of(str(loc[-1]))
            message = "is missing"
        else:
            path = node.path
            message = _reword(kind, message)
            if isinstance(value, str | int | float) and not node.hidden and kind not in _SELF_EXPLAINING:
                message += f", got {_format_value(value)}"
            elif node.hidden and kind == "value_error":
                message = _QUOTED.sub("…", message)
            if any(each in message for each in node.iterate_hidden_texts()):
                message = "the value from the environment is not valid"
        follows = kind == "value_error" and any(each[:-1] == at for each in self._failed)
        if not follows and not any(at[: len(each)] == each for each in self._failed):
            self._problems.add(node.where, path, message)


def takes_json(annotation: Any, keys: Sequence[str]) -> bool:
    """Tell whether a list or a mapping stands where `keys` lead, and no text can stand there.

    Args:
        annotation: the type of the value at which the keys begin.
        keys: the keys that lead on from there.
    """
    possible = list(_iterate_types(annotation))
    for key in keys:
        below: list[Any] = []
        for each in possible:
            if _is_model(each):
                below += [found.annotation for name, found in list_keys(each).items() if name == key]
            elif get_args(each):
                below.append(get_args(each)[-1 if get_origin(each) is dict else 0])
        possible = [each for annotated in below for each in _iterate_types(annotated)]
    texts = any(each in (str, SecretStr, Path) for each in possible)
    return not texts and any(get_args(each) or _is_model(each) for each in possible if get_origin(each) is not Literal)


def _is_model(each: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(each, type) and issubclass(each, BaseModel)


def _explain_unreadable(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)


def _format_value(value: str | int | float) -> str:
    """Format a value for a message: not too long, and without the credentials of a URL."""
    if isinstance(value, int) and value.bit_length() > 300:
        return "a huge number"
    return repr(_CREDENTIALS.sub("//…@", value[:100]) if isinstance(value, str) else value)


def list_keys(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """List the keys that a section may have in a file, each with the field that it stands for."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _reword(kind: str, message: str) -> str:
    if kind in _MAPPING_EXPECTED:
        return "must be a mapping of keys"
    if kind in ("list_type", "tuple_type"):
        return "must be a list"
    if kind == "union_tag_not_found":
        return "must have a type"
    message = re.sub(r"^(Tuple|List) should have", "must have", message).replace(" after validation, not 0", "")
    text = message.removeprefix("Value error, ").replace("Input should be", "must be")
    return text[:1].lower() + text[1:]


def _join(known: list[str]) -> str:
    return ", ".join(sorted(known)) or "none"


def _iterate_types(annotation: Any) -> Iterator[Any]:
    """Iterate over the types that an annotation allows."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _iterate_types(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for each in get_args(annotation):
            yield from _iterate_types(each)
    else:
        yield annotation


def _is_secret(annotation: Any) -> bool:
    return SecretStr in _iterate_types(annotation)


def _get_item_type(annotation: Any) -> Any:
    return next((get_args(each)[0] for each in _iterate_types(annotation) if get_args(each)), None)


def _choose_model(annotation: Any, children: Mapping[str, Node]) -> type[BaseModel] | None:
    """Choose the model of a mapping. Of several, it is the one whose `type` is given."""
    models = [each for each in _iterate_types(annotation) if _is_model(each)]
    if len(models) <= 1:
        return models[0] if models else None
    given = children["type"].value if "type" in children else None
    for each in models:
        field = each.model_fields.get("type")
        if field is not None and get_origin(field.annotation) is Literal and given in get_args(field.annotation):
            return each
    return None
