"""The plan of `make chaos`, its programs, and the guard that ends them all."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chaos import guard
from chaos.plan import KINDS, draw_plan
from chaos.processes import ROOT, Program
from tests.unit.waiting import until

LIMIT = 30.0


def test_a_seed_gives_the_same_plan_again() -> None:
    plan = draw_plan(7, tuple(KINDS), 300.0, 5.0)
    assert plan == draw_plan(7, tuple(KINDS), 300.0, 5.0)
    assert plan != draw_plan(8, tuple(KINDS), 300.0, 5.0)


@pytest.mark.parametrize("seed", range(20))
def test_each_kind_of_harm_comes_in_each_turn(seed: int) -> None:
    plan = draw_plan(seed, tuple(KINDS), 300.0, 5.0)
    assert {act.kind for act in plan[: len(KINDS)]} == set(KINDS)
    assert [act.at for act in plan] == sorted(act.at for act in plan)
    assert all(0.0 < act.at < 300.0 for act in plan)


def make_program(folder: Path, code: str, *, once: bool = False) -> Program:
    return Program("test", ["-c", code], folder, {}, once=once)


WAITS = "import signal; signal.pause()"


def test_what_ends_by_itself_is_noted_and_what_was_harmed_is_not(tmp_path: Path) -> None:
    """The second process ends by itself: it finds the mark of the first one."""
    mark = tmp_path / "mark"
    code = f"import os, signal, sys\nif os.path.exists({str(mark)!r}): sys.exit(3)\n"
    code += f"open({str(mark)!r}, 'w').close()\nsignal.pause()"

    async def play() -> list[int]:
        program = make_program(tmp_path, code)
        program.start()
        try:
            async with asyncio.timeout(LIMIT):
                await until(mark.exists)
                assert await program.harm(signal.SIGKILL, away=0.0, patience=5.0)
                assert program.ended == []
                await until(lambda: program.ended)
        finally:
            await program.destroy()
        return program.ended

    assert asyncio.run(play())[0] == 3


def test_what_does_not_heed_sigterm_is_killed(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); open({str(ready)!r}, 'w').close(); "
    code += "signal.pause()"

    async def play() -> None:
        program = make_program(tmp_path, code)
        program.start()
        try:
            async with asyncio.timeout(LIMIT):
                await until(ready.exists)
                assert await program.harm(signal.SIGTERM, away=LIMIT, patience=0.1)
            assert program.ended == []
        finally:
            await program.destroy()

    asyncio.run(play())


def test_what_is_done_is_not_started_again(tmp_path: Path) -> None:
    async def play() -> None:
        program = make_program(tmp_path, "print('done')", once=True)
        program.start()
        async with asyncio.timeout(LIMIT):
            await until(lambda: program.is_done)
        await program.destroy()

    asyncio.run(play())
    assert (tmp_path / "test.log").read_text(encoding="utf-8") == "done\n"


def test_the_guard_ends_all_and_removes_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / f"{guard.PREFIX}test"
    folder.mkdir()
    stranger = subprocess.Popen([sys.executable, "-c", WAITS, str(tmp_path)])
    ours = subprocess.Popen([sys.executable, "-c", WAITS, str(folder / "data")])
    try:
        command = [sys.executable, "-m", "chaos.guard", str(folder)]
        subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, check=True, timeout=LIMIT)
        assert ours.wait(LIMIT) == -signal.SIGKILL
        assert stranger.poll() is None
        assert not folder.exists()
    finally:
        for process in (stranger, ours):
            process.kill()
            process.wait()
