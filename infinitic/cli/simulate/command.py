"""``infinitic simulate``: run tests and other functions under many seeds, with faults.

Nothing here needs a broker or a database: each run is a simulation, in a process of its own.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from infinitic.cli.error_handling import exit_on_error
from infinitic.cli.exit_codes import FAILED
from infinitic.cli.options import JsonOption
from infinitic.cli.output import show
from infinitic.errors import UsageError

DEFAULT_SEEDS = 100
MOST_JOBS = 256

PlaceArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODULE",
        help="A module, file, package or folder. Its functions are those that take only `sim`.",
        show_default=False,
    ),
]
SeedsOption = Annotated[
    int, typer.Option("--seeds", help="How many runs. Each has the next seed, and the functions take turns.")
]
FirstOption = Annotated[int, typer.Option("--first", help="The first seed.")]
FaultsOption = Annotated[
    str, typer.Option("--faults", help='What may go wrong: "all", "none", "all,-pauses", "duplicates,power-cuts".')
]
ProfileOption = Annotated[
    str | None,
    typer.Option("--profile", help="How the broker behaves: fifo, seeded, pulsar or one-database. Drawn if not given."),
]
CacheSizeOption = Annotated[
    int | None,
    typer.Option("--cache-size", help="How many instances stay in memory. Drawn if it is not given."),
]
CodecOption = Annotated[
    str | None, typer.Option("--codec", metavar="MODULE:NAME", help="Encodes payloads: a PayloadCodec or its class.")
]
LocalOption = Annotated[
    str | None,
    typer.Option("--local", help="Run tasks as local ones: all that can be, or some. By default: those declared so."),
]
FunctionOption = Annotated[
    list[str] | None, typer.Option("--function", metavar="NAME", help="Only this function. Can be repeated.")
]
JobsOption = Annotated[
    int, typer.Option("--jobs", help="How many processes run seeds. 0: as many as there are processors.")
]
OutputOption = Annotated[
    Path, typer.Option("--output", metavar="FOLDER", help="Where files of failing runs are written.")
]
ReplayOption = Annotated[
    Path | None, typer.Option("--replay", metavar="FILE", help="Run a failing run again, from its file.")
]
ResumeOption = Annotated[
    Path | None,
    typer.Option("--resume", metavar="FILE", help="Note in this file what is done, and go on from there next time."),
]


def command(
    module: PlaceArgument = "",
    seeds: SeedsOption = DEFAULT_SEEDS,
    first: FirstOption = 0,
    faults: FaultsOption = "all",
    profile: ProfileOption = None,
    cache_size: CacheSizeOption = None,
    codec: CodecOption = None,
    local: LocalOption = None,
    function: FunctionOption = None,
    jobs: JobsOption = 0,
    output: OutputOption = Path("infinitic-seeds"),
    replay: ReplayOption = None,
    resume: ResumeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run tests under many seeds, with faults, and explain what fails. Needs no server."""
    with exit_on_error():
        # All this is imported only for a command that is right so far.
        if replay is not None:
            _replay(module, replay, as_json)
            return
        if not module:
            raise UsageError("Give the MODULE whose functions are to be run, such as tests/test_trips.py")
        if not 0 <= jobs <= MOST_JOBS:
            raise UsageError(f"--jobs takes a number from 0 to {MOST_JOBS}, not {jobs:,}")

        from infinitic.cli.simulate.campaigning import run_campaign
        from infinitic.cli.simulate.rendering import render_conclusion
        from infinitic_testing.campaign.order import make_order
        from infinitic_testing.campaign.setting import Setting

        setting = Setting(faults=faults, profile=profile, cache_size=cache_size, codec=codec, local=local)
        order = make_order(module, setting, names=function, first=first, seeds=seeds)
        conclusion = run_campaign(order, jobs or os.cpu_count() or 1, output, resume)
        show(conclusion, as_json, render_conclusion)
        if conclusion.interrupted:
            raise KeyboardInterrupt
        if not conclusion.passed:
            raise typer.Exit(FAILED)


def _replay(module: str, file: Path, as_json: bool) -> None:
    if module:
        raise UsageError("Give either a MODULE or --replay FILE: the file names its function")

    from infinitic.cli.simulate.replaying import replay_run
    from infinitic_testing.campaign.replay_file import ReplayFile

    content = ReplayFile.read(file)
    if "::" in content.function:
        test, shown = shlex.quote(content.function), shlex.quote(str(file))
        raise UsageError(f"{file} is of a test of pytest: run pytest {test} --infinitic-seed {shown}")
    outcome = replay_run(content)
    show(outcome, as_json, lambda found: found.render())
    if outcome.report.failure is not None:
        raise typer.Exit(FAILED)
