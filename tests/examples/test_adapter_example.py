"""The adapter of somebody else: its own tests, its installation, and its page in the docs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ADAPTER = ROOT / "examples" / "adapter"

CONFIG = """\
transport:
  shelf: {path: queued}
storage:
  shelf:
    path: kept
services:
  - name: Greeter
    executor: {class: examples.hello.EnglishGreeter}
workflows:
  - name: Visit
    executor: {class: examples.hello.Visit}
    state_engine: {}
"""

PROGRAM = """\
import asyncio
from examples import hello
from infinitic import Worker
from infinitic.config import load
from infinitic.storage import Query

async def main():
    worker = Worker.from_config("infinitic.yml")
    async with worker.running():
        print((await hello.scenario(worker.client))["Ada"])
    async with load("infinitic.yml").make_storage() as storage:
        found = (await storage.states.find(Query())).found
        print(sorted((each.key.name, each.entry.status.value) for each in found))
        print(type(storage).__module__, storage.capabilities.durable, storage.capabilities.deduplication_window)

asyncio.run(main())
"""

MISTAKE = """\
from infinitic.config import load
from infinitic.errors import ConfigurationError

try:
    load("infinitic.yml")
except ConfigurationError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the distribution, installed as pip installs it."""
    source, target = (tmp_path_factory.mktemp(name) for name in ("source", "target"))
    shutil.copytree(ADAPTER, source, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--no-compile", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def run_program(program: str, config: str, installed: Path, folder: Path) -> list[str]:
    """Run a program with the distribution and a configuration, and return the lines it prints."""
    (folder / "infinitic.yml").write_text(config)
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (installed, ROOT)))}
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "tests", [["test_shelf.py", "test_journal.py"], ["test_shelf_transport.py", "test_session.py"]]
)
def test_its_own_tests_pass(tests: list[str]) -> None:
    """The conformance suites, and what is its own."""
    # They wait most of the time.
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-n", "4"]
    command = [sys.executable, "-m", "pytest", *options, *(f"tests/{name}" for name in tests)]
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=ADAPTER, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    counted = re.search(r"(\d+) passed", done.stdout)
    assert counted is not None
    assert int(counted[1]) > 40, done.stdout


def test_workflows_run_on_it_by_its_name(installed: Path, tmp_path: Path) -> None:
    said = run_program(PROGRAM, CONFIG, installed, tmp_path)
    assert said[-3] == "Hello, Ada! Goodbye, Ada."
    assert said[-2] == "[('Visit', 'completed'), ('Visit', 'completed')]"
    assert said[-1].endswith("True 1209600.0")
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"journal", "lock"}
    assert {path.name for path in (tmp_path / "queued").iterdir()} == {"queues.db"}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("    pth: kept", "infinitic.yml:5: storage.shelf.pth: unknown key (did you mean 'path'?)"),
        ("    path: kept\n    colour: red", "infinitic.yml:6: storage.shelf.colour: unknown key; the known keys are"),
        ("    path: kept\n    max_value_bytes: 0", "infinitic.yml:6: storage.shelf.max_value_bytes: must be greater"),
    ],
)
def test_a_mistake_under_its_name_is_said_with_its_line(
    installed: Path, tmp_path: Path, written: str, said: str
) -> None:
    lines = run_program(MISTAKE, CONFIG.replace("    path: kept", written), installed, tmp_path)
    assert len(lines) == 1
    assert lines[0].startswith(said)


def test_the_code_in_the_documentation_is_that_of_the_example() -> None:
    documentation = (ROOT / "docs" / "adapters.md").read_text(encoding="utf-8")
    sources = [path.read_text(encoding="utf-8") for path in sorted(ADAPTER.rglob("*.py"))]
    blocks = re.findall(r"```(?:python|toml|sql)\n(.*?)```", documentation, re.DOTALL)
    sources.append((ADAPTER / "pyproject.toml").read_text(encoding="utf-8"))
    assert len(blocks) > 4
    for block in blocks:
        if block.startswith("from "):
            # A program of its own.
            exec(compile(block, "docs/adapters.md", "exec"), {"__name__": "docs"})
            continue
        indented = [textwrap.indent(block, margin) for margin in ("", "    ", "        ")]
        assert any(code in source for code in indented for source in sources), f"not in the example:\n{block}"


def test_what_the_documentation_links_to_exists() -> None:
    documentation = (ROOT / "docs" / "adapters.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", documentation)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
