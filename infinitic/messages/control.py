"""Between the executors of one service: who has an attempt in hand. Ephemeral: who is not there need not know.

On the wire: a attempts · d attempts that are done. An attempt is (workflow id, position, run, retry sequence, retry
index).
"""

from __future__ import annotations

import msgspec

from infinitic.messages.decoding import make_decoder

Attempt = tuple[str, int, int, int, int]
"""Workflow id, position, run, retry sequence, retry index: what all deliveries of an attempt have in common."""


class Ping(msgspec.Struct, frozen=True, omit_defaults=True, tag="ping", tag_field="t"):
    """Who has one of these in hand, or has just reported it?"""

    attempts: tuple[Attempt, ...] = msgspec.field(name="a")


class Alive(msgspec.Struct, frozen=True, omit_defaults=True, tag="alive", tag_field="t"):
    """The sender has `attempts` in hand, and has published the reports of those in `done`."""

    attempts: tuple[Attempt, ...] = msgspec.field(name="a", default=())
    done: tuple[Attempt, ...] = msgspec.field(name="d", default=())


Control = Ping | Alive

encode = msgspec.json.Encoder().encode
decode = make_decoder(msgspec.json.Decoder(Control), "control message")
