"""W5: what the plugin costs a test suite: a cold run, and each further test.

The test runs a workflow of three tasks.

python -m bench.pytest_cost
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import load

BARE = "def test_0():\n    assert 1 + 1 == 2\n"

SIMULATED = """
from infinitic import Workflow


class Adder:
    async def add_one(self, x: int) -> int:
        return x + 1


class Three(Workflow):
    adder = Workflow.new_service(Adder)

    async def three(self, i: int) -> int:
        a = await self.adder.add_one(i)
        b = await self.adder.add_one(a)
        return a + b + await self.adder.add_one(b)
"""

TEST = """

async def test_{0}(sim):
    sim.add_service(Adder())
    sim.add_workflow(Three)
    assert await sim.client.new_workflow(Three).three({0}) == 3 * {0} + 6
"""

FURTHER = 200


def seconds(folder: Path, name: str, text: str) -> float:
    path = folder / f"test_{name}.py"
    path.write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist"]
    command += ["-p", "no:hypothesispytest", str(path)]
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        best = min(best, time.perf_counter() - began)
    return best


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bare = seconds(folder, "bare", BARE)
        cold = seconds(folder, "cold", SIMULATED + TEST.format(0))
        many = seconds(folder, "many", SIMULATED + "".join(TEST.format(i) for i in range(1 + FURTHER)))
    load.result(
        bare_s=round(bare, 3),
        cold_s=round(cold - bare, 3),
        each_ms=round((many - cold) / FURTHER * 1e3, 2),
    )


if __name__ == "__main__":
    main()
