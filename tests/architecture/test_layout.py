"""The shape of the tree: file sizes, import order, public names, forbidden text.

Style and types are checked by ruff, mypy and pyright (`make check`). Names and words are checked
by `test_names` and `test_words`.
"""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.architecture.project import ROOT, parse, product_modules, project_files, relative

MAXIMUM_LINES = 500
DRIVERS = {"httpx", "psycopg", "pulsar", "pymysql", "redis", "sqlalchemy", "zstandard"}
FORBIDDEN_TEXT = {
    "an absolute path of one machine": re.compile(r"(?<![\w.~:/])/(?:home|root|Users|work)/\w"),
    "the address of a package registry": re.compile(r"://[^\s/]*(?:pypi|npm|registry|mirror|artifactory|crates)"),
    "an option that names a package index": re.compile(r"^\s*--(?:extra-)?(?:index-url|find-links)\b", re.MULTILINE),
}


def imported_modules(path: Path) -> Iterator[str]:
    """Full names of what one file imports, wherever in it the import stands."""
    for node in ast.walk(parse(path)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                yield from (f"{module}.{alias.name}" for alias in names)
            case _:
                pass


def imported_packages(path: Path) -> Iterator[str]:
    """Top-level names of what one file imports."""
    return (name.split(".")[0] for name in imported_modules(path))


def test_no_python_file_is_too_long() -> None:
    sizes = {relative(path): len(path.read_bytes().splitlines()) for path in project_files() if path.suffix == ".py"}
    assert {name: size for name, size in sizes.items() if size > MAXIMUM_LINES} == {}


@pytest.mark.parametrize("contracts", ["pyproject.toml", "tests/architecture/type_hints.toml"])
def test_imports_point_one_way(contracts: str) -> None:
    """Check in another process: import-linter configures logging, and disables all loggers."""
    code = (
        "import sys; from importlinter.cli import lint_imports;"
        f"sys.exit(lint_imports(config_filenames=({contracts!r},), no_cache=True))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_core_loads_no_driver() -> None:
    code = "from infinitic import *; import sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert DRIVERS.isdisjoint(run.stdout.split())


def test_the_package_only_re_exports() -> None:
    """Type checkers, `import *` and the first use of a name agree on what there is."""
    tree = parse(ROOT / "infinitic" / "__init__.py")
    assert ast.get_docstring(tree), "the package says what it is"
    [seen, hidden] = [each for each in tree.body if isinstance(each, ast.If)]
    assert (ast.unparse(seen.test), ast.unparse(hidden.test)) == ("TYPE_CHECKING", "not TYPE_CHECKING")

    exported: dict[str, tuple[str, ...]] = {}
    for statement in seen.body:
        match statement:
            case ast.ImportFrom(module=str(module), names=names, level=0):
                assert all(alias.asname == alias.name for alias in names), f"line {statement.lineno}: write `A as A`"
                exported[module] = tuple(alias.name for alias in names)
            case _:
                pytest.fail(f"infinitic/__init__.py, line {statement.lineno}: not a re-export")

    package = importlib.import_module("infinitic")
    assert exported == package._NAMES_OF, "imported by type checkers and at run time are the same names"
    public = package.__all__
    assert sorted(name for names in exported.values() for name in names) == sorted(public)
    assert public == sorted(public, key=_in_isort_order)


def test_no_module_hides_a_public_name() -> None:
    """A module `infinitic.task` would be what `infinitic.task` is from its first import on."""
    package = ROOT / "infinitic"
    modules = {path.stem for path in package.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert modules.isdisjoint(importlib.import_module("infinitic").__all__)


def _in_isort_order(name: str) -> tuple[bool, bool, str]:
    """CONSTANTS, then Classes, then functions: the order that ruff's RUF022 gives `__all__`."""
    return not name.isupper(), not name[0].isupper(), name


def test_every_core_dependency_is_used() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {re.split(r"[^\w.-]", requirement)[0].lower() for requirement in project["dependencies"]}
    provided_by = packages_distributions()
    imported = {name for path in product_modules() for name in imported_packages(path)}
    used = {distribution.lower() for name in imported for distribution in provided_by.get(name, [])}
    assert wanted - used == set()


@pytest.mark.parametrize("what", FORBIDDEN_TEXT)
def test_no_file_names(what: str) -> None:
    pattern = FORBIDDEN_TEXT[what]
    found = {
        relative(path): match.group()
        for path in project_files()
        if (match := pattern.search(path.read_text(encoding="utf-8", errors="ignore")))
    }
    assert found == {}


def test_what_needs_a_server_runs_where_servers_are_required() -> None:
    """`.ci/run` runs only these folders with all servers. It runs all others without any."""
    command = re.search(r'REQUIRE_SERVICES=1 make test ARGS="(.*)"', (ROOT / ".ci/run").read_text(encoding="utf-8"))
    assert command is not None
    folders = tuple(f"{folder}/" for folder in command[1].split())
    helpers = ("tests.required", "tests.integration")
    needing = {
        relative(path)
        for path in project_files()
        if path.suffix == ".py"
        and relative(path).startswith("tests/")
        and any(name.startswith(helpers) for name in imported_modules(path))
    }
    assert "tests/conformance/test_pulsar_transport_conformance.py" in needing
    assert {name for name in needing if not name.startswith(folders)} == set()
