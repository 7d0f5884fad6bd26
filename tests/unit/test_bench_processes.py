"""What the benchmarks read about processes: their CPU time, their memory, and who listens."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bench.processes import find_listener, measure_cpu, measure_memory

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")

WORKS = """
import subprocess, sys, time
def burn():
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
if sys.argv[1:]:
    child = subprocess.Popen([sys.executable, sys.argv[0]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
else:
    burn()
print("done", flush=True)
sys.stdin.read()
"""


def test_cpu_of_children_counts_and_that_of_nobody_does_not(tmp_path: Path) -> None:
    program = tmp_path / "works.py"
    program.write_text(WORKS)
    command = [sys.executable, str(program), "with a child"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        assert measure_cpu([process.pid]) >= 0.2
        # Nothing is counted twice.
        assert measure_cpu([process.pid, process.pid]) < 2 * measure_cpu([process.pid])
        process.kill()
    assert measure_cpu([process.pid]) == 0.0


def measure_child(kept: int) -> float:
    """Measure the memory of a new process that keeps so many bytes."""
    program = f"import sys; kept = b'x' * {kept}; print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        used = measure_memory(process.pid)
        process.kill()
    return used


def test_memory_is_what_is_in_use() -> None:
    assert 60 <= measure_child(64 * 1024 * 1024) - measure_child(0) <= 68


def test_the_process_that_listens_on_a_port_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert find_listener(port) == os.getpid()
    assert find_listener(port) is None
