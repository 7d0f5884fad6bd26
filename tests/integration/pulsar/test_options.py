"""Each option of the client library is a setting of ours, or there is a reason why it is none."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from infinitic_transports.pulsar import PulsarSettings, configuration
from infinitic_transports.pulsar.settings import ClientOptions, ConsumerOptions, ProducerOptions, PulsarTls

LIBRARY: Any = pytest.importorskip("_pulsar")

CLIENT = {
    "authentication": "`authentication`",
    "message_listener_threads": "one: its callbacks only hand over to the event loop",
    "set_console_logger": "it writes to the standard output: `log_path` can name /dev/stderr",
    "set_file_logger": "`log_path` and `log_level`",
    "set_logger": "a logger of Python has led to deadlocks in threads of the library",
    "tls_certificate_file_path": "`authentication` of type tls, which REST uses as well",
    "tls_private_key_file_path": "`authentication` of type tls, which REST uses as well",
}
PRODUCER = {
    "access_mode": "shared: many workers publish to a topic",
    "batching_type": "by key: another would bring a key to several consumers",
    "block_if_queue_full": "never: it would block the event loop; the adapter waits",
    "chunking_enabled": "never: it excludes batches, and large payloads are refused by `max_message_size_bytes`",
    "crypto_key_reader": "payloads are encrypted by a codec of Infinitic, for every transport",
    "encryption_key": "payloads are encrypted by a codec of Infinitic, for every transport",
    "initial_sequence_id": "deduplication is by message ids, in the engine",
    "lazy_start_partitioned_producers": "all partitions of a topic are in use",
    "max_pending_messages_across_partitions": "the adapter bounds what is under way of a topic itself",
    "message_router": "by the hash of the key, the same for all",
    "partitions_routing_mode": "by the hash of the key, the same for all",
    "producer_name": "chosen by the broker: two of one name would shut each other out",
    "property": "nobody reads it",
    "schema": "bytes: Infinitic codes messages itself",
}
CONSUMER = {
    "auto_ack_oldest_chunked_message_on_queue_full": "there are no chunks",
    "batch_index_ack_enabled": "always: each message of a batch is acknowledged by itself",
    "batch_receive_policy": "the adapter gathers batches itself",
    "broker_consumer_stats_cache_time_ms": "figures come by REST",
    "consumer_name": "chosen by the library",
    "consumer_type": "by the topic: Shared or Key_Shared",
    "crypto_failure_action": "payloads are encrypted by a codec of Infinitic, for every transport",
    "crypto_key_reader": "payloads are encrypted by a codec of Infinitic, for every transport",
    "dead_letter_policy": "the engine publishes dead letters itself: those of the library rest on nack",
    "key_shared_policy": "fixed: all consumers of a subscription must have the same, in order",
    "max_pending_chunked_message": "there are no chunks",
    "max_total_receiver_queue_size_across_partitions": "follows from `receiver_queue_size` and `partitions`",
    "message_listener": "the adapter asks for messages",
    "negative_ack_redelivery_delay_ms": "the adapter holds what is to come again: a nack of the library ends order",
    "pattern_auto_discovery_period": "topics are subscribed to by name",
    "property": "nobody reads it",
    "read_compacted": "topics are not compacted",
    "regex_subscription_mode": "topics are subscribed to by name",
    "replicate_subscription_state_enabled": "a cluster of its own: state is in one database",
    "schema": "bytes: Infinitic codes messages itself",
    "start_message_id_inclusive": "subscriptions begin at the earliest message",
    "subscription_initial_position": "earliest: nothing is lost that came before",
    "unacked_messages_timeout_ms": "none: a long task is no failure; what is in hand goes back when the process ends",
}
OURS = {
    "stats_interval_in_seconds": "stats_interval_seconds",
    "connection_timeout": "connection_timeout_seconds",
    "send_timeout_millis": "send_timeout_seconds",
    "compression_type": "compression",
    "batching_enabled": "batching",
    "batching_max_allowed_size_in_bytes": "batching_max_size_bytes",
    "tls_trust_certs_file_path": "trust_certs",
    "tls_allow_insecure_connection": "allow_insecure",
    "tls_validate_hostname": "validate_hostname",
}


@pytest.mark.parametrize(
    ("theirs", "ours", "reasons", "source"),
    [
        ("ClientConfiguration", (ClientOptions, PulsarTls), CLIENT, configuration),
        ("ProducerConfiguration", (ProducerOptions,), PRODUCER, configuration),
        ("ConsumerConfiguration", (ConsumerOptions,), CONSUMER, configuration),
    ],
)
def test_every_option_is_a_setting_or_has_a_reason(
    theirs: str, ours: tuple[Any, ...], reasons: dict[str, str], source: Any
) -> None:
    options = {name for name in dir(getattr(LIBRARY, theirs)) if not name.startswith("_")}
    fields = {name for model in ours for name in model.model_fields}
    reachable = {name for name in options if OURS.get(name, name) in fields}
    assert options - reachable == set(reasons)
    unused = [name for name in reachable if f"conf.{name}(" not in inspect.getsource(source)]
    assert unused == []


def test_the_library_takes_every_setting() -> None:
    settings = PulsarSettings.model_validate(
        {
            "client": {
                "io_threads": 2,
                "operation_timeout_seconds": 3,
                "connection_timeout_seconds": 0.5,
                "concurrent_lookup_requests": 5,
                "listener_name": "internal",
                "stats_interval_seconds": 7,
                "log_level": "warn",
                "log_path": "/dev/stderr",
            },
            "producer": {
                "send_timeout_seconds": 1.5,
                "compression": "zstd",
                "batching_max_messages": 5,
                "batching_max_size_bytes": 6,
                "batching_max_publish_delay_ms": 7,
                "max_pending_messages": 8,
            },
            "tls": {"trust_certs": "/ca.pem", "validate_hostname": False, "allow_insecure": True},
        }
    )
    made = configuration.make_client_configuration(LIBRARY, settings)
    assert (made.io_threads(), made.operation_timeout_seconds(), made.concurrent_lookup_requests()) == (2, 3, 5)
    assert (made.connection_timeout(), made.stats_interval_in_seconds()) == (500, 7)
    sending = configuration.make_producer_configuration(LIBRARY, settings.producer, batching=True, timeout=1.5)
    assert (sending.send_timeout_millis(), str(sending.compression_type())) == (1500, "CompressionType.ZSTD")
    assert (sending.batching_enabled(), sending.batching_max_messages()) == (True, 5)
    assert (sending.batching_max_allowed_size_in_bytes(), sending.batching_max_publish_delay_ms()) == (6, 7)
    assert sending.max_pending_messages() == 8
    assert not configuration.make_producer_configuration(
        LIBRARY, settings.producer, batching=False, timeout=1
    ).batching_enabled()
