"""What does not import is said with the line of the user's code, and without frames of ours."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from infinitic.errors import ConfigurationError
from infinitic.importing import import_object
from infinitic.worker.configured import make_service


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("raises", "x = 1\n1 / 0\n", "importing raises raised ZeroDivisionError: division by zero (raises.py, line 2)"),
        ("syntax", "x = 1\ndef f(:\n", "importing syntax raised SyntaxError: invalid syntax (syntax.py, line 2)"),
        (
            "deep",
            "import json\n\njson.loads('{')\n",
            "importing deep raised JSONDecodeError: Expecting property name enclosed in double quotes: "
            "line 1 column 2 (char 1) (deep.py, line 3)",
        ),
        (
            "lacks",
            "\nimport no_such_thing\n",
            "importing lacks raised ModuleNotFoundError: No module named 'no_such_thing' (lacks.py, line 2)",
        ),
        ("exits", "import sys\nsys.exit(3)\n", "importing exits raised SystemExit: 3 (exits.py, line 2)"),
        ("misses", "class Trips: ...\n", "the module misses (misses.py) has no 'Trip' (did you mean 'Trips'?)"),
    ],
)
def test_a_module_that_cannot_be_imported(folder: Path, name: str, code: str, message: str) -> None:
    module = f"{name}_for_importing"
    (folder / f"{module}.py").write_text(code)
    with pytest.raises(ConfigurationError) as caught:
        import_object(f"{module}.Trip")
    expected = message.replace(f"{name}.py", f"{module}.py")
    for before in ("importing", "module"):
        expected = expected.replace(f"{before} {name} ", f"{before} {module} ")
    assert str(caught.value) == expected


@pytest.mark.parametrize("path", ["", ".", "..a:b", "a..b", "a.", ":b", "a:", "a b.c", "a.1", "\udcff.x", "a:b:c"])
def test_a_text_that_is_not_a_path(path: str) -> None:
    with pytest.raises(ConfigurationError, match=r" is not the path of a class: write package\.module\.Class$"):
        import_object(path)


class Needy:
    def __init__(self, url: str) -> None:
        self.url = url

    async def work(self) -> None: ...


class Weak:
    def __init__(self) -> None:
        raise LookupError("no key")

    async def work(self) -> None: ...


def test_a_service_that_cannot_be_made() -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_service(cast("Callable[[], object]", Needy), "Needy")
    assert str(caught.value) == (
        "it cannot be made without arguments: missing a required argument: 'url'; "
        "give `factory`, a function that makes it, instead of `class`"
    )
    with pytest.raises(ConfigurationError, match=r"^making the service raised LookupError: no key \(.*, line \d+\)$"):
        make_service(Weak, "Weak")
