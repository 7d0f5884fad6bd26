"""Shows people what a campaign found: failures first, then what was reached."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table

from infinitic.cli.output import BAD_STYLE, format_count, make_cell, make_line, make_table
from infinitic_testing.campaign.conclusion import WHOLE_CAMPAIGN, Conclusion
from infinitic_testing.campaign.failure_text import describe_found


def render_conclusion(conclusion: Conclusion) -> list[RenderableType]:
    """Render the failures of a campaign, what it has reached, and a last line that sums it up."""
    shown: list[RenderableType] = []
    for found in conclusion.failures:
        first, *rest = describe_found(found, conclusion.order.setting)
        shown += [make_line(first, BAD_STYLE), *map(make_line, rest), make_line("")]
    shown += _render_coverage(conclusion)
    shown += [make_line(problem, BAD_STYLE) for problem in conclusion.problems]
    shown.append(_summarise(conclusion))
    return shown


def _render_coverage(conclusion: Conclusion) -> list[RenderableType]:
    shown: list[RenderableType] = []
    faults = {**conclusion.fired, **dict.fromkeys(conclusion.never_fired, 0)}
    for title, counts in (("fault", faults), ("invariant", conclusion.evaluated)):
        if counts:
            shown += [_make_counts(title, counts), make_line("")]
    reached, left = len(conclusion.branches), conclusion.branches_left
    if reached:
        shown.append(make_line(f"{reached} of {reached + len(left)} branches of the engines were reached"))
        if conclusion.runs >= WHOLE_CAMPAIGN:
            shown += [make_line(f"  not reached: {name}") for name in left]
        shown.append(make_line(""))
    return shown


def _make_counts(title: str, counts: dict[str, int]) -> Table:
    table = make_table(title, "times")
    table.columns[1].justify = "right"
    for name, count in sorted(counts.items()):
        times = make_line(f"{count:,}") if count else make_line("never", BAD_STYLE)
        table.add_row(make_cell(name), times)
    return table


def _summarise(conclusion: Conclusion) -> RenderableType:
    functions = format_count(len(conclusion.order.functions), "function")
    failed = format_count(conclusion.failed, "failure") if conclusion.failed else "no failure"
    text = (
        f"{format_count(conclusion.runs, 'seed')} of {functions}, {conclusion.seeds_per_second:,.1f} seeds/s, "
        f"{format_count(conclusion.repeated, 'run')} repeated in another process: {failed}"
    )
    return make_line(text, "green" if conclusion.passed else BAD_STYLE)
