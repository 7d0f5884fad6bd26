"""Makes docs/planted-bugs.md of what was found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.simulation.planted import list_bugs
from tests.simulation.planted.hunting import MOST_SEEDS, Find

PAGE = Path(__file__).parents[3] / "docs" / "planted-bugs.md"

_TOP = f"""\
# Planted bugs

How much can simulation find? To know it, bugs are planted into the product, one at a time: into
engines, runtime, replay and adapters. Each of them is a mistake that somebody could make. Then the
scenarios of `tests/simulation/scenarios/` run in turn, each run with all faults and a seed of its
own, until a run fails. A bug must be found within {MOST_SEEDS} seeds.

There are so many scenarios that each of them has only about two of these seeds. So some parts of
the product name the scenarios that use them (`tests/simulation/planted/areas.py`). For a bug in
such a part, these take turns under the odd seeds, and all scenarios under the even ones. A few bugs
break what only one of these scenarios uses, and name it. For all other bugs, all scenarios take
turns. Seeds count from 1 for each bug.

This page is written by `make planted`. The bugs are in `tests/simulation/planted/`. *Seen by* is
the rule that failed first: an invariant, the comparison with the outcome of the run without faults,
or an error.
"""


def make_page(finds: Mapping[str, Find]) -> str:
    """Make the text of the page.

    Args:
        finds: what was found, by the names of the bugs.
    """
    lines = [_TOP]
    bugs = list_bugs()
    places = list(dict.fromkeys(bug.place for bug in bugs.values()))
    seeds = sorted(find.seeds for find in finds.values())
    if seeds:
        lines.append(
            f"{len(seeds)} of {len(bugs)} bugs were found. Half of them took {seeds[len(seeds) // 2]} seeds or fewer, "
            f"and none took more than {seeds[-1]}."
        )
        lines.append("")
    for place in places:
        lines += [f"## {place[0].upper()}{place[1:]}", "", "| bug | seeds | scenario | seen by |", "|---|---|---|---|"]
        for name, bug in bugs.items():
            if bug.place != place:
                continue
            find = finds.get(name)
            found = f"{find.seeds} | `{find.scenario}` | {find.rule}" if find else "not found | | "
            lines.append(f"| **{name}**: {bug.what[0].lower()}{bug.what[1:].rstrip('.')} | {found} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"
