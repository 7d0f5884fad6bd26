"""`infinitic init`: what it makes passes its tests and checks. It never overwrites a file."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tomllib
from importlib.metadata import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from infinitic.cli.app import app
from infinitic.cli.init.command import START
from tests.architecture.project import ROOT
from tests.cli.dev_process import LIMIT, make_environ, run_program
from tests.docs.snippets import read_blocks

MADE = {
    *("infinitic.yml", "pyproject.toml", "README.md", ".gitignore", "tests/test_workflows.py"),
    *("shop/__init__.py", "shop/services.py", "shop/workflows.py"),
}


def init(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["init", *map(str, arguments)], prog_name="infinitic")


def list_files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def run_module(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, env=make_environ(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_it_makes_passes_its_tests_and_checks(tmp_path: Path) -> None:
    made = init(tmp_path / "shop")
    assert made.exit_code == 0
    folder = tmp_path / "shop"
    assert list_files(folder) == MADE
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == metadata("infinitic")["Requires-Python"]
    assert "2 passed" in run_module(folder, "pytest", "-W", "error", "-p", "no:randomly", "-p", "no:cacheprovider")
    run_module(folder, "mypy", "--cache-dir", str(ROOT / ".mypy_cache" / "of_a_project"))
    run_module(folder, "ruff", "check", "--no-cache")
    run_module(folder, "ruff", "format", "--check", "--no-cache")
    assert "{{" not in "".join((folder / name).read_text() for name in MADE)


def test_what_to_type_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = init("my shop").output
    typed = [line.split("  #")[0].strip() for line in shown.partition("What to type next")[2].splitlines()[2:]]
    assert typed == ["cd 'my shop'", "pytest", "infinitic dev", START]
    monkeypatch.chdir("my shop")
    assert (tmp_path / "my shop" / "my_shop" / "workflows.py").exists()


def test_the_workflow_outlives_its_worker(tmp_path: Path) -> None:
    """`kill -9` of the worker, then of `infinitic dev` with it. And a backup is made meanwhile."""
    assert init(tmp_path, "--name", "shop").exit_code == 0
    [backup] = [block.text for block in read_blocks("docs/deployment.md") if block.file == "backup.py"]
    (tmp_path / "backup.py").write_text(backup)
    with run_program(tmp_path, "dev") as dev:
        ready = dev.wait_for("is ready: (.*)")[1]
        assert f"(messages and state: sqlite, {tmp_path / 'infinitic.db'})" in ready
        dev.wait_for("Start a workflow from another terminal: infinitic start Onboarding.welcome --input ")
        [started] = re.findall(
            "[0-9a-f]{32}",
            run_module(tmp_path, "infinitic", "start", "Onboarding.welcome", "--input", '["a@b", "PT1H"]'),
        )
        dev.wait_for("To a@b: Welcome!")
        while not re.search("open timers +1", run_module(tmp_path, "infinitic", "describe", started)):
            assert dev.process.poll() is None
        run_module(tmp_path, "backup", "infinitic.db", "backup.db")
        children = subprocess.run(["pgrep", "-P", str(dev.process.pid)], capture_output=True, text=True, check=True)
        os.kill(int(children.stdout), signal.SIGKILL)
        dev.wait_for("the worker was killed by SIGKILL. It starts again")
        dev.process.kill()
        assert "Have you tried" not in dev.wait_for_end()
    assert finish(tmp_path, started) == (0, 1)
    restore(tmp_path / "backup.db", tmp_path)
    assert finish(tmp_path, started) == (0, 1)


def restore(backup: Path, folder: Path) -> None:
    """Put a backup in the place of the database, as docs/deployment.md says."""
    for path in (folder / "infinitic.db-wal", folder / "infinitic.db-shm"):
        path.unlink(missing_ok=True)
    shutil.rmtree(folder / "infinitic.db-peers")
    backup.replace(folder / "infinitic.db")


def finish(folder: Path, workflow_id: str) -> tuple[int, int]:
    """Run a worker until a workflow has its result. Return how often it has sent either mail."""
    with run_program(folder, "worker") as worker:
        run_module(folder, "infinitic", "complete-timers", workflow_id, "--confirm")
        assert run_module(folder, "infinitic", "result", workflow_id, "--wait") == '"two mails sent"\n'
        worker.process.terminate()
        shown = worker.wait_for_end()
        assert worker.process.wait(LIMIT) == 0
    return shown.count("Welcome!"), shown.count("Have you tried the search?")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "workflows.py").write_text("mine")
    ended = init(tmp_path, "--name", "shop")
    assert ended.exit_code == 2
    assert ended.stderr == (
        f"Error: {tmp_path / 'shop' / 'workflows.py'} is in the way; nothing was made. "
        "Give the name of a new folder, as in: infinitic init my_app, or move the file away\n"
    )
    assert list_files(tmp_path) == {"shop/workflows.py"}
    (tmp_path / "shop" / "workflows.py").unlink()
    (tmp_path / "shop" / "workflows.py").symlink_to(tmp_path / "nowhere")
    assert init(tmp_path, "--name", "shop").exit_code == 2


def test_a_new_repository_keeps_its_files(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / "LICENSE").write_text("mine")
    made = init(tmp_path, "--name", "shop")
    assert made.exit_code == 0
    assert "Left as it was: README.md" in made.output
    assert (tmp_path / "README.md").read_text() == (tmp_path / "LICENSE").read_text() == "mine"
    assert list_files(tmp_path) == MADE | {"LICENSE"}


@pytest.mark.parametrize(
    ("name", "reason", "suggestion"),
    [
        ("my-shop", "only letters, digits and underscores", "my_shop"),
        ("9lives", "begins with a letter", "my_9lives"),
        ("ü", "begins with a letter", "my_app"),
        ("", "begins with a letter", "my_app"),
        ("class", "a word of Python", "class_app"),
        ("json", "Python has a module of this name", "json_app"),
        ("pytest", "a package of this name is installed", "pytest_app"),
        ("infinitic", "a package of this name is installed", "infinitic_app"),
        ("tests", "tests are in a folder of this name", "tests_app"),
        ("a" * 101, "more than 100 characters", "a" * 50),
    ],
)
def test_a_bad_name_gets_a_suggestion(tmp_path: Path, name: str, reason: str, suggestion: str) -> None:
    ended = init(tmp_path / "new", "--name", name)
    assert ended.exit_code == 2
    assert reason in ended.stderr
    assert ended.stderr.endswith(f". Try --name {suggestion}\n")
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "new").exists()
    assert init(tmp_path / "new", "--name", suggestion).exit_code == 0


def test_a_folder_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "is a file, so there can be no project in it" in init(tmp_path / "file" / "shop").stderr
    assert "is a file" in init(tmp_path / "file", "--name", "shop").stderr
    long = init(tmp_path / ("a" * 300), "--name", "shop")
    assert (long.exit_code, long.stderr.count("\n"), "Traceback" in long.stderr) == (1, 1, False)
    # Nothing can be made in there, by nobody.
    refused = init("/proc/shop", "--name", "shop")
    assert (refused.exit_code, refused.stderr.endswith("; nothing was made\n")) == (1, True)


def test_a_project_that_cannot_be_finished_leaves_nothing(tmp_path: Path) -> None:
    """The larger files do not fit, as on a full disk."""
    done = subprocess.run(
        [sys.executable, "-m", "infinitic", "init", "new", "--name", "shop"],
        cwd=tmp_path,
        # Python would leave halves of files with bytecode behind.
        env={**make_environ(), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600)),
    )
    assert done.returncode == 1
    assert done.stderr == f"Error: {tmp_path / 'new'} cannot be written: File too large; nothing was made\n"
    assert list(tmp_path.iterdir()) == []
