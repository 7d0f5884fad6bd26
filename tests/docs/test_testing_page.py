"""The page on testing is a tutorial that is run as it stands, from its top to its bottom.

A Python block that begins with the name of a file is written to that file. A console block is run,
and what it shows must be in its output, line by line and in this order. "…" stands for anything.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from infinitic_testing.faults.catalog import CATALOG
from infinitic_testing.faults.profiles import PROFILES
from infinitic_testing.invariants import RULES

ROOT = Path(__file__).parents[2]
PAGES = ["testing.md", "from-temporal.md"]
PROGRAMS = {
    "pytest": ["-m", "pytest", "-p", "no:randomly", "-p", "no:asyncio"],
    "infinitic": ["-m", "infinitic"],
    "python": [],
}
FAILS = re.compile(r"\d+ failed|Error\b")


def read_blocks(page: str) -> list[tuple[str, str, int]]:
    """Read the blocks of a page: language, text, and line."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return [
        (found[1], found[2], text.count("\n", 0, found.start()) + 1)
        for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    ]


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


def test_what_a_missing_line_is() -> None:
    output = "one 1\ntwo\nthree\n"
    assert find_missing_line("one …\n…\nthree", output) is None
    assert find_missing_line("three\none", output) == "one"
    assert find_missing_line("wo", output) == "wo"
    assert find_missing_line("…wo", output) is None


@pytest.mark.parametrize("page", PAGES)
def test_the_page_is_true(page: str, tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\naddopts = --strict-markers\n")
    commands = 0
    for language, text, line in read_blocks(page):
        if language == "python":
            named = re.match(r"# (\w+\.py)\n", text)
            if named is None:
                assert page != "testing.md", f"{page}:{line} has no file name"
                continue
            (tmp_path / named[1]).write_text(text, encoding="utf-8")
        elif language == "console":
            first, _, shown = text.partition("\n")
            assert first.startswith("$ "), f"{page}:{line}"
            code, output = run_command(first[2:], tmp_path)
            missing = find_missing_line(shown, output)
            assert missing is None, f"{page}:{line}: {first}\nThis line is missing: {missing}\n\n{output}"
            assert bool(code) == (FAILS.search(shown) is not None), f"{page}:{line}: exit code {code}\n{output}"
            commands += 1
    assert commands or page != "testing.md"


def test_the_page_lists_all_faults_profiles_and_rules() -> None:
    text = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `([\w-]+)` \| (.*) \|$", text, re.MULTILINE))
    assert {name: listed.get(name) for name in CATALOG} == dict(CATALOG)
    assert PROFILES.keys() <= listed.keys()
    assert {name: listed.get(name) for name in RULES} == dict(RULES)
