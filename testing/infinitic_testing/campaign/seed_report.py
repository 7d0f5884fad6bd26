"""What became of one run."""

from __future__ import annotations

import msgspec

from infinitic_testing.choices import Key

FAULT_FREE_RUN = "fault-free-run"
"""The rule of a failure without any fault: the function itself is wrong, or what it calls."""

SAME_OUTCOME = "outcome-same"
"""The rule that the outcome is that of the run without faults, as `RULES` has it."""

REPRODUCIBLE = "reproducible"
"""The rule that the same seed does the same in every process."""


PROCESS_ENDED = "process-ended"
"""The rule that a run ends by itself, and not with its process."""


class SeedFailure(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a run failed.

    Attributes:
        error: the class of the error.
        rule: the rule that was broken, such as "history-gapless"; empty for other errors.
        message: the message of the error.
        place: the innermost line of the user, as `file:line`; empty: there is none.
        details: more lines for people: what each workflow waits for, the last events.
    """

    error: str
    rule: str = ""
    message: str = ""
    place: str = ""
    details: tuple[str, ...] = ()

    def is_same(self, other: SeedFailure | None) -> bool:
        """True if both are one failure: the same error and rule; without a rule, the same line."""
        if other is None or (self.error, self.rule) != (other.error, other.rule):
            return False
        return bool(self.rule) or self.place == other.place


class SeedReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one run. It can be written to a file, and sent to a process.

    Attributes:
        function: the name of the function that ran.
        seed: the seed.
        failure: why the run failed. None: it did not.
        outcome: what the function returned, as text.
        outcome_digest: a digest of the outcome, and of all that is stored at the end.
        trace_digest: a digest of all steps of the event loop.
        trace_marks: virtual times, each with a short digest of all steps until then.
        virtual_seconds: how much virtual time passed.
        fired: how often each fault happened.
        evaluated: how often each invariant was checked.
        branches: which branches of the engines were reached.
        profile: the profile of the broker.
        taken: the choices that were not plain, in order. Reports of failing runs have them.
    """

    function: str
    seed: int
    failure: SeedFailure | None = None
    outcome: str = ""
    outcome_digest: str = ""
    trace_digest: str = ""
    trace_marks: tuple[tuple[float, str], ...] = ()
    virtual_seconds: float = 0.0
    fired: dict[str, int] = {}
    evaluated: dict[str, int] = {}
    branches: frozenset[str] = frozenset()
    profile: str = ""
    taken: tuple[Key, ...] = ()

    @property
    def digest(self) -> str:
        """Both digests in one short text."""
        return f"{self.trace_digest[:8]}-{self.outcome_digest[:8]}"
