"""Which names a project may have. Its package has the same name, so Python has a say."""

from __future__ import annotations

import keyword
import re
import sys
from importlib.machinery import PathFinder
from pathlib import Path

from infinitic.errors import UsageError

_VALID = re.compile(r"[A-Za-z](\w*[A-Za-z0-9])?", re.ASCII)
_OF_THE_PROJECT = frozenset({"test", "tests"})
_OURS = frozenset({"infinitic", "infinitic_storages", "infinitic_testing", "infinitic_transports"})
_MAX_CHARACTERS = 100


def choose_name(folder: Path, given: str | None) -> str:
    """Choose the name of a project, and of its package.

    Args:
        folder: the folder of the project. Without a name, it has the name of its folder, with an
            underscore for each other character: `my-shop` becomes `my_shop`.
        given: the name that somebody wants.

    Raises:
        UsageError: Python cannot have a package of this name beside its own and those that are
            installed. The message has another name.
    """
    wanted = _simplify(folder.name) if given is None else given
    reason = _find_mistake(wanted)
    if reason is None:
        return wanted
    shown = folder.name if given is None else given
    raise UsageError(f"The package of a project cannot be called {shown!r}: {reason}. Try --name {_suggest(wanted)}")


def _find_mistake(name: str) -> str | None:
    if len(name) > _MAX_CHARACTERS:
        return f"it has more than {_MAX_CHARACTERS} characters"
    if not _VALID.fullmatch(name):
        return "a name begins with a letter, and has only letters, digits and underscores between them"
    if keyword.iskeyword(name):
        return "it is a word of Python"
    if name in _OF_THE_PROJECT:
        return "tests are in a folder of this name"
    if name in sys.stdlib_module_names:
        return "Python has a module of this name"
    if name in _OURS or _is_installed(name):
        return "a package of this name is installed, which could not be imported any longer"
    return None


def _is_installed(name: str) -> bool:
    """Tell whether Python finds a package of this name outside of the working directory."""
    here = Path.cwd()
    folders = [each for each in sys.path if each and Path(each) != here]
    spec = PathFinder.find_spec(name, folders)
    # A folder without `__init__.py` may be anything.
    return spec is not None and spec.origin is not None


def _suggest(name: str) -> str:
    simple = _simplify(name)[: _MAX_CHARACTERS // 2].strip("_")
    return next(each for each in (simple, f"{simple}_app", f"my_{simple or 'app'}") if _find_mistake(each) is None)


def _simplify(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_").lower()
