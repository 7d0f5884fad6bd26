"""The README's first workflow is run as it stands, and its way to production is the right one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infinitic import config
from infinitic.cli.app import app
from infinitic.cli.init.command import START
from tests.architecture.project import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the first workflow of the README, under the name in its first line."""
    [code] = re.findall(r"```python\n# test_greeting\.py\n(.*?)```", README, re.DOTALL)
    (tmp_path / "test_greeting.py").write_text(code)
    return tmp_path


def test_the_first_workflow_passes_its_own_tests(folder: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "test_greeting.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_the_way_to_production_is_right(tmp_path: Path) -> None:
    """The change fits the file that `infinitic init` makes, and the result can be loaded."""
    assert CliRunner().invoke(app, ["init", str(tmp_path), "--name", "shop"]).exit_code == 0
    [change] = re.findall(r"```diff\n(.*?)```", README, re.DOTALL)
    before = "".join(line[1:] for line in change.splitlines(keepends=True)[1:] if line[0] != "+")
    after = "".join(line[1:] for line in change.splitlines(keepends=True)[1:] if line[0] != "-")
    text = (tmp_path / "infinitic.yml").read_text()
    assert text.count(before) == 1
    loaded = config.load(text=text.replace(before, after), environ={"PGPASSWORD": "secret"})
    assert loaded.storage_settings is not None
    assert (loaded.transport_settings[0], loaded.storage_settings[0]) == ("pulsar", "postgres")


def test_the_commands_are_those_that_init_shows() -> None:
    assert START in README
