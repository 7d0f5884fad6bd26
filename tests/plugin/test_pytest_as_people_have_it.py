"""`sim` in pytest, alone and beside released plugins that also run async tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.thorough import choose_cases

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SETTINGS = {
    "alone": ["-p", "no:asyncio", "-p", "no:anyio"],
    "with pytest-asyncio, strict": [],
    "with pytest-asyncio, auto": ["-o", "asyncio_mode=auto"],
    "with anyio, auto": ["-p", "no:asyncio", "-o", "anyio_mode=auto"],
    "on several processes": ["-n", "2", "--dist=loadscope"],
}
MARKS = ["asyncio", "anyio"]


def run_pytest(
    folder: Path, sources: list[str], options: list[str], passed: int | None = None, *, tests: str = "."
) -> str:
    """Run pytest on sources in a folder, with warnings as errors, and return its output.

    Args:
        folder: an empty folder.
        sources: the text of each test module.
        options: of pytest.
        passed: how many tests must pass, with none skipped or failed. None: anything may happen.
        tests: which of them are run; by default all.
    """
    folder.joinpath("pytest.ini").write_text(
        "[pytest]\nfilterwarnings = error\naddopts = --strict-markers -p no:cacheprovider -p no:randomly\n"
    )
    for index, source in enumerate(sources):
        folder.joinpath(f"test_{index}.py").write_text(source)
    paths = [ROOT, ROOT / "transports", ROOT / "storages", ROOT / "testing"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "COLUMNS": "200"}
    environment.pop("PYTEST_ADDOPTS", None)
    process = subprocess.run(
        [sys.executable, "-m", "pytest", *options, tests],
        cwd=folder,
        env={name: value for name, value in environment.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    output = process.stdout + process.stderr
    if passed is not None:
        assert process.returncode == 0, output
        summary = output.strip().splitlines()[-1]
        assert re.search(rf"\b{passed} passed", summary), output
        assert not re.search(r"skipped|failed|error|warning|xfailed", summary), output
    return output


def count_tests(source: str) -> int:
    """Count the tests in a source. Each set of parameters counts as two."""
    return len(re.findall(r"def test_", source)) + len(re.findall(r"parametrize\(", source))


@pytest.mark.parametrize("setting", choose_cases(SETTINGS, ["alone", "with pytest-asyncio, auto"]))
def test_every_shape(setting: str, tmp_path: Path) -> None:
    source = (HERE / "shapes.py").read_text()
    run_pytest(tmp_path, [source], SETTINGS[setting], passed=count_tests(source))


@pytest.mark.parametrize("mark", choose_cases(MARKS, ["asyncio"]))
def test_every_shape_that_another_plugin_owns(mark: str, tmp_path: Path) -> None:
    source = (HERE / "shapes.py").read_text()
    marked = re.sub(
        r"^( *)(async def test_(?!a_plain_decorator))", rf"\1@pytest.mark.{mark}\n\1\2", source, flags=re.MULTILINE
    )
    if mark == "asyncio":  # in its strict mode, this plugin warns of all others' asynchronous fixtures
        marked = re.sub(r"@pytest\.fixture(?=\n *async def)", "@pytest_asyncio.fixture", marked)
        marked = marked.replace("import pytest\n", "import pytest\nimport pytest_asyncio\n", 1)
    # One backend: anyio would run each of its tests on trio, too, if that is installed.
    marked += '\n\n@pytest.fixture\ndef anyio_backend() -> str:\n    return "asyncio"\n'
    run_pytest(tmp_path, [marked], [], passed=count_tests(source))


@pytest.mark.parametrize("mode", choose_cases(["strict", "auto"], ["strict"]))
def test_beside_pytest_asyncio(mode: str, tmp_path: Path) -> None:
    source = (HERE / "shapes_asyncio.py").read_text()
    run_pytest(tmp_path, [source], ["-o", f"asyncio_mode={mode}"], passed=count_tests(source))


@pytest.mark.parametrize("mode", choose_cases(["strict", "auto"], ["auto"]))
def test_beside_anyio(mode: str, tmp_path: Path) -> None:
    source = (HERE / "shapes_anyio.py").read_text()
    run_pytest(tmp_path, [source], ["-p", "no:asyncio", "-o", f"anyio_mode={mode}"], passed=count_tests(source))


FAILING = """
import pytest
from hypothesis import given, settings, strategies as st
from tests.plugin.shapes import Sum, prepare, twice


@pytest.fixture
def prepared(sim):
    return prepare(sim)


@pytest.fixture(autouse=True)
def order():
    yield


@pytest.fixture
async def kept(sim):
    yield
    await sim.sleep(1)


async def test_assertion(sim):
    assert await twice(sim, 1) == 4


@given(x=st.integers(0, 3))
@settings(max_examples=10, deadline=None, database=None)
async def test_example(sim, x):
    assert await twice(sim, x) != 4, "too much"


@given(x=st.integers(0, 3))
async def test_prepared(sim, prepared, x): ...


@pytest.mark.usefixtures("prepared")
@given(x=st.integers(0, 3))
async def test_prepared_too(sim, x): ...


@pytest.mark.infinitic(cash_size=0)
async def test_option(sim): ...


async def test_worker(sim):
    sim.worker._supervisor._failed.set_exception(OSError("the disk is full"))
    sim.worker._supervisor.on_failure()
    await sim.sleep(1)


async def test_deadlock(sim):
    prepare(sim)
    await sim.client.new_workflow(Sum).plus_signal(1)  # DEADLOCK


class Diverges(Sum):
    count = 0

    async def run(self) -> int:
        Diverges.count += 1
        return await self.adder.add(1) if Diverges.count > 1 else Diverges.count


async def test_replay(sim):
    sim.add_workflow(Diverges)
    await sim.client.new_workflow(Diverges).run()


async def test_replay_before_a_fixture_cleans_up(sim, kept):
    Diverges.count = 0
    await test_replay(sim)
"""


def test_failures_are_shown_where_they_are(tmp_path: Path) -> None:
    output = run_pytest(tmp_path, [FAILING], ["-o", "asyncio_mode=auto"])
    assert "assert 3 == 4" in output
    assert "sim=<fresh>" in output
    assert "uses a function-scoped fixture 'prepared'" in output
    assert "each example has a fresh simulation, but the fixture 'prepared' prepares another one" in output
    assert re.search(
        r"@pytest.mark.infinitic\(cash_size=…\) at test_0.py:42: the options are seeds, faults, .*by name", output
    )
    assert "OSError: the disk is full" in output
    assert ">       await sim.client.new_workflow(Sum).plus_signal(1)  # DEADLOCK" in output
    assert output.count("NonDeterminismError: Workflow Diverges") >= 2
    assert re.search(r"\b8 failed, 1 error", output), output
    assert "passed" not in output.strip().splitlines()[-1], output
    others = re.sub(r"(?s)_+ test_worker _+\n.*?(?=\n__+ )", "", output)  # there our lines are of use
    own_lines = [line for line in others.splitlines() if re.match(r"\S*/infinitic\w*/\S+\.py:\d+", line)]
    assert own_lines == []


DEADLOCK = """
import asyncio
from datetime import timedelta
from infinitic import Channel, Workflow


class Payments:
    async def charge(self, amount: int) -> int:
        return amount


class Trip(Workflow):
    payments = Workflow.new_service(Payments)
    paid = Channel[bool]()

    async def book(self) -> str:
        await self.paid.receive()  # BOOK
        return "booked"

    async def both(self) -> str:
        first, second = self.dispatch(self.payments.charge, 1), self.dispatch(self.payments.charge, 2)
        await asyncio.gather(first & self.paid.receive(), self._audit())  # BOTH
        return "both"

    async def _audit(self) -> None:
        await self.wait_until(lambda: False)  # AUDIT

    async def broken(self) -> str:
        self.background = asyncio.create_task(self._fail())
        return await self.paid.receive()

    async def _fail(self) -> None:
        raise LookupError("no such trip")  # FAIL


async def expect(sim, method):
    handle = await sim.client.dispatch(method)
    return await handle.result()  # EXPECT


async def test_signal(sim):
    sim.add_workflow(Trip)
    await expect(sim, sim.client.new_workflow(Trip).book)  # SIGNAL


async def test_all_of_it(sim):
    sim.add_workflow(Trip)
    trips = [sim.client.new_workflow(Trip) for _ in range(2)]
    await asyncio.gather(expect(sim, trips[0].both), expect(sim, trips[1].broken))  # GATHER
"""


def test_a_deadlock_shows_the_users_world(tmp_path: Path) -> None:
    output = run_pytest(tmp_path, [DEADLOCK], [])

    def at(mark: str) -> str:
        number = next(index for index, line in enumerate(DEADLOCK.splitlines(), 1) if line.endswith(f"# {mark}"))
        return f"test_0.py:{number}"

    assert re.search(r"\b2 failed", output), output
    assert ">       await expect(sim, sim.client.new_workflow(Trip).book)  # SIGNAL" in output
    assert re.search(rf"\(test_signal\) at \S*{at('SIGNAL')} → \S*{at('EXPECT')}", output), output
    assert re.search(rf"book waits for a signal of channel 'paid', at \S*{at('BOOK')} in Trip.book", output), output
    charged_and_paid = r"\(task Payments.charge and a signal of channel 'paid'\)"
    assert re.search(rf"both waits for {charged_and_paid}\S* at \S*{at('BOTH')}|{charged_and_paid}", output), output
    assert re.search(rf"at \S*{at('AUDIT')} in Trip._audit", output), output
    assert re.search(rf"a background task failed: LookupError: no such trip, at \S*{at('FAIL')} in Trip._fail", output)
    assert "2 task(s) of service 'Payments' wait, but nobody hosts it" in output
    ours = [line for line in output.splitlines() if re.search(r"/(infinitic\w*|asyncio)/\S+\.py:\d+", line)]
    assert ours == []
