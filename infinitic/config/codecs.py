"""Makes the payload codecs that a configuration names. They are classes of the user."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from infinitic.codec.payloads import PayloadCodec
from infinitic.config.problems import Problems
from infinitic.config.sections import CodecSection
from infinitic.config.validation import SectionReader
from infinitic.errors import ConfigurationError
from infinitic.importing import describe_error, import_object


def make_codecs(sections: Sequence[CodecSection], reader: SectionReader) -> tuple[PayloadCodec, ...]:
    """Import the classes of codecs, and make each with its options.

    Args:
        sections: what the file says of each codec, in order.
        reader: knows where each value stands.

    Raises:
        ConfigurationError: some cannot be made. The message has all of them, one a line, each with
            its place.
    """
    problems = Problems()
    codecs: list[PayloadCodec] = []
    for index, section in enumerate(sections):
        with problems.collect(reader.find_node("codec", index, "class")):
            cls = _import_codec(section.class_path)
            with problems.collect(reader.find_node("codec", index, "options")):
                codecs.append(_make_codec(cls, section))
    problems.raise_if_any()
    return tuple(codecs)


def _import_codec(path: str) -> type[PayloadCodec]:
    cls: object = import_object(path)
    if not isinstance(cls, type) or not issubclass(cls, PayloadCodec):
        raise ConfigurationError(f"{path} is no payload codec: it does not derive from infinitic.PayloadCodec")
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise ConfigurationError(f"{path} lacks {' and '.join(missing)}")
    return cls


def _make_codec(cls: type[PayloadCodec], section: CodecSection) -> PayloadCodec:
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
        if any(isinstance(value, str) and value and value in what for value in section.options.values()):
            # It may be a secret.
            what = f"{type(error).__name__}, whose text has the value of an option"
        raise ConfigurationError(f"making {section.class_path} raised {what}") from error
