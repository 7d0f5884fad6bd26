"""A program in a process of its own whose lines a test waits for."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

LIMIT = 60.0
"""How many seconds a line may take, on a machine that does much else."""


class ProgramInATerminal:
    """A program that runs, and what it has shown.

    Attributes:
        process: the process.
        shown: the lines that were read until now.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.shown: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait for a line in which a pattern is found, and return what was found."""
        while (line := self._read_line()) is not None:
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"it has ended without {pattern!r}:\n{''.join(self.shown)}")

    def wait_for_end(self) -> str:
        """Wait until nobody can write any longer, also no child, and return what was shown."""
        while self._read_line() is not None:
            pass
        return "".join(self.shown)

    def _read_line(self) -> str | None:
        try:
            line = self._lines.get(timeout=LIMIT)
        except queue.Empty:
            raise AssertionError(f"nothing more came for {LIMIT:g} s:\n{''.join(self.shown)}") from None
        if line is not None:
            self.shown.append(line)
        return line

    def kill(self) -> None:
        """Kill it, and wait until nobody can write any longer."""
        self.process.kill()
        self._reader.join(LIMIT)

    def interrupt(self) -> int:
        """Send what Ctrl-C sends, and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        self.wait_for_end()
        return self.process.wait(LIMIT)


def make_environ() -> dict[str, str]:
    """Return the environment of a program that runs this library, as a person has it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST_", "INFINITIC_"))}
    return {**kept, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@contextmanager
def run_program(folder: Path, *arguments: str, environ: Mapping[str, str] = {}) -> Generator[ProgramInATerminal]:
    """Run `infinitic` with these arguments in a folder. It is killed when the block ends.

    Args:
        folder: its working directory.
        arguments: its arguments.
        environ: further variables of its environment.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "infinitic", *arguments],
        cwd=folder,
        env={**make_environ(), **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        program = ProgramInATerminal(process)
        try:
            yield program
        finally:
            program.kill()
