"""`infinitic dev` in real processes: it starts a worker again after each change of a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner
from watchfiles import Change

from infinitic.cli.app import app
from infinitic.cli.dev.watching import SourceFilter
from tests.cli.dev_process import LIMIT, make_environ, run_program

CODE = """
import os
from infinitic import Workflow

class Mailer:
    async def send(self) -> None: ...

class Greeting(Workflow):
    async def greet(self, name: str) -> str:
        return name

print("code 1 in", os.getpid())
"""

YAML = """\
name: w1
transport: {in_memory: {}}
storage: {in_memory: {}}
services:
  - name: Mailer
    executor: {class: shop_of_dev.Mailer}
workflows:
  - name: Greeting
    executor: {class: shop_of_dev.Greeting}
    state_engine: {}
"""

READY = "w1 is ready: services Mailer; workflows Greeting "


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop_of_dev.py").write_text(CODE)
    (tmp_path / "infinitic.yml").write_text(YAML)
    return tmp_path


def test_it_starts_again_with_what_has_changed(folder: Path) -> None:
    with run_program(folder, "dev") as dev:
        dev.wait_for(f"dev: watching Python files in {folder}, and infinitic.yml. Ctrl-C ends it")
        dev.wait_for("code 1")
        dev.wait_for(rf"{READY}\(messages and state: in memory, gone when this worker ends\)")
        # In the same second, and of the same size: its bytecode looks like that of the new code.
        stamp = (folder / "shop_of_dev.py").stat()
        (folder / "shop_of_dev.py").write_text(CODE.replace("code 1", "code 2"))
        os.utime(folder / "shop_of_dev.py", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        dev.wait_for("dev: shop_of_dev.py has changed: the worker starts again")
        dev.wait_for("code 2")
        dev.wait_for(READY)
        (folder / "infinitic.yml").write_text(YAML.replace("w1", "w2"))
        dev.wait_for("dev: infinitic.yml has changed")
        dev.wait_for("w2 is ready")
        assert dev.interrupt() == 0
    shown = "".join(dev.shown)
    assert "Traceback" not in shown
    assert "second signal" not in shown


MISTAKES = (
    ("shop_of_dev.py", "class Greeting", "class Greeting(", r"SyntaxError: .* \(shop_of_dev.py, line 8\)$"),
    ("shop_of_dev.py", "(Workflow)", "(Worklow)", r"NameError: name 'Worklow' is not .* \(shop_of_dev.py, line 8\)$"),
    ("infinitic.yml", "storage:", "storge:", r"^Error: infinitic.yml:3: storge: unknown key"),
)


def test_a_mistake_is_one_line_and_waits_for_the_next_change(folder: Path) -> None:
    """The first one is there from the beginning."""
    right = {file: (folder / file).read_text() for file, *_ in MISTAKES}
    file, old, new, message = MISTAKES[0]
    (folder / file).write_text(right[file].replace(old, new))
    with run_program(folder, "dev") as dev:
        dev.wait_for(message)
        assert len(dev.shown) == 2
        for after, old, new, message in (*MISTAKES[1:], ("", "", "", "")):
            dev.wait_for("dev: the worker has ended with exit code 2. It starts again when a file changes")
            (folder / file).write_text(right[file])
            dev.wait_for(READY)
            if after:
                file = after
                (folder / file).write_text(right[file].replace(old, new))
                dev.wait_for(message)
        assert dev.interrupt() == 0
    assert "Traceback" not in "".join(dev.shown)


LONG = """
import asyncio
from infinitic import Workflow

class Press:
    async def print_all(self) -> str:
        print("begins", flush=True)
        await asyncio.sleep(1000)
        return "never"

class Edition(Workflow):
    press = Workflow.new_service(Press)

    async def appear(self) -> str:
        return await self.press.print_all()
"""


def test_a_long_task_is_cut_and_runs_again(folder: Path) -> None:
    """Five times, and it does not fail: that it was cut is no death of its worker."""
    file = "{sqlite: {path: work.db}}"
    (folder / "press_of_dev.py").write_text(LONG)
    (folder / "infinitic.yml").write_text(
        f"transport: {file}\nstorage: {file}\n"
        "services: [{name: Press, executor: {class: press_of_dev.Press}}]\n"
        "workflows: [{name: Edition, executor: {class: press_of_dev.Edition}, state_engine: {}}]\n"
    )
    with run_program(folder, "dev", "--drain", "0.01") as dev:
        dev.wait_for("is ready")
        start = [sys.executable, "-m", "infinitic", "start", "Edition.appear"]
        subprocess.run(start, cwd=folder, env=make_environ(), check=True, stdout=subprocess.DEVNULL)
        for turn in range(5):
            dev.wait_for("begins")
            (folder / "press_of_dev.py").write_text(f"{LONG}\n# {turn}\n")
            dev.wait_for("press_of_dev.py has changed")
        dev.wait_for("begins")
        assert dev.interrupt() == 0


def test_a_worker_that_is_killed_starts_again(folder: Path) -> None:
    with run_program(folder, "dev") as dev:
        worker = int(dev.wait_for(r"code 1 in (\d+)")[1])
        dev.wait_for(READY)
        os.kill(worker, signal.SIGKILL)
        dev.wait_for("dev: the worker was killed by SIGKILL. It starts again at once")
        dev.wait_for(READY)
        assert dev.interrupt() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_worker_is_left_behind(folder: Path, number: signal.Signals) -> None:
    """The worker writes to the same pipe, so the pipe ends only with it."""
    with run_program(folder, "dev") as dev:
        dev.wait_for(READY)
        dev.process.send_signal(number)
        dev.wait_for_end()
        assert dev.process.wait(LIMIT) == (0 if number is signal.SIGTERM else -number)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.yml"], "There is no configuration file none.yml"),
        (["--config", "none.yml"], "There is no configuration file none.yml"),
        (["--watch", "none"], "--watch none: there is no such folder"),
        (["--drain", "soon"], "'soon' is not a number of seconds"),
    ],
)
def test_a_wrong_command_is_one_message(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(folder)
    ended = CliRunner().invoke(app, ["dev", *arguments])
    assert ended.exit_code == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_which_files_matter(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "pyvenv.cfg").touch()
    matters = SourceFilter(tmp_path / "infinitic.yml")
    names = (
        *("infinitic.yml", "shop/trip.py"),
        *("other.yml", "shop/infinitic.db-wal", "env/lib/a.py", ".venv/lib/a.py", "shop/__pycache__/a.py"),
    )
    assert [name for name in names if matters(Change.modified, str(tmp_path / name))] == list(names[:2])
