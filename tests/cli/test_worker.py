"""`infinitic worker`, as a process: it drains on a signal, and says in a line what is wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "infinitic", "worker", "--config"]
LIMIT = 60.0

CODE = """
import asyncio, sys
from infinitic import Workflow

class Slow:
    async def work(self) -> str:
        return "done"

class Flow(Workflow):
    async def go(self) -> str:
        return sys.flags.hash_randomization

print("hash seed is fixed:", not sys.flags.hash_randomization)
"""

YAML = """\
name: w1
transport: {in_memory: {name: default}}
storage: {in_memory: {}}
services:
  - name: Slow
    executor: {class: shop_for_worker.Slow}
workflows:
  - name: Flow
    executor: {class: shop_for_worker.Flow}
    state_engine: {}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop_for_worker.py").write_text(CODE)
    (tmp_path / "infinitic.yml").write_text(YAML)
    return tmp_path


def environ() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONHASHSEED"}
    return {**kept, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "infinitic.yml"], cwd=folder, env=environ(), capture_output=True, text=True, timeout=LIMIT
    )


def test_it_says_what_it_hosts_and_drains(folder: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "infinitic.yml"],
        cwd=folder,
        env=environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        seen: list[str] = []
        for line in process.stdout:
            seen.append(line)
            if "ready" in line:
                break
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=LIMIT)
    assert (process.returncode, "Traceback" in errors) == (0, False), errors
    assert seen[-1] == "w1 is ready: services Slow; workflows Flow (on in_memory and in_memory)\n"
    assert "hash seed is fixed: True\n" in seen


def test_it_ends_while_it_waits_for_a_broker_that_is_away(folder: Path) -> None:
    away = "transport: {pulsar: {broker_service_url: pulsar://127.0.0.1:1, web_service_url: http://127.0.0.1:1}}"
    (folder / "infinitic.yml").write_text(YAML.replace("transport: {in_memory: {name: default}}", away))
    with subprocess.Popen(
        [*COMMAND, "infinitic.yml"], cwd=folder, env=environ(), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        told = process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=LIMIT)
    assert "trying again until it works" in told
    assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("storage:", "storge:", r"infinitic.yml:3: storge: unknown key \(did you mean 'storage'\?\)"),
        (
            ".Slow}",
            ".Slwo}",
            r"infinitic.yml:6: services\[0\].executor.class: the module .* has no 'Slwo' \(did you mean 'Slow'\?\)",
        ),
    ],
)
def test_a_mistake_is_one_message_and_code_2(folder: Path, old: str, new: str, message: str) -> None:
    (folder / "infinitic.yml").write_text(YAML.replace(old, new))
    ended = run(folder)
    assert ended.returncode == 2
    assert re.fullmatch(f"Error: {message}\n", ended.stderr)


def test_a_worker_that_hosts_nothing(folder: Path) -> None:
    (folder / "infinitic.yml").write_text("transport: {in_memory: {}}\n")
    ended = run(folder)
    assert ended.returncode == 2
    assert ended.stderr.startswith("Error: This worker hosts nothing")
    assert "Traceback" not in ended.stderr
