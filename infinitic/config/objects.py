"""Makes the objects that a configuration names by their classes: payload codecs and middlewares."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TypeVar, cast

from infinitic.config.problems import Problems
from infinitic.config.sections import CodecSection, MiddlewareSection
from infinitic.config.validation import SectionReader
from infinitic.errors import ConfigurationError, UsageError
from infinitic.importing import describe_error, import_object

T = TypeVar("T")


def make_objects(
    key: str,
    base: type[T],
    what: str,
    public: str,
    sections: Sequence[CodecSection | MiddlewareSection],
    reader: SectionReader,
) -> tuple[T, ...]:
    """Import classes, and make an object of each with its options.

    Args:
        key: the key of the file that holds them.
        base: the class from which each must derive.
        what: what they are, for errors.
        public: the name of the class that users derive from.
        sections: what the file says of each, in order.
        reader: knows where each value stands.

    Raises:
        ConfigurationError: some cannot be made. The message has all of them, one a line, each with
            its place.
    """
    problems = Problems()
    made: list[T] = []
    for index, section in enumerate(sections):
        with problems.collect(reader.find_node(key, index, "class")):
            cls = _import_class(section.class_path, base, what, public)
            with problems.collect(reader.find_node(key, index, "options")):
                made.append(_make_object(cls, section))
    problems.raise_if_any()
    return tuple(made)


def _import_class(path: str, base: type[T], what: str, public: str) -> type[T]:
    cls: object = import_object(path)
    if not isinstance(cls, type) or not issubclass(cls, base):
        raise ConfigurationError(f"{path} is no {what}: it does not derive from infinitic.{public}")
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise ConfigurationError(f"{path} lacks {' and '.join(missing)}")
    return cls


def _make_object(cls: type[T], section: CodecSection | MiddlewareSection) -> T:
    try:
        inspect.signature(cls).bind(**section.options)
    except TypeError as error:
        given = ", ".join(sorted(section.options)) or "no options"
        raise ConfigurationError(f"{section.class_path} cannot be made with {given}: {error}") from error
    except ValueError:
        # Its signature cannot be read. Calling it will tell.
        pass
    try:
        return cls(**section.options)
    except Exception as error:
        what = describe_error(error)
        if isinstance(error, UsageError) and cls.__module__.startswith("infinitic."):
            # Our own classes do not show secrets.
            raise ConfigurationError(f"{section.class_path}: {error}") from error
        if any(secret and secret in what for secret in _find_texts(section.options)):
            # It may be a secret, so a traceback must not show the error either.
            what = f"{type(error).__name__}, whose text has the value of an option"
            raise ConfigurationError(f"making {section.class_path} raised {what}") from None
        raise ConfigurationError(f"making {section.class_path} raised {what}") from error


def _find_texts(value: object) -> list[str]:
    """All texts in the options, also those in lists and mappings."""
    if isinstance(value, str):
        return [value]
    inner: list[object] = []
    if isinstance(value, dict):
        inner = [*cast("dict[str, object]", value).values()]
    elif isinstance(value, list):
        inner = cast("list[object]", value)
    return [text for each in inner for text in _find_texts(each)]
