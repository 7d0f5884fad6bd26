"""How long an attempt of a task waited and ran, and where: part of reports and of the history.

No decision depends on it. It is for people who look at a run later.
"""

from __future__ import annotations

from math import trunc

import msgspec

from infinitic.bounds import NoName, Whole

NO_HEARTBEAT = msgspec.Raw()
"""What an attempt has said that has said nothing. It has to be this very object to be left out."""


class Execution(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How an attempt went. In a message it takes about 21 bytes: ``[3,41,"worker-1"]``.

    Attributes:
        queued: milliseconds from when it was sent until it began, by the clocks of the sender and
            of the worker.
        ran: milliseconds that it ran.
        worker: the name of the worker that ran it.
    """

    queued: Whole
    ran: Whole
    worker: NoName


def measure(sent_at: float, began_at: float, ended_at: float, worker: str) -> Execution:
    """Measure an attempt.

    Where two clocks differ, or one was set back, a duration would be negative. It is 0 then.

    Args:
        sent_at: when it was sent, in seconds since the Unix epoch.
        began_at: when it began, likewise.
        ended_at: when it ended, likewise.
        worker: the name of the worker that ran it.
    """
    # `int` takes twice as long as `trunc`, and `max` as long as all the rest.
    queued = trunc((began_at - sent_at) * 1000.0)
    ran = trunc((ended_at - began_at) * 1000.0)
    return Execution(queued if queued > 0 else 0, ran if ran > 0 else 0, worker)
