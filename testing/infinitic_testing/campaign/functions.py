"""Finds the functions that can be run under seeds: async functions that take exactly `sim`.

They are in a module, in a file, or in the modules of a package or folder. Tests and functions made
for campaigns are treated alike.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Coroutine, Iterator
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from infinitic.errors import ConfigurationError, UsageError
from infinitic.importing import describe_error, import_module

if TYPE_CHECKING:
    from infinitic_testing.simulation import Simulation

SimFunction = Callable[["Simulation"], Coroutine[Any, Any, object]]
"""Adds services and workflows to a simulation, acts as a client, and returns an outcome."""

PREFIXES = ("test_", "simulate_")
"""How the names of these functions begin."""


def find_functions(place: str) -> dict[str, SimFunction]:
    """Find the functions of a module or file that can be run under seeds.

    Args:
        place: a module (`shop.simulations`), a file (`tests/test_trip.py`), a package or a folder
            with such modules. After a colon, the name of one function:
            `shop.simulations:test_trip`.

    Returns:
        The functions by their full names, such as `shop.simulations:test_trip`, in the order in
        which they are written. `find_function` finds each of them again in another process.

    Raises:
        ConfigurationError: it cannot be imported.
        UsageError: there is no such function in it.
    """
    where, name = _split(place)
    found: dict[str, SimFunction] = {}
    for shown, module in _list_modules(where):
        for each, value in vars(module).items():
            if _can_run(each, value) and value.__module__ == module.__name__ and name in ("", each):
                found[f"{shown}:{each}"] = value
    if not found:
        wanted = f"no function '{name}' that can" if name else "nothing to"
        raise UsageError(
            f"There is {wanted} run in {where}. What can be run is an `async def` "
            "that takes only `sim`, and whose name begins with test_ or simulate_"
        )
    return found


def find_function(name: str) -> SimFunction:
    """Find one function by its full name, as `find_functions` gives it.

    Raises:
        ConfigurationError: its module cannot be imported.
        UsageError: there is no such function.
    """
    [function] = find_functions(name).values()
    return function


def _split(place: str) -> tuple[str, str]:
    """Divide a place into the module or file, and the name of a function; empty: all."""
    where, colon, name = place.rpartition(":")
    # After a colon in a path, as in C:\\tests, there is no identifier.
    return (where, name) if colon and name.isidentifier() else (place, "")


def _can_run(name: str, value: object) -> bool:
    if not name.startswith(PREFIXES) or not inspect.iscoroutinefunction(value):
        return False
    return list(inspect.signature(value).parameters) == ["sim"]


def _list_modules(where: str) -> Iterator[tuple[str, ModuleType]]:
    """Import what a place names, each module with the name that finds it again."""
    path = Path(where)
    if where.endswith(".py"):
        if not path.is_file():
            raise ConfigurationError(f"There is no file {where}")
        yield where, _import_file(path)
    elif path.is_dir():
        for file in sorted(path.rglob("*.py")):
            if file.name != "__init__.py":
                yield file.as_posix(), _import_file(file)
    else:
        module = _import_module(where, Path.cwd())
        yield where, module
        for inner in pkgutil.walk_packages(getattr(module, "__path__", []), f"{where}."):
            yield inner.name, _import_module(inner.name, Path.cwd())


def _import_file(file: Path) -> ModuleType:
    """Import a file as the module that it is: a part of its package, if it is in one.

    A package below the working directory may lack `__init__.py`, so its files are imported by their
    path from there, as `python -m` does.
    """
    full = file.resolve()
    here = Path.cwd()
    root = here if full.is_relative_to(here) else full.parent
    name = ".".join(full.relative_to(root).with_suffix("").parts)
    if not all(part.isidentifier() for part in name.split(".")):
        root, name = full.parent, full.stem
    module = _import_module(name, root)
    if module.__file__ is not None and Path(module.__file__).resolve() == full:
        return module
    # Another file of this name has been imported before, from elsewhere.
    return _import_beside(full)


def _import_beside(file: Path) -> ModuleType:
    """Import a file under a name that no other file has."""
    name = f"{file.stem}_{blake2b(str(file).encode(), digest_size=8).hexdigest()}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise ConfigurationError(f"Importing {file} raised {describe_error(error)}") from error
    return sys.modules[name]


def _import_module(name: str, root: Path) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigurationError(f"'{name}' is neither a module, a file nor a folder")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    # The file may have been written a moment ago.
    importlib.invalidate_caches()
    try:
        return import_module(name)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}") from error.__cause__
