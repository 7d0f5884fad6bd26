"""Finds what a path names, and says in one sentence why it cannot, with the line of the user's code."""

from __future__ import annotations

import importlib
import sys
import traceback
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from infinitic.errors import ConfigurationError

_OURS = str(Path(__file__).parents[1])


def found(path: str) -> Any:
    """What stands at `package.module.Class` or `package.module:Class`; it may be in the working directory.

    Raises `ConfigurationError` in one sentence, whatever importing does.
    """
    module_name, _, name = path.rpartition(":" if ":" in path else ".")
    if not name or not all(each.isidentifier() for each in f"{module_name}.{name}".split(".")):
        raise ConfigurationError(f"'{path}' is no path of a class: write package.module.Class")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    module = _imported(module_name)
    made: Any = module
    for part in name.split("."):
        try:
            made = getattr(made, part)
        except AttributeError:
            close = get_close_matches(part, [each for each in dir(made) if not each.startswith("_")], 1)
            hint = f" (did you mean '{close[0]}'?)" if close else ""
            where = f" ({_shown(module.__file__)})" if module.__file__ else ""
            raise ConfigurationError(f"the module {module_name}{where} has no '{name}'{hint}") from None
    return made


def told(error: BaseException) -> str:
    """An error of the user's code in one line: what, and where he wrote it."""
    place = _place(error)
    message = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    said = type(error).__name__ + (f": {message}" if message else "")
    return said if place is None else f"{said} ({place})"


def _imported(module_name: str) -> ModuleType:
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
    raise ConfigurationError(f"importing {module_name} raised {told(error)}") from error


def _place(error: BaseException) -> str | None:
    """File and line: of bad syntax, or of the last frame that is the user's; None if there is none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shown(error.filename)}, line {error.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<", _OURS)) and frame.lineno is not None
    ]
    own = [frame for frame in frames if not frame.filename.startswith((sys.prefix, sys.base_prefix))]
    for frame in reversed(own or frames):
        return f"{_shown(frame.filename)}, line {frame.lineno}"
    return None


def _shown(file: str) -> str:
    """A file as people call it: below the working directory by its relative path."""
    try:
        return str(Path(file).relative_to(Path.cwd()))
    except ValueError:
        return file
