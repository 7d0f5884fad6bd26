"""Imports what a path names, or says in one sentence why that is impossible, and in which line."""

from __future__ import annotations

import importlib
import sys
import traceback
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from infinitic.errors import ConfigurationError

_OURS = str(Path(__file__).parent)


def import_object(path: str) -> Any:
    """Import what a path names. Its module may be in the working directory.

    Args:
        path: `package.module.Class` or `package.module:Class`.

    Raises:
        ConfigurationError: it cannot be imported. Whatever the module raises, the message is one
            sentence.
    """
    module_name, _, name = path.rpartition(":" if ":" in path else ".")
    if not name or not all(each.isidentifier() for each in f"{module_name}.{name}".split(".")):
        raise ConfigurationError(f"'{path}' is not the path of a class: write package.module.Class")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    module = import_module(module_name)
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            close = get_close_matches(part, [each for each in dir(found) if not each.startswith("_")], 1)
            hint = f" (did you mean '{close[0]}'?)" if close else ""
            where = f" ({_shorten(module.__file__)})" if module.__file__ else ""
            raise ConfigurationError(f"the module {module_name}{where} has no '{name}'{hint}") from None
    return found


def describe_error(error: BaseException) -> str:
    """Describe an error of the user's code in one line: what it is, and where it was raised."""
    place = _find_place(error)
    message = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    described = type(error).__name__ + (f": {message}" if message else "")
    return described if place is None else f"{described} ({place})"


def import_module(module_name: str) -> ModuleType:
    """Import a module by its name.

    Raises:
        ConfigurationError: it cannot be imported. Whatever the module raises, the message is one
            sentence.
    """
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            missing = f"there is no module '{error.name}' in the working directory or the environment"
            raise ConfigurationError(missing) from error
        _refuse(module_name, error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 (a module may raise anything, and call sys.exit)
        _refuse(module_name, error)


def _refuse(module_name: str, error: BaseException) -> NoReturn:
    raise ConfigurationError(f"importing {module_name} raised {describe_error(error)}") from error


def _find_place(error: BaseException) -> str | None:
    """Find the file and line of bad syntax, or else of the last frame of the user's code."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shorten(error.filename)}, line {error.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<", _OURS)) and frame.lineno is not None
    ]
    own = [frame for frame in frames if not frame.filename.startswith((sys.prefix, sys.base_prefix))]
    for frame in reversed(own or frames):
        return f"{_shorten(frame.filename)}, line {frame.lineno}"
    return None


def _shorten(file: str) -> str:
    """Name a file as people do: by its relative path if it is below the working directory."""
    try:
        return str(Path(file).relative_to(Path.cwd()))
    except ValueError:
        return file
