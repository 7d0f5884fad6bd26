"""Tells people why a run failed, and how to run it again."""

from __future__ import annotations

import platform
import shlex
from collections import Counter
from collections.abc import Iterable

from infinitic_testing.campaign.found_failure import FoundFailure, Repetition
from infinitic_testing.campaign.seed_report import FAULT_FREE_RUN, SeedReport
from infinitic_testing.campaign.setting import Setting
from infinitic_testing.invariants import RULES
from infinitic_testing.release import find_release

_WIDTH = 12
"""Columns of the words at the left."""

_MOST_LABELS = 12
"""How many kinds of choices are named."""


def write_command(report: SeedReport, setting: Setting) -> str:
    """Write the command that runs a seed again, as one line to paste. Versions are in a comment."""
    words = ["infinitic", "simulate", report.function, "--first", str(report.seed), "--seeds", "1"]
    words += ["--faults", setting.faults]
    if setting.profile is not None:
        words += ["--profile", setting.profile]
    if setting.cache_size is not None:
        words += ["--cache-size", str(setting.cache_size)]
    if setting.local is not None:
        words += ["--local", setting.local]
    if setting.codec is not None:
        words += ["--codec", setting.codec]
    versions = f"infinitic {find_release()}, Python {platform.python_version()}, digest {report.digest}"
    return f"{shlex.join(words)}  # {versions}"


def describe_seed(
    report: SeedReport, setting: Setting, *, first: SeedReport | None = None, command: str | None = None
) -> list[str]:
    """Describe why a run failed, in lines for a person who uses the framework.

    Args:
        report: of the run.
        setting: how it was made.
        first: of the run that was made small. None: `report` is no small run.
        command: runs it again. None: that of `write_command`.
    """
    failure = report.failure
    assert failure is not None
    name = report.function.rpartition(":")[2]
    lines = [f"{name} fails under seed {report.seed}: {failure.error}{_in_brackets(failure.rule)}"]
    lines += _add("run again", command or write_command(first or report, setting))
    lines += _add("rule", RULES.get(failure.rule, ""))
    lines += _add("why", failure.message)
    lines += _add("your line", failure.place)
    if failure.rule != FAULT_FREE_RUN:
        lines += _add("time", f"{report.virtual_seconds:g} s of virtual time")
        lines += _add("broker", report.profile and f"profile {report.profile}")
        lines += _add("faults", _list_counts(report.fired) or "none happened")
    for detail in failure.details:
        lines += [f"  {line}" for line in detail.splitlines()]
    return lines


def describe_found(
    found: FoundFailure, setting: Setting, *, command: str | None = None, small_command: str | None = None
) -> list[str]:
    """Describe a kind of failure of a campaign: what to know first, the run, and its small form.

    Args:
        found: the failure.
        setting: how the runs of the campaign were made.
        command: runs the seed again. None: that of `write_command`.
        small_command: runs the small form again. None: ``infinitic simulate`` with its file.
    """
    lines: list[str] = []
    shown, small = found.shown, found.small
    if found.repeats is Repetition.NO:
        lines.append(
            "This failure did not come again when the seed was run once more: "
            "something in the run comes from outside, such as the clock or a random number"
        )
    lines += describe_seed(shown, setting, first=found.report, command=command)
    if small is not None:
        assert small.setting.only is not None
        kept = Counter(label for label, _ in small.setting.only)
        what = _list_counts(kept) or "none: it fails without any fault or delay"
        end = "" if small.is_smallest else "; there was no time to find fewer"
        lines += _add("needs", f"{what} (found in {small.runs} runs{end})")
        lines += _add("at first", f"{_list_counts(found.report.fired) or 'no fault'} happened in this run")
    if small_command is None:
        small_command = found.file and f"infinitic simulate --replay {shlex.quote(found.file)}"
    lines += _add("small run", small_command)
    if found.times > 1:
        lines += _add("how often", f"{found.times:,} runs failed like this")
    return lines


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def _add(word: str, text: str) -> Iterable[str]:
    """Put a word before a text. Nothing if there is no text."""
    first, *rest = text.splitlines() or [""]
    if first:
        yield f"  {word:{_WIDTH}}{first}"
        yield from (f"  {'':{_WIDTH}}{line}" for line in rest)


def _list_counts(counts: dict[str, int] | Counter[str]) -> str:
    """List how often each thing was: "duplicates 3, pauses 1"."""
    listed = [f"{name} {count:,}" for name, count in sorted(counts.items()) if count]
    more = len(listed) - _MOST_LABELS
    return ", ".join(listed[:_MOST_LABELS] + ([f"and {more} more"] if more > 0 else []))
