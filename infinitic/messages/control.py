"""Between the executors of one service: which of them has an attempt in hand.

The topic stores nothing, because an executor that is not subscribed has no attempts in hand. A
duplicate only repeats what is still true.

On the wire: a attempts · d attempts that are done. An attempt is (workflow id, position, run, retry
sequence, retry index).
"""

from __future__ import annotations

import msgspec

from infinitic.messages.decoding import make_decoder

Attempt = tuple[str, int, int, int, int]
"""What all deliveries of an attempt have in common.

Workflow id, position, run, retry sequence, retry index.
"""


class Ping(msgspec.Struct, frozen=True, omit_defaults=True, tag="ping", tag_field="t"):
    """Ask who has one of these attempts in hand, or has just reported it.

    An executor that was given a suspect attempt sends it to all executors of its service.
    """

    attempts: tuple[Attempt, ...] = msgspec.field(name="a")


class Alive(msgspec.Struct, frozen=True, omit_defaults=True, tag="alive", tag_field="t"):
    """Answer a `Ping`.

    The sender has `attempts` in hand, and has published the reports of those in `done`. It goes to
    all executors of the service.
    """

    attempts: tuple[Attempt, ...] = msgspec.field(name="a", default=())
    done: tuple[Attempt, ...] = msgspec.field(name="d", default=())


Control = Ping | Alive

encode = msgspec.json.Encoder().encode
decode = make_decoder(msgspec.json.Decoder(Control), "control message")
