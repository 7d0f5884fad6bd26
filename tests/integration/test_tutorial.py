"""The page "Real servers" of the tutorial is true, on Pulsar and PostgreSQL.

Its commands are run in their order. Only the places of the servers and the length of the pause are
not those of the page.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import yaml

from infinitic import ids
from tests.architecture.project import ROOT
from tests.docs.snippets import CONTINUES, read_blocks
from tests.integration.stack import configuration, need

PAGE = "docs/tutorial/real-servers.md"
PATIENCE = 60


def command(line: str) -> list[str]:
    """Turn a line of the page into a command."""
    program, *arguments = shlex.split(line)
    return [sys.executable, *(["-m", "infinitic"] if program == "infinitic" else []), *arguments]


def run(line: str, folder: Path) -> str:
    """Run a command of the page to its end."""
    done = subprocess.run(
        command(line), cwd=folder, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment() -> dict[str, str]:
    paths = [ROOT, ROOT / "transports", ROOT / "storages"]
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}


@contextmanager
def worker(folder: Path) -> Generator[subprocess.Popen[str]]:
    """Run the worker of the page, and kill it in the end, without warning."""
    with subprocess.Popen(
        command("infinitic worker"), cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        late = Timer(PATIENCE, process.kill)
        late.start()
        try:
            yield process
        finally:
            late.cancel()
            process.kill()


def read_until(text: str, process: subprocess.Popen[str]) -> list[str]:
    """Read what a worker prints, up to a line with a text."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"{text!r} does not come: {lines}")


def test_the_worker_is_killed_and_the_second_mail_is_sent_all_the_same(tmp_path: Path) -> None:
    need("postgres")
    blocks = [*read_blocks(CONTINUES[PAGE]), *read_blocks(PAGE)]
    for block in blocks:
        if block.file is not None:
            (tmp_path / block.file).parent.mkdir(exist_ok=True)
            (tmp_path / block.file).write_text(block.text, encoding="utf-8")
    [_, written] = [yaml.safe_load(block.text) for block in blocks if block.file == "infinitic.yml"]
    roles = {key: written[key] for key in ("services", "workflows")}
    text = configuration("postgres", f"test_{ids.new_id()[:8]}", tmp_path, **roles)
    (tmp_path / "infinitic.yml").write_text(text, encoding="utf-8")

    lines = [
        line for block in read_blocks(PAGE) for line in re.findall(r"^\$ (infinitic .*)$", block.text, re.MULTILINE)
    ]
    doctor, first, start, listing, second, describe = lines
    assert first == second == "infinitic worker"
    run(doctor, tmp_path)
    with worker(tmp_path) as process:
        started = run(start.replace("PT30S", "PT6S"), tmp_path)
        read_until("To ada@example.com: Welcome!", process)
        [found] = re.findall(r"\b[0-9a-f]{32}\b", started)
        while "timer" not in run(describe.replace("ID", found), tmp_path):
            assert process.poll() is None
    assert "running" in run(listing, tmp_path)
    with worker(tmp_path) as process:
        printed = read_until("Have you tried the search?", process)
        assert not any("Welcome!" in line for line in printed)
        assert "Mailer.send" in run(describe.replace("ID", found), tmp_path)
        (tmp_path / "start.py").write_text(
            (tmp_path / "start.py").read_text(encoding="utf-8").replace("seconds=5", "seconds=0.1"), encoding="utf-8"
        )
        assert run("python start.py", tmp_path).endswith("two mails sent\n")
