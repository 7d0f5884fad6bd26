"""Publishing to several topics at once (PUB)."""

from __future__ import annotations

import pytest

from infinitic.errors import UsageError
from infinitic.ids import new_id
from infinitic.topics import Topic
from infinitic.transport import Message, MessageTooLarge, TransportClosed, UnknownTopic
from infinitic_testing.conformance.transport_bench import (
    KEYED,
    SHARED,
    TransportBench,
    TransportSuite,
    make_mail,
    read_names,
    rule,
)


class SeveralTopicsRules(TransportSuite):
    """Rules PUB."""

    @rule
    async def test_pub_1_all_topics_have_accepted_theirs_in_order(self, bench: TransportBench) -> None:
        """PUB-1."""
        one, other, third = await bench.declare_topic(), await bench.declare_topic(), await bench.declare_topic(SHARED)
        publisher = bench.connect()
        batches = [(one, make_mail("a1", "a2", "a3")), (other, make_mail("a4", "a5")), (third, make_mail("b1"))]
        assert await publisher.publish_all(batches) == [None, None, None]
        await publisher.close()
        assert read_names(await (await bench.join(one)).take(3)) == ["a1", "a2", "a3"]
        assert read_names(await (await bench.join(other)).take(2)) == ["a4", "a5"]
        assert read_names(await (await bench.join(third)).take(1)) == ["b1"]

    @rule
    async def test_pub_1_nothing_is_a_batch_too(self, bench: TransportBench) -> None:
        """PUB-1."""
        one, other = await bench.declare_topic(), await bench.declare_topic()
        assert await bench.one.publish_all([]) == []
        assert await bench.one.publish_all([(one, []), (other, make_mail("a1"))]) == [None, None]
        assert read_names(await (await bench.join(other)).take(1)) == ["a1"]
        await (await bench.join(one)).expect_nothing()

    @rule
    async def test_pub_2_what_is_refused_is_named_and_the_rest_arrives(self, bench: TransportBench) -> None:
        """PUB-2."""
        one, other, last = await bench.declare_topic(), await bench.declare_topic(), await bench.declare_topic()
        unknown = Topic(f"conformance:{new_id()}", KEYED, "main")
        large = Message("large", "k", bytes(bench.capabilities.max_payload + 1))
        batches = [
            (unknown, make_mail("a1")),
            (one, make_mail("a2")),
            (other, [*make_mail("a3"), large]),
            (last, make_mail("a4")),
        ]
        missing, accepted, refused, also_accepted = await bench.one.publish_all(batches)
        assert isinstance(missing, UnknownTopic)
        assert isinstance(refused, MessageTooLarge)
        assert refused.topic == other.name
        assert (accepted, also_accepted) == (None, None)
        assert read_names(await (await bench.join(one)).take(1)) == ["a2"]
        assert read_names(await (await bench.join(last)).take(1)) == ["a4"]
        # Nothing of the batch that was refused was sent.
        await (await bench.join(other)).expect_nothing()

    @rule
    async def test_pub_3_a_topic_comes_once(self, bench: TransportBench) -> None:
        """PUB-3."""
        one, other = await bench.declare_topic(), await bench.declare_topic()
        with pytest.raises(UsageError):
            await bench.one.publish_all([(one, make_mail("a1")), (other, make_mail("a2")), (one, make_mail("a3"))])
        for topic in (one, other):
            await (await bench.join(topic)).expect_nothing()

    @rule
    async def test_pub_4_a_closed_connection_says_so(self, bench: TransportBench) -> None:
        """PUB-4."""
        one, other = await bench.declare_topic(), await bench.declare_topic()
        publisher = bench.connect()
        await publisher.close()
        with pytest.raises(TransportClosed):
            await publisher.publish_all([(one, make_mail("a1")), (other, make_mail("a2"))])
