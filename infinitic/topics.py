"""The topics that exist, by what they are for.

Names of topics are any text. Adapters encode them if their broker allows fewer characters.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache

import msgspec


class Ordering(Enum):
    """How the messages of a topic are spread over the consumers of a subscription."""

    SHARED = "shared"
    """Each message to any consumer, in no promised order."""

    KEYED = "keyed"
    """All unsettled messages of a key to one consumer, in publish order."""


class Topic(msgspec.Struct, frozen=True):
    """A topic, as a value.

    Attributes:
        name: its name.
        ordering: how its messages are spread over consumers.
        subscription: the main subscription, which keeps what is published. None: the topic is
            *ephemeral*, and vanishes with its last subscriber.
    """

    name: str
    ordering: Ordering
    subscription: str | None

    def __hash__(self) -> int:
        return hash(self.name)


STATE_ENGINE = "state-engine"
"""The subscription of state engines."""

TAG_ENGINE = "tag-engine"
"""The subscription of tag engines."""

_FOR_LISTENERS = ("workflow-events:", "service-events:")

DEAD_LETTERS = "dlq:"
"""It stands before the name of a topic. At the end, it could be part of the name of a workflow."""


@lru_cache(4096)
def workflow_engine(workflow: str) -> Topic:
    """Everything that may change an instance of this workflow, keyed by instance id."""
    return Topic(f"workflow-engine:{workflow}", Ordering.KEYED, STATE_ENGINE)


@lru_cache(4096)
def workflow_executor(workflow: str) -> Topic:
    """Activations for workflow code that runs on another worker than its state engine."""
    return Topic(f"workflow-executor:{workflow}", Ordering.KEYED, "workflow-executor")


@lru_cache(4096)
def workflow_version(workflow: str, version: int) -> Topic:
    """Activations for code of this version that came to workers without it.

    They wait here for a worker that has it.
    """
    return Topic(f"workflow-version:{version}:{workflow}", Ordering.SHARED, "workflow-version")


@lru_cache(4096)
def workflow_tag(workflow: str) -> Topic:
    """Who has a tag or a custom id of this workflow, keyed by the tag or custom id."""
    return Topic(f"workflow-tag:{workflow}", Ordering.KEYED, TAG_ENGINE)


@lru_cache(4096)
def service_executor(service: str) -> Topic:
    """Attempts of the tasks of this service."""
    return Topic(f"service-executor:{service}", Ordering.SHARED, "service-executor")


@lru_cache(4096)
def service_control(service: str) -> Topic:
    """What the executors of this service ask one another. It vanishes with the last of them."""
    return Topic(f"service-control:{service}", Ordering.SHARED, None)


@lru_cache(4096)
def service_tag(service: str) -> Topic:
    """Which tasks of this service have a tag, keyed by the tag."""
    return Topic(f"service-tag:{service}", Ordering.KEYED, TAG_ENGINE)


@lru_cache(4096)
def workflow_events(workflow: str) -> Topic:
    """What happened to instances of this workflow, for event listeners.

    It has no main subscription: each listener has one of its own. So nothing is kept while there is
    no listener.
    """
    return Topic(f"workflow-events:{workflow}", Ordering.SHARED, None)


@lru_cache(4096)
def service_events(service: str) -> Topic:
    """What happened to tasks of this service, for event listeners, as `workflow_events`."""
    return Topic(f"service-events:{service}", Ordering.SHARED, None)


def is_for_listeners(topic: Topic) -> bool:
    """True for the topics of events: `workflow_events` and `service_events`."""
    return topic.subscription is None and topic.name.startswith(_FOR_LISTENERS)


@lru_cache(4096)
def client(name: str) -> Topic:
    """Responses to one client. It vanishes with the client."""
    return Topic(f"client:{name}", Ordering.SHARED, None)


def dead_letters(topic: Topic) -> Topic:
    """Where the messages of `topic` go that could not be handled."""
    return Topic(DEAD_LETTERS + topic.name, Ordering.SHARED, "dead-letters")
