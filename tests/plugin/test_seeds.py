"""Tests under seeds: one item of pytest, many runs, each with fresh fixtures; and their reports."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.plugin.test_pytest_as_people_have_it import run_pytest
from tests.thorough import choose_cases

PLAIN = 'faults="none", profile="fifo"'
"""Runs that differ in their seed alone."""

PASSING = f"""
import pytest
from hypothesis import given, settings, strategies as st
from tests.plugin.shapes import Sum, prepare, twice

SEEN = []
OPEN = []
pytestmark = pytest.mark.infinitic(seeds=3, {PLAIN}, seed=5)


@pytest.fixture
def prepared(sim):
    yield prepare(sim)
    SEEN.append(("prepared", sim.options["seed"], len(OPEN)))


@pytest.fixture
async def started(prepared):
    OPEN.append(prepared)
    yield await prepared.client.dispatch(prepared.client.new_workflow(Sum).plus_signal, 1)
    await prepared.sleep(86_400)
    OPEN.remove(prepared)


@pytest.fixture
def other():
    SEEN.append("other")
    yield SEEN
    SEEN.append("end of other")


async def test_fixtures(sim, other, prepared, started, tmp_path):
    assert prepared is sim
    await sim.client.get_workflow_by_id(Sum, started.workflow_id).more.send(10)
    assert await started.result() == 11
    SEEN.append(sim.options["seed"])


def test_what_was_seen():
    assert SEEN == [
        "other", 0, ("prepared", 0, 0), 5, ("prepared", 5, 0), 6, ("prepared", 6, 0), 7, ("prepared", 7, 0),
        "end of other",
    ]
    SEEN.clear()


def test_a_plain_function_is_run_once(sim):
    SEEN.append(sim.options["seed"])


def test_it_was():
    assert SEEN == [5]
    SEEN.clear()


@pytest.mark.parametrize("x", [1, 2])
async def test_parameters(sim, x):
    assert await twice(sim, x) == x + 2
    SEEN.append(x)


def test_each_has_all_seeds():
    assert SEEN == [1] * 4 + [2] * 4
    SEEN.clear()


class TestClass:
    @pytest.fixture
    def sim(self, sim):
        return prepare(sim)

    @pytest.fixture(params=["a", "b"])
    async def mine(self, sim, request):
        return self, request.param, sim

    async def test_method(self, sim, mine):
        assert mine[0] is self and mine[2] is sim
        assert await sim.client.new_workflow(Sum).twice(1) == 3
        SEEN.append((mine[1], sim.options["seed"]))

    @given(x=st.integers(0, 3))
    @settings(max_examples=4, deadline=None)
    async def test_given(self, sim, x):
        assert await twice_again(sim, x) == x + 2
        SEEN.append((x, sim.options["seed"]))


async def twice_again(sim, x):
    return await twice(sim, x)


def test_each_has_all_seeds_again():
    assert SEEN[:8] == [(x, seed) for x in "ab" for seed in (0, 5, 6, 7)]
    given = SEEN[8:]
    assert [seed for x, seed in given] == [0, 5, 6, 7] * (len(given) // 4)
    SEEN.clear()


@pytest.mark.infinitic(seeds=1)
async def test_the_closest_mark_wins(sim):
    SEEN.append(sim.options["seed"])


def test_it_won():
    assert SEEN == [0, 5]


async def test_the_outcome_is_the_same(sim):
    return await twice(sim, 1)


async def test_skipped(sim):
    pytest.skip("not today")
"""


@pytest.mark.parametrize("options", choose_cases([["-p", "no:asyncio"], [], ["-o", "asyncio_mode=auto"]], [[]]))
def test_each_seed_has_fresh_fixtures(options: list[str], tmp_path: Path) -> None:
    output = run_pytest(tmp_path, [PASSING], options)
    assert re.search(r"= 14 passed, 1 skipped in", output), output


FAILING = f"""
import asyncio
import pytest
from tests.plugin.shapes import Sum, prepare, twice

pytestmark = pytest.mark.infinitic(seeds=10, {PLAIN})


async def test_fails(sim):
    assert await twice(sim, 1) == 3
    assert sim.options["seed"] < 4, "too high"  # FAILS


async def test_fails_without_faults(sim):
    assert await twice(sim, 1) == 4


async def test_outcome(sim):
    return await twice(sim, sim.options["seed"] // 3)


async def test_hangs(sim):
    prepare(sim)
    if sim.options["seed"] == 2:
        await sim.client.new_workflow(Sum).plus_signal(1)  # HANGS


@pytest.fixture
def bad(sim):
    assert sim.options["seed"] != 3, "bad set-up"
    yield
    assert sim.options["seed"] != 2, "bad tear-down"


async def test_tear_down(sim, bad): ...


@pytest.mark.infinitic(seed=3)
async def test_set_up(sim, bad): ...


COUNT = []


async def test_comes_once(sim):
    COUNT.append(1)
    assert len(COUNT) != 4


class TestOwn:
    @pytest.fixture
    def sim(self, sim):
        return type(sim)()

    @pytest.mark.infinitic(seed=2)
    async def test_own_simulation(self, sim): ...


class TestNotOurs:
    @pytest.fixture
    def sim(self):
        from infinitic_testing.simulation import Simulation
        return Simulation()

    async def test_not_ours(self, sim): ...


@pytest.mark.xfail(strict=True)
async def test_expected(sim):
    assert sim.options["seed"] < 4
"""


def test_a_failing_seed_is_explained(tmp_path: Path) -> None:
    output = run_pytest(tmp_path, [FAILING], ["-o", "addopts=-p no:randomly"])
    assert re.search(r"= 9 failed, 1 xfailed in", output), output

    def find_line(mark: str) -> int:
        return next(number for number, line in enumerate(FAILING.splitlines(), 1) if line.endswith(f"# {mark}"))

    def find_report(name: str) -> str:
        found = re.search(
            rf"(?s)\n_+ (Test\w+\.)?{name} _+\n(.*?)(?=\n_+ \S+ _+\n|\n=+ short test|\ninfinitic: \d+ test)", output
        )
        assert found is not None, output
        return found[2]

    fails = find_report("test_fails")
    assert '>       assert sim.options["seed"] < 4, "too high"  # FAILS' in fails
    assert f"test_0.py:{find_line('FAILS')}: AssertionError" in fails
    assert "test_fails fails under seed 4: AssertionError" in fails
    assert re.search(r"run again +pytest test_0.py::test_fails --infinitic-seed 4@\S+  # Python 3\S+, digest", fails)
    assert "seconds" not in fails
    assert re.search(r"needs +none: it fails without any fault or delay", fails)

    assert "fails without any fault, whatever the seed is" in find_report("test_fails_without_faults")
    outcome = find_report("test_outcome")
    assert "fails under seed 3: InvariantViolated (outcome-same)" in outcome
    assert re.search(r"without faults: 2\n\s+with faults: +3", outcome)

    hangs = find_report("test_hangs")
    assert ">           await sim.client.new_workflow(Sum).plus_signal(1)  # HANGS" in hangs
    assert re.search(rf"\(test_hangs\) at \S*test_0.py:{find_line('HANGS')}\n", hangs)
    assert "plus_signal waits for a signal of channel 'more'" in hangs

    assert "bad tear-down" in find_report("test_tear_down")
    assert "test_tear_down fails under seed 2" in find_report("test_tear_down")
    assert "bad set-up" in find_report("test_set_up")
    assert "test_set_up fails under seed 3" in find_report("test_set_up")
    assert "did not come again" in find_report("test_comes_once")
    assert "makes a simulation of its own" in find_report("test_own_simulation")
    assert "makes a simulation of its own" in find_report("test_not_ours")
    ours = [line for line in output.splitlines() if re.match(r"\S*/(infinitic\w*|asyncio)/\S+\.py:\d+", line)]
    assert ours == []

    # What is said to run again is run again.
    [again] = re.findall(r"run again +pytest (.*)  #", fails)
    name, *options = shlex.split(again)
    output = run_pytest(tmp_path, [FAILING], options, tests=name)
    assert re.search(r"= 1 failed in", output), output
    assert "test_fails fails under seed 4" in output
    [again] = re.findall(r"run again +pytest (.*)  #", outcome)
    name, *options = shlex.split(again)
    output = run_pytest(tmp_path, [FAILING], options, tests=name)
    assert "test_outcome fails under seed 3: InvariantViolated (outcome-same)" in output
    [small] = re.findall(r"small run +pytest (.*)", fails)
    name, *options = shlex.split(small)
    output = run_pytest(tmp_path, [FAILING], options, tests=name)
    assert "test_fails fails under seed 4" in output

    # The same of another version, and of another format.
    file = tmp_path / shlex.split(small)[-1]
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "infinitic": "0.0.9"}))
    output = run_pytest(tmp_path, [FAILING], options, tests=name)
    assert re.search(r"seed 4 was found by infinitic 0.0.9. This is infinitic \S+, which may make another run", output)
    file.write_text(json.dumps({**content, "format": 99, "infinitic": "9.9"}))
    output = run_pytest(tmp_path, [FAILING], options, tests=name)
    assert re.search("was written by infinitic 9.9, in format 99; this is infinitic .* which reads format", output)


def test_reports_travel_from_other_processes(tmp_path: Path) -> None:
    output = run_pytest(tmp_path, [FAILING], ["-n", "2", "-k", "test_fails or test_outcome"])
    assert re.search(r"= 3 failed in", output), output
    assert "test_fails fails under seed 4: AssertionError" in output
    assert "test_outcome fails under seed 3: InvariantViolated (outcome-same)" in output
    assert "- infinitic: workflows of this test -" in output
    assert "infinitic: 3 test(s) ran under 9 seed(s). Faults that happened: none" in output


FAULTY = """
import pytest
from tests.plugin.shapes import twice


@pytest.mark.infinitic(seeds=40, faults="duplicates,power-cuts")
async def test_faults(sim):
    return await twice(sim, 1)
"""


def test_faults_are_counted(tmp_path: Path) -> None:
    output = run_pytest(tmp_path, [FAULTY], ["--junit-xml", "junit.xml"], passed=1)
    pattern = r"infinitic: 1 test\(s\) ran under 40 seed\(s\). Faults that happened: (duplicates|power-cuts) \d+.*\n"
    assert re.search(pattern, output), output
    assert 'name="infinitic" value="{' in (tmp_path / "junit.xml").read_text()


UNMARKED = f"""
import pytest
from tests.plugin.shapes import twice

SEEN = []


async def test_unmarked(sim):
    assert await twice(sim, 1) == 3
    SEEN.append((sim.options["seed"], sim.options["profile"], str(sim.options["faults"])))


@pytest.mark.infinitic(seeds=2, {PLAIN})
async def test_marked(sim):
    SEEN.append((sim.options["seed"], sim.options["profile"]))


def test_seen():
    print(SEEN)
    assert 0
"""
MARKED = [(0, "fifo"), (0, "fifo"), (1, "fifo")]


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ([], [(0, "fifo", "none"), *MARKED]),
        (["-o", "infinitic_faults=all"], [(0, "fifo", "none"), *MARKED]),
        (["--infinitic-seed", "7", "--infinitic-faults", "none"], [(7, "seeded", "none"), (7, "fifo")]),
        (
            ["--infinitic-seeds", "1", "--infinitic-faults", "none"],
            [(0, "fifo", "none"), (0, "seeded", "none"), (0, "fifo"), (0, "fifo")],
        ),
    ],
    ids=["nothing", "ini faults", "seed", "seeds"],
)
def test_options_of_the_command_line(options: list[str], seen: list[object], tmp_path: Path) -> None:
    output = run_pytest(tmp_path, [UNMARKED], options)
    assert str(seen) in output, output


BAD = """
import pytest


{mark}
async def test_bad(sim): ...
"""

BAD_MARKS = {
    "seeds=0": "seeds=0) at test_0.py:5: it is the number of seeds, a whole number from 1",
    "seeds='x'": "seeds='x') at test_0.py:5: it is the number of seeds, a whole number from 1",
    "seeds=True": "seeds=True) at test_0.py:5: it is the number of seeds, a whole number from 1",
    "seed=-1": "seed=-1) at test_0.py:5: a seed is a whole number from 0 to 9,007,199,254,740,992",
    "cache_size=-1": "cache_size=-1) at test_0.py:5: it is a number of instances, a whole number from 0",
    "faults='meteors'": "faults='meteors') at test_0.py:5: There is no fault 'meteors'. The faults are: all, none, ",
    "faults=3": "faults=3) at test_0.py:5: it is a text, or a list of names",
    "profile='kafka'": "profile='kafka') at test_0.py:5: There is no profile 'kafka'. The profiles are: fifo, seeded",
    "codec=3": "codec=3) at test_0.py:5: codec takes PayloadCodec objects",
    "7": (
        "7) at test_0.py:5: the options are seeds, faults, profile, cache_size, codec, seed, middleware, given by name"
    ),
}


def test_marks_that_make_no_sense(tmp_path: Path) -> None:
    sources = [BAD.format(mark=f"@pytest.mark.infinitic({said})") for said in BAD_MARKS]
    output = run_pytest(tmp_path, sources, [])
    for number, message in enumerate(BAD_MARKS.values()):
        assert f"@pytest.mark.infinitic({message}".replace("test_0", f"test_{number}") in output, output
    assert f"= {len(sources)} errors in" in output, output


BAD_OPTIONS = {
    "--infinitic-seeds 0": "the number of seeds is a whole number from 1, not '0'",
    "--infinitic-seeds x": "the number of seeds is a whole number from 1, not 'x'",
    "--infinitic-seed x": "--infinitic-seed: 'x' is neither a seed, a whole number, nor the file of a failing seed",
    "--infinitic-seed -1": "--infinitic-seed: a seed is a whole number from 0 to 9,007,199,254,740,992, not -1",
    "--infinitic-faults meteors": "--infinitic-faults: There is no fault 'meteors'. The faults are: all, none, ",
    "-o infinitic_seeds=no": "pytest.ini: the number of seeds is a whole number from 1, not 'no'",
    "-o infinitic_faults=meteors": "pytest.ini: There is no fault 'meteors'",
    "--infinitic-seed pytest.ini": "pytest.ini is not the file of a failing seed",
}


@pytest.mark.parametrize("given", BAD_OPTIONS)
def test_options_that_make_no_sense(given: str, tmp_path: Path) -> None:
    output = run_pytest(tmp_path, [BAD.format(mark="")], given.split())
    assert BAD_OPTIONS[given] in output, output
    assert "Traceback" not in output, output
