"""The rules that hold in every run, whatever is cut, lost, repeated or reordered."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

SAFETY: Mapping[str, str] = MappingProxyType(
    {
        # At each commit: what is written.
        "one-writer": "a change is written only over the version that it expects",
        "one-instance": "one start makes one instance, also after that was purged",
        "one-end": "an instance that is closed is never changed again",
        "history-gapless": "segments, activations and positions count on without a gap",
        "time-forward": "the time that workflow code sees never goes back",
        "command-once": "nothing is asked for twice",
        "method-once": "a method starts once and ends once",
        "run-settled": "a run begins only if the one before has asked for it, and has nothing left to do",
        "result-once": "a task gets one result, and only while it is open",
        "timer-once": "a timer fires once, and only while it is open",
        "timer-not-early": "a timer or total timeout is over only when it is due, by the clock of the engine",
        "input-known": "nothing is in a history that nobody has sent",
        "input-once": "a signal, call or command of a client is taken once",
        "signal-order": "the signals of one sender are taken in the order of sending, but for those before the start",
        "local-in-step": "a task runs as a local one only in the step that asks for it",
        "retry-counted": "each failed attempt of a task is counted once, and the next attempt has the next number",
        "delegated-once": "a task is noted as delegated once for each attempt, while it is open, and stays so",
        "reopened-failed": "only tasks that failed or were cancelled run again, each with the next retry sequence",
        "reopened-asked": "nothing is re-opened unless an operator asks for it",
        "rerun-of-failure": "code runs again only from where its first method failed, and if nothing followed",
        "retry-not-early": "an attempt is not sent before its delay is over",
        "head-matches-history": "the head says exactly what is open by the history",
        "nothing-left-open": "nothing of a closed instance is open",
        "wake-armed": "while a timer or retry is open, a wake is armed that is not later than it",
        "no-late-task": "a task that has ended is not sent again",
        "cancel-told": "what a step closes without a result is stopped wherever it runs, and nothing else is",
        "outbox-bounded": "each message of an outbox has a reason in its step",
        "outbox-drained": "the outbox of a step is published before the next step is written",
        "mark-true": "an outbox is marked as published only if it was",
        "events-published": "what a step tells event listeners is published before the next step is written",
        "unique-holder": "of the instances with one custom id, one runs at a time",
        # At each publish.
        "cause-durable": "nothing is published before its cause is in the storage",
        "report-asked": "an attempt is reported only if it was sent",
        "event-known": "listeners are told only what is in a step that is written",
        "event-stable": "an event that is published again is the same",
        "event-before-report": "listeners are told of the end of an attempt before it is reported",
        "one-answer": "all answers to one request tell of the same end",
        "told-unknown": "a client is told that a workflow is unknown only if it is",
        "query-same": "a replay of the history gives the same answer to a query",
        "query-fresh": "an answer to a query knows all that was taken before the query was sent",
        "dead-letter-deserved": "only messages that cannot be handled become dead letters",
        # At each delivery.
        "delay-kept": "a delayed message comes no earlier than the broker may deliver it",
        # At each acknowledgement.
        "ack-after-commit": "an input is acknowledged only after what it does is in the storage",
        "ack-after-publish": "an input is acknowledged only after the outbox of its step is published",
        "attempt-kept": "an attempt is acknowledged only after a report or copy is published, or its task is cancelled",
        "activation-kept": "an activation is acknowledged only after its decision or a copy of it is published",
        "question-kept": "a query is acknowledged by an executor only after its answer or a copy of it is published",
        "wake-kept": "the wake that is armed is acknowledged only if it did its work or comes again",
        # Processes.
        "dead-silent": "a process that was killed does nothing more, but for what was on its way",
        "replay-same": "a replay of the history gives the same commands",
    }
)
"""What is checked as things take effect: the names of the rules, each with what it says."""

HEALED: Mapping[str, str] = MappingProxyType(
    {
        "all-end": "each instance ends, or waits for a signal or for somebody who hosts what it needs",
        "history-kept": "what was written is still there, byte for byte",
        "run-told": "the document of a run tells what head and history hold, as does that of a part",
        "all-forgotten": "what has expired is removed, with all that was kept of it",
        "tags-true": "running instances have their tags and their custom id, and closed ones have none",
        "task-tags-true": "open tasks have their tags, and those that have completed or were cancelled have none",
        "queues-empty": "no message waits, is in hand, or is delayed",
        "memory-empty": "workers hold no message, no task and no instance that nobody needs",
        "log-clean": "the log has no error and no traceback for what is no error",
        "events-heard": "each listener is told of all that has happened since it first subscribed",
        "no-orphan": "an instance whose parent has closed has ended, or was told to end",
        "outcome-same": "the outcome is that of a run without faults",
    }
)
"""What is checked when all faults are over and all work is done."""

RULES: Mapping[str, str] = MappingProxyType({**SAFETY, **HEALED})
"""All rules."""
