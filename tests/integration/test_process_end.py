"""How a process ends: by its tasks, by signals, with threads that do not end.

It uses real processes and no servers.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 60.0

PROGRAM = """
import asyncio, logging, os, signal, sys, threading, time
from infinitic import Client, Worker, Workflow, task
from infinitic.topics import service_executor
from infinitic_storages.memory import InMemoryStorage
from infinitic_transports.memory import InMemoryTransport

class Tasks:
    def leave_thread(self) -> str:
        sys.exit(7)

    async def leave(self) -> str:
        sys.exit(7)

    def message_thread(self) -> str:
        sys.exit("no more")

    @task(attempt_timeout=0.2)
    def hang(self) -> str:
        threading.Event().wait()
        return "never"

    async def wait(self) -> str:
        await asyncio.sleep(1000)
        return "never"

    def wait_thread(self) -> str:
        time.sleep(1000)
        return "never"

class Flow(Workflow):
    tasks = Workflow.new_service(Tasks)

    async def run(self, name: str) -> str:
        return await self.dispatch(getattr(self.tasks, name))

async def main(name):
    transport = InMemoryTransport()
    worker = Worker(transport, InMemoryStorage(), shutdown_grace_period=GRACE)
    worker.add_service(Tasks(), concurrency=2)
    worker.add_workflow(Flow)

    async def start():
        handle = await worker.client.dispatch(worker.client.new_workflow(Flow).run, name)
        print("dispatched", flush=True)
        try:
            await handle.result()
        except Exception as error:
            print("ended:", type(error).__name__, flush=True)

    kept = []
    try:
        await worker.run(on_ready=lambda: kept.append(asyncio.ensure_future(start())))
    finally:
        stats = await transport.stats(service_executor("Tasks"))
        print("handed on:", stats.subscriptions["service-executor"].backlog, flush=True)

logging.basicConfig(level=logging.INFO)
asyncio.run(main(sys.argv[1]))
print("after", flush=True)
"""


def start(folder: Path, name: str, *, grace: float = 5.0) -> subprocess.Popen[str]:
    path = folder / "program.py"
    path.write_text(PROGRAM.replace("GRACE", str(grace)))
    return subprocess.Popen(
        [sys.executable, str(path), name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def read_until(process: subprocess.Popen[str], text: str, *, error: bool = False) -> str:
    """What it says up to the line that holds this text."""
    stream = process.stderr if error else process.stdout
    assert stream is not None
    seen = ""
    for line in stream:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"it never said {text!r}: {seen} {process.stderr.read() if process.stderr else ''}")


@pytest.mark.parametrize(
    ("name", "code"), [("leave", 7), ("leave_thread", 7), ("message_thread", 1)], ids=["async", "def", "text"]
)
def test_sys_exit_in_a_task_ends_the_process_with_its_code(name: str, code: int, tmp_path: Path) -> None:
    """S9. In a thread it left a process that never ended. Its message goes to another worker."""
    with start(tmp_path, name) as process:
        output, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == code, errors
    assert "handed on: 1" in output
    assert "Traceback" not in errors
    assert "the worker drains" in errors
    assert ("no more" in errors) == (code == 1)


@pytest.mark.parametrize("name", ["wait", "wait_thread"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_a_drain_at_once_without_a_traceback(
    name: str, number: signal.Signals, tmp_path: Path
) -> None:
    with start(tmp_path, name, grace=1000.0) as process:
        read_until(process, "dispatched")
        process.send_signal(number)
        before = read_until(process, "Draining", error=True)
        process.send_signal(number)
        output, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, errors
    assert "after" in output
    assert "handed on: 1" in output
    assert "Traceback" not in errors
    assert "Traceback" not in before
    assert "A second signal" in errors


def test_what_is_cut_is_handed_on_and_said(tmp_path: Path) -> None:
    with start(tmp_path, "wait_thread", grace=0.5) as process:
        read_until(process, "dispatched")
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 0
    assert "handed on: 1" in output
    assert "1 x wait_thread running" in errors
    assert "time.sleep(1000)" in errors, "where the thread is that cannot be stopped"


def test_a_thread_that_never_ends_keeps_no_process_alive(tmp_path: Path) -> None:
    with start(tmp_path, "hang") as process:
        read_until(process, "ended: WorkflowFailedError")
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 0
    assert "threading.Event().wait()" in errors


SLOW = """
import sys, time
print("importing", flush=True)
time.sleep(2)

class Slow:
    async def work(self) -> str:
        return "done"
"""

YAML = """\
name: w1
transport: {in_memory: {name: default}}
services:
  - name: Slow
    executor: {class: slow_to_import.Slow}
"""


def unshare() -> list[str]:
    """What makes the next program PID 1 of its own world."""
    command = ["unshare", "--pid", "--fork", "--kill-child"]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True, timeout=LIMIT)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this system lets nobody make a PID namespace: {error}")
    return command


@pytest.mark.parametrize("seed", [None, "0"], ids=["starts itself anew", "does not"])
def test_sigterm_before_it_is_ready_is_heeded_also_as_pid_1(seed: str | None, tmp_path: Path) -> None:
    """The kernel gives PID 1 no signal without a handler.

    The worker then became ready, and stayed.
    """
    (tmp_path / "slow_to_import.py").write_text(SLOW)
    (tmp_path / "infinitic.yml").write_text(YAML)
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONHASHSEED"}
    environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    if seed is not None:
        environ["PYTHONHASHSEED"] = seed
    command = [*unshare(), sys.executable, "-m", "infinitic", "worker"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        read_until(process, "importing")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        try:
            output, errors = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 143, (output, errors)
    assert "ready" not in output
    assert "Traceback" not in errors
