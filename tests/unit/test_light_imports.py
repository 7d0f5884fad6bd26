"""Nothing slow is imported before signals are heeded, or for what needs no command."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from types import ModuleType

import pytest

SLOW = {"anyio", "asyncio", "infinitic.client.client", "infinitic.config", "infinitic.worker.worker", "pydantic"}

MAIN = """
import sys
from infinitic.cli import main
try:
    main()
finally:
    print("modules:", *sys.modules, file=sys.stderr)
"""


def python(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(path for path in sys.path if path)
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path, **environ},
        check=True,
        capture_output=True,
        text=True,
    )


def test_signals_are_heeded_before_anything_slow_is_imported() -> None:
    """These are all modules of ours that the console script has when `main` begins."""
    before = "import re, signal, importlib, typing"
    code = (
        f"{before}; import sys; had = {{*sys.modules}}; from infinitic.cli import main; print(*{{*sys.modules}} - had)"
    )
    assert set(python("-c", code).stdout.split()) == {
        "infinitic",
        "infinitic.cli",
        "infinitic.runtime",
        "infinitic.runtime.lifecycle",
        "infinitic.runtime.lifecycle.early_signals",
    }


@pytest.mark.parametrize("arguments", [["--version"], ["--help"]], ids=" ".join)
def test_what_needs_no_command_imports_none(arguments: list[str]) -> None:
    ended = python("-c", MAIN, *arguments)
    modules = set(ended.stderr.partition("modules:")[2].split())
    assert "infinitic.cli.app" in modules
    assert SLOW & modules == set()
    assert ended.stdout


def test_a_worker_imports_little_before_it_starts_itself_anew() -> None:
    """It does so for its hash seed; `--help` has what is imported until then."""
    modules = set(python("-c", MAIN, "worker", "--help").stderr.partition("modules:")[2].split())
    assert "infinitic.cli.worker.command" in modules
    assert (SLOW - {"pydantic"}) & modules == set(), "typer itself may use pydantic"


def test_a_name_of_the_package_is_imported_when_it_is_used() -> None:
    code = (
        "import sys, infinitic; before = {*sys.modules}; infinitic.InfiniticError; "
        "print('infinitic.errors' in before, 'infinitic.errors' in sys.modules, 'infinitic.client' in sys.modules)"
    )
    assert python("-c", code).stdout.split() == ["False", "True", "False"]


def test_import_star_and_dir_have_every_public_name() -> None:
    code = "import infinitic; from infinitic import *; print({*infinitic.__all__} - {*globals()} or 'all')"
    assert python("-c", code).stdout.split() == ["all"]
    code = "import infinitic; print({*infinitic.__all__} - {*dir(infinitic)} or 'all')"
    assert python("-c", code).stdout.split() == ["all"]


def test_a_name_that_does_not_exist() -> None:
    package = importlib.import_module("infinitic")
    assert not hasattr(package, "Nothing")
    with pytest.raises(ImportError, match="cannot import name 'Nothing' from 'infinitic'"):
        exec("from infinitic import Nothing")


def test_why_a_module_cannot_be_imported_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """`from infinitic import Client` would say that there is no such name, and not why."""

    class Broken(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise AttributeError("module 'pydantic' has no attribute 'TypeAdapter'")

    package = importlib.import_module("infinitic")
    monkeypatch.delitem(vars(package), "Client", raising=False)
    monkeypatch.setitem(sys.modules, "infinitic.client.client", Broken("infinitic.client.client"))
    with pytest.raises(
        ImportError, match=r"infinitic\.client\.client cannot be imported: module 'pydantic' has no attribute"
    ):
        exec("from infinitic import Client")
