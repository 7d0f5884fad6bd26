"""Runs what is in the blocks of code of a page.

- A Python block whose first line is the name of a file (`# test_trip.py`) is written to that file.
  Its tests are run here, each with a simulation of its own if it takes `sim`. A file that a console
  block names is left to that console block.
- A Python block without a name is run with the names of `tests/docs/names.py`, and with what the
  blocks above it define. It is run in a simulation, with `sim`, `client` and `worker`, and may
  await at its top level.
- A Python block with a title, such as ```` ```python title="Celery" ````, is of another system.
- A console block is run if its program is one of ours. What it shows must be in its output, line by
  line and in this order. "…" stands for anything. If it only shows that some tests pass, these are
  run here, without another process.
- A YAML block is a part of a configuration. It is loaded, with a broker and a database in memory
  where it says nothing of them.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Coroutine
from importlib import import_module, invalidate_caches
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

import pytest
import yaml

from infinitic import config
from infinitic_testing.simulation import Simulation
from tests.architecture.project import ROOT
from tests.docs import names

PROGRAMS = {
    "pytest": ["-m", "pytest", "-p", "no:randomly", "-p", "no:asyncio"],
    "infinitic": ["-m", "infinitic"],
    "python": [],
}
NEED_SERVERS = {"worker", "dev", "migrate", "start", "list", "describe", "retry", "signal", "query", "result", "doctor"}
"""Commands of `infinitic` on pages that are not run: they need a broker, or do not end."""

CONTINUES = {
    "docs/testing-faults.md": "docs/testing.md",
    "docs/testing-reference.md": "docs/testing.md",
    "docs/tutorial/first-test.md": "docs/tutorial/first-workflow.md",
    "docs/tutorial/real-servers.md": "docs/tutorial/first-workflow.md",
}
"""Pages that need the files of a page before them."""

FAILS = re.compile(r"\d+ failed|Error\b")
IN_MEMORY: dict[str, Any] = {"transport": {"in_memory": {"name": "docs"}}, "storage": {"in_memory": {}}}


class Block(NamedTuple):
    """A block of code.

    Attributes:
        page: the path of its page in the project.
        language: the word behind the fence.
        title: who this code is of, if it is of another system.
        text: the code.
        line: the line of the fence.
    """

    page: str
    language: str
    title: str | None
    text: str
    line: int

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str | None:
        """The name of the file that the first line gives."""
        named = re.match(r"# ([\w/-]+\.(?:py|yml))\n", self.text)
        return named[1] if named else None


def read_blocks(page: str) -> list[Block]:
    """Read the blocks of a page, also those in lists."""
    text = (ROOT / page).read_text(encoding="utf-8")
    fences = re.finditer(r'^( *)```(\w*)(?: title="([^"]*)")?\n(.*?)^\1```$', text, re.DOTALL | re.MULTILINE)
    return [
        Block(page, found[2], found[3], textwrap.dedent(found[4]), text.count("\n", 0, found.start()) + 1)
        for found in fences
    ]


def run_page(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run all blocks of a page in an empty folder, and return how many there were."""
    blocks = [block for block in read_blocks(page) if block.title is None]
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\naddopts = --strict-markers\n")
    shown = "\n".join(block.text for block in blocks if block.language == "console")
    defined: dict[str, Any] = dict(vars(names))
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    monkeypatch.chdir(folder)
    for block in read_blocks(CONTINUES[page]) if page in CONTINUES else []:
        if block.file is not None:
            (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.file).write_text(block.text, encoding="utf-8")
    try:
        for block in blocks:
            match block.language:
                case "python" if block.file is not None:
                    path = folder / block.file
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(block.text, encoding="utf-8")
                    if block.file not in shown:
                        defined |= import_file(block.file)
                        run_tests(block, block.file)
                case "python":
                    run_code(block, defined)
                case "console":
                    run_console(block, folder)
                case "yaml":
                    check_yaml(block, folder)
                case _:
                    pass
    finally:
        for name in set(sys.modules) - before:
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]
    return len(blocks)


def import_file(name: str) -> dict[str, Any]:
    """Import a file, and return what it defines."""
    invalidate_caches()
    path = name.removesuffix(".py").replace("/", ".")
    # There is another package `tests`: ours.
    if path.startswith("tests."):
        spec = spec_from_file_location(path.replace(".", "_"), Path.cwd() / name)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        module = import_module(path)
    return {key: value for key, value in vars(module).items() if not key.startswith("_")}


def run_tests(block: Block, name: str) -> int:
    """Run the tests of a file here, and return how many there were."""
    tests = [value for key, value in import_file(name).items() if key.startswith("test_")]
    for test in tests:
        wanted = list(inspect.signature(test).parameters)
        assert wanted in ([], ["sim"]), f"{block.place}: {test.__name__} takes {wanted}: run it by a console block"
        if wanted == ["sim"]:
            Simulation.run(_simulate(test))
        elif inspect.iscoroutinefunction(test):
            asyncio.run(test())
        else:
            test()
    return len(tests)


async def _simulate(test: Any) -> None:
    async with Simulation() as sim:
        await test(sim)


def run_code(block: Block, defined: dict[str, Any]) -> None:
    """Run a block that has no file. What it defines is added to `defined`."""
    code = compile(
        "\n" * block.line + block.text,
        block.page,
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        dont_inherit=True,
    )
    Simulation.run(_run_in_simulation(code, defined))


async def _run_in_simulation(code: CodeType, defined: dict[str, Any]) -> None:
    async with Simulation() as sim:
        defined |= {"__name__": "docs", "sim": sim, "client": sim.client, "worker": sim.worker}
        awaiting: Coroutine[Any, Any, None] | None = eval(code, defined)
        if awaiting is not None:
            await awaiting


def run_console(block: Block, folder: Path) -> None:
    """Run the command of a console block, and compare what it shows."""
    first, _, shown = block.text.partition("\n")
    assert first.startswith("$ "), block.place
    program, *arguments = first[2:].partition("#")[0].split()
    passed = re.fullmatch(r"…(\d+) passed in …\n", shown)
    if program == "pytest" and passed and all(is_plain(folder / argument) for argument in arguments):
        assert sum(run_tests(block, argument) for argument in arguments) == int(passed[1]), block.place
        return
    if program not in PROGRAMS or (program == "infinitic" and arguments[0] in NEED_SERVERS):
        return
    code, output = run_command(first[2:], folder)
    missing = find_missing_line(shown, output)
    assert missing is None, f"{block.place}: {first}\nThis line is missing: {missing}\n\n{output}"
    assert bool(code) == (FAILS.search(shown) is not None), f"{block.place}: exit code {code}\n{output}"


def is_plain(path: Path) -> bool:
    """Tell whether a file has only tests that can be run here, without another process."""
    special = re.compile(r"@pytest\.|^def test_\w+\(sim", re.MULTILINE)
    return path.suffix == ".py" and not special.search(path.read_text(encoding="utf-8"))


def run_command(command: str, folder: Path) -> tuple[int, str]:
    """Run one command of a page, and return its exit code and output."""
    program, *arguments = command.split()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    paths = [ROOT, ROOT / "transports", ROOT / "storages", ROOT / "testing"]
    environment |= {"PYTHONPATH": os.pathsep.join(map(str, paths)), "COLUMNS": "100", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, *PROGRAMS[program], *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def find_missing_line(shown: str, output: str) -> str | None:
    """Find the first line that a page shows and the output has not, behind the one before."""
    rest = output
    for line in shown.splitlines():
        if line.strip() in ("", "…"):
            continue
        pattern = ".*".join(re.escape(part) for part in line.split("…"))
        found = re.search(pattern if line.startswith("…") else f"^{pattern}", rest, re.MULTILINE)
        if found is None:
            return line
        rest = rest[found.end() :]
    return None


def check_yaml(block: Block, folder: Path) -> None:
    """Load a part of a configuration. Variables of the environment in it get a value."""
    written = yaml.safe_load(block.text)
    assert isinstance(written, dict), block.place
    text = yaml.safe_dump(IN_MEMORY | written, allow_unicode=True, sort_keys=False)
    text = re.sub(r"\$\{\w+\}", "secret", text)
    path = folder / "checked.yml"
    path.write_text(text, encoding="utf-8")
    config.load(path)
    if block.file is not None:
        (folder / block.file).write_text(block.text, encoding="utf-8")
