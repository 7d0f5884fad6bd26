"""Messages that nobody expects: some that nobody can decode, old ones, and floods of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from infinitic.messages import control
from infinitic.messages.decoding import UndecodableMessage
from infinitic.topics import Topic
from infinitic.transport import Message
from infinitic_testing.cluster.actions.action import Action
from infinitic_testing.invariants.traffic import DECODERS

if TYPE_CHECKING:
    from infinitic_testing.cluster.nemesis import Nemesis

SENDER = "simulation"
"""Who has sent the messages of the nemesis, for observers."""

_DECODERS: Mapping[str, Callable[[bytes], object]] = {**DECODERS, "service-control": control.decode}
"""How a receiver decodes a message, by the kind of its topic."""


def _has_recorded(nemesis: Nemesis) -> bool:
    return bool(nemesis.recorded)


def _pick(nemesis: Nemesis, label: str) -> tuple[Topic, Message]:
    """Draw one of the last messages. The plain choice is the newest."""
    return nemesis.recorded[-1 - nemesis.cluster.choices.pick(label, len(nemesis.recorded))]


async def send_bad_message(nemesis: Nemesis) -> None:
    """Send a message that nobody can decode to a topic that is in use: a damaged copy, or noise."""
    choices = nemesis.cluster.choices
    topic, message = _pick(nemesis, "bad/which")
    decode = _DECODERS.get(topic.name.partition(":")[0])
    if decode is None:
        return
    body = message.body
    match choices.pick("bad/how", 5):
        case 0:
            body = b""
        case 1:
            body = body[: choices.pick("bad/length", max(1, len(body)))]
        case 2:
            # Unreadable as a whole: whoever found a request in it would answer the sender.
            body = b"\xff" + body[1:]
        case 3:
            body = b"[" * 5000
        case _:
            body = choices.stream(f"bad/{len(nemesis.injected)}").randbytes(40)
    try:
        decode(body)
    except UndecodableMessage:
        number = len(nemesis.injected) + 1
        bad = Message(f"bad-{number}", message.key, body)
        if nemesis.cluster.network.inject(SENDER, topic, [bad]):
            nemesis.injected.add(bad.id)
            nemesis.count("bad-messages")
    except Exception:  # noqa: BLE001 (it says something else to a receiver than "undecodable")
        return


async def send_late_messages(nemesis: Nemesis) -> None:
    """Send a few of the last messages again, unchanged."""
    for _ in range(1 + nemesis.cluster.choices.pick("late/count", 5)):
        if publish_again(nemesis):
            nemesis.count("late-messages")


def publish_again(nemesis: Nemesis) -> bool:
    """Publish one of the last messages again, unchanged. False if its topic is gone."""
    topic, message = _pick(nemesis, "late/which")
    return nemesis.cluster.network.inject(SENDER, topic, [message])


async def flood(nemesis: Nemesis) -> None:
    """Send one message to an instance again, a few hundred times."""
    choices = nemesis.cluster.choices
    hot = [each for each in nemesis.recorded if each[0].name.startswith("workflow-engine:")]
    if hot:
        topic, message = hot[-1 - choices.pick("flood/which", len(hot))]
        copies = [message] * (50 + choices.pick("flood/count", 200))
        if nemesis.cluster.network.inject(SENDER, topic, copies):
            nemesis.count("floods")


MESSAGE_ACTIONS = (
    Action("bad-messages", send_bad_message, _has_recorded, 4.0, counts_itself=True),
    Action("late-messages", send_late_messages, _has_recorded, 8.0, counts_itself=True),
    Action("floods", flood, _has_recorded, counts_itself=True),
)
