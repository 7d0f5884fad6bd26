"""Measure a tag with a million members, beside the database's own bulk insert, in turn.

Prints a table with the spread.

python -m bench.tags [--runs N] [--members N] [--only postgres,sqlite] [--output FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench import servers
from bench.report import Report, run

MIB = 1024 * 1024


def measure(report: Report, database: str, members: str, runs: int) -> None:
    """One database: the floor and ours in turn."""
    pairs = [
        (run("bench.tag_floor", database, members), run("bench.tag_workloads", database, members)) for _ in range(runs)
    ]
    name = f"{int(members):,} members, {database}"
    report.add(name, "bulk insert, rows/s", [floor["per_s"] for floor, _ in pairs])
    report.add(name, "added, members/s", [ours["add_per_s"] for _, ours in pairs])
    report.add(name, "times the bulk insert", [ours["add_per_s"] / floor["per_s"] for floor, ours in pairs], "≥ 0.50")
    for what, key in (("added again", "repeat"), ("read", "page"), ("removed", "remove"), ("purged", "purge")):
        report.add(name, f"{what}, members/s", [ours[f"{key}_per_s"] for _, ours in pairs])
    report.add(name, "counted in, ms", [ours["count_ms"] for _, ours in pairs])
    for what, key in (("adding again", "update"), ("reading", "page")):
        growth = [ours[f"{key}_growth_bytes"] / MIB for _, ours in pairs]
        report.add(name, f"memory while {what}, MiB more", growth, "≤ 8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.tags", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="runs of each database (default 3)")
    parser.add_argument("--members", default="1000000", help="members of the tag (default 1000000)")
    parser.add_argument("--only", default=",".join(servers.STORAGES), help="databases, e.g. postgres,sqlite")
    parser.add_argument("--output", type=Path, default=Path("bench-results/tags.json"))
    options = parser.parse_args()
    report = Report("Tags")
    for database in options.only.split(","):
        measure(report, database, options.members, options.runs)
    report.publish(options.output)


if __name__ == "__main__":
    main()
