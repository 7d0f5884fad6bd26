"""The README's first workflow is run as it stands, by pytest and as a program."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the README's code blocks, each under the name in its first line."""
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert [name for name, _ in blocks] == ["test_greeting.py", "greeting_app.py"]
    for name, code in blocks:
        (tmp_path / name).write_text(code)
    return tmp_path


def test_the_first_workflow_passes_its_own_tests(folder: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "test_greeting.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_the_first_workflow_runs_as_a_program(folder: Path) -> None:
    command = [sys.executable, "greeting_app.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "9 characters sent\n"


def test_the_configuration_of_production_is_right(folder: Path) -> None:
    """Its keys are known, and its classes are those of the first workflow."""
    [text] = re.findall(r"```yaml\n# infinitic.yml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (folder / "infinitic.yml").write_text(text)
    code = (
        "import os; os.environ['PGPASSWORD'] = 'secret'; from infinitic import config; found = config.load();"
        "from infinitic.worker.configured import import_services, import_workflows;"
        "print(found.transport_settings[0], found.storage_settings[0],"
        " *[each.name for each in [*import_services(found), *import_workflows(found)]])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "pulsar postgres Mailer Greeting\n"
