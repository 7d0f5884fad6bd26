"""To all executors of one service: who has an attempt in hand, and which tasks are cancelled.

The topic stores nothing, because an executor that is not subscribed has no attempts in hand. A
duplicate only repeats what is still true.

On the wire: a attempts · d attempts that are done · g newest guards · w workflow id · u run ·
p cancelled tasks. An attempt is (workflow id, position, run, retry sequence, retry index).
"""

from __future__ import annotations

import msgspec

from infinitic.bounds import Name, Whole
from infinitic.messages.decoding import make_decoder

Attempt = tuple[str, int, int, int, int]
"""What all deliveries of an attempt have in common.

Workflow id, position, run, retry sequence, retry index.
"""


class Ping(msgspec.Struct, frozen=True, omit_defaults=True, tag="ping", tag_field="t"):
    """Ask who has one of these attempts in hand, or has just reported it.

    An executor that was given a suspect attempt sends it to all executors of its service. `guards`
    are the numbers of the guards that it was given of `attempts`; those that are left out at the
    end are 0. Who was given a newer guard answers as if it had the attempt in hand.
    """

    attempts: tuple[Attempt, ...] = msgspec.field(name="a")
    guards: tuple[Whole, ...] = msgspec.field(name="g", default=())


class Alive(msgspec.Struct, frozen=True, omit_defaults=True, tag="alive", tag_field="t"):
    """Answer a `Ping`.

    The sender has `attempts` in hand, and has published the reports of those in `done`. It goes to
    all executors of the service. `guards` are the numbers of the newest guards of `attempts`; those
    that are left out at the end are 0.
    """

    attempts: tuple[Attempt, ...] = msgspec.field(name="a", default=())
    done: tuple[Attempt, ...] = msgspec.field(name="d", default=())
    guards: tuple[Whole, ...] = msgspec.field(name="g", default=())


class CancelTasks(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag="cancel", tag_field="t"):
    """Stop these tasks of one instance: nobody waits for them any more. State engines send it.

    An executor remembers it for some minutes, since it may overtake the message of an attempt.
    Nobody else has to: an attempt that runs all the same is reported to a closed position.

    Attributes:
        workflow_id: the instance.
        run: which run of it.
        tasks: position and retry sequence of each. An attempt with a higher retry sequence was
            asked for later, and is not meant.
    """

    workflow_id: Name = msgspec.field(name="w")
    run: Whole = msgspec.field(name="u", default=0)
    tasks: tuple[tuple[Whole, Whole], ...] = msgspec.field(name="p")


class AttemptsLost(msgspec.Struct, frozen=True, omit_defaults=True, tag="lost", tag_field="t"):
    """These attempts are over: stop what runs them.

    They were reported as failed, since nobody knew of them. Or an executor that ends has reported
    them, and their guards may still come. An executor sends it. Nobody has to hear it: what comes
    of these attempts changes nothing.
    """

    attempts: tuple[Attempt, ...] = msgspec.field(name="a")


Control = Ping | Alive | CancelTasks | AttemptsLost

encode = msgspec.json.Encoder().encode
decode = make_decoder(msgspec.json.Decoder(Control), "control message")
