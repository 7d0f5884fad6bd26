"""Run workflows on real servers while everything is killed, and check that all ends right.

The servers are private ones. They are removed afterwards, whatever happens.

python -m chaos [--database postgres,mysql] [--workflows N] [--minutes N] [--seed N] [--harm KINDS]
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
from pathlib import Path

from chaos.campaign import ChaosReport, Extent, run_campaign
from chaos.plan import KINDS
from chaos.servers import ServerFailed, ServerMissing
from chaos.stage import DATABASES, ROLES

SUCCESS, VIOLATED, NOT_RUN = 0, 1, 2
"""Exit codes: all is right; something is wrong; the servers cannot be started."""


def main() -> int:
    """Run the campaigns that the arguments ask for, and print a table. Returns the exit code."""
    options = _read_arguments()
    extent = Extent(
        workflows=options.workflows,
        seconds=options.minutes * 60,
        gap=options.gap,
        each=options.each,
        roles=tuple(options.roles),
        kinds=tuple(options.harm),
        patience=options.patience,
    )
    reports = list[ChaosReport]()
    for database in options.database:
        print(f"{database}: seed {options.seed}, {extent}", flush=True)
        try:
            reports.append(asyncio.run(_run(database, options, extent)))
        except (ServerMissing, ServerFailed) as error:
            print(f"{database}: {error}", file=sys.stderr)
            return NOT_RUN
        except asyncio.CancelledError:
            print("ended by a signal", file=sys.stderr)
            return NOT_RUN
    print_table(reports)
    return VIOLATED if any(report.violations for report in reports) else SUCCESS


async def _run(database: str, options: argparse.Namespace, extent: Extent) -> ChaosReport:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    logs = options.logs / database if options.logs else None
    return await run_campaign(database, options.seed, extent, lambda line: print(line, flush=True), logs)


def print_table(reports: list[ChaosReport]) -> None:
    """Print what came of each campaign, and everything that is wrong."""
    if not reports:
        return
    rows = [("", *(report.database for report in reports))]
    rows.append(("workflows", *(str(report.workflows) for report in reports)))
    rows.append(("of these unknown to clients", *(str(report.orphans) for report in reports)))
    rows.append(("outcomes asked for again", *(str(report.asked) for report in reports)))
    rows.append(("attempts of tasks", *(str(report.attempts) for report in reports)))
    rows.append(("attempts that began once more", *(str(report.again) for report in reports)))
    rows += [(kind, *(str(report.done[kind]) for report in reports)) for kind in KINDS]
    rows.append(("servers that needed a restart", *(str(report.restarted) for report in reports)))
    rows.append(("rules checked", *(str(report.evaluated.total()) for report in reports)))
    rows.append(("violations", *(str(len(report.violations)) for report in reports)))
    rows.append(("seconds", *(f"{report.seconds:.0f}" for report in reports)))
    for first, *others in rows:
        print(f"{first:<32}{''.join(f'{each:>12}' for each in others)}")
    for report in reports:
        for violation in report.violations:
            print(f"{report.database}: {violation}")


def _read_arguments() -> argparse.Namespace:
    def read_names(allowed: tuple[str, ...], text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(allowed)}")
        return names

    def read_positive(text: str) -> float:
        value = float(text)
        if not 0 < value < 1e6:
            raise argparse.ArgumentTypeError(f"{text} is not above zero")
        return value

    def read_count(text: str) -> int:
        return max(1, int(read_positive(text)))

    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__.split("\n")[0] if __doc__ else "")
    kinds, every = tuple(KINDS), ",".join(KINDS)
    parser.add_argument(
        "--database", type=lambda text: read_names(DATABASES, text), default=list(DATABASES), help="one or several"
    )
    parser.add_argument("--workflows", type=read_count, default=1000, help="how many in all (default 1000)")
    parser.add_argument("--minutes", type=read_positive, default=5.0, help="how long harm is done (default 5)")
    parser.add_argument("--seed", type=int, default=random.Random().randrange(1_000_000), help="of the plan")
    parser.add_argument("--gap", type=read_positive, default=5.0, help="seconds between two acts (default 5)")
    parser.add_argument("--each", type=read_count, default=2, help="workers of each role (default 2)")
    parser.add_argument(
        "--roles", type=lambda text: read_names(ROLES, text), default=list(ROLES), help=f"out of {','.join(ROLES)}"
    )
    parser.add_argument(
        "--harm", type=lambda text: read_names(kinds, text), default=list(KINDS), help=f"out of {every}"
    )
    parser.add_argument(
        "--patience", type=read_positive, default=240.0, help="seconds to wait in the end (default 240)"
    )
    parser.add_argument("--logs", type=Path, help="a folder that gets a copy of all logs")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
