"""Makes configurations of the client library from our settings."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from importlib import import_module
from pathlib import Path
from typing import Any

from infinitic_transports.pulsar.settings import (
    Athenz,
    Authentication,
    Basic,
    ClientCertificate,
    OAuth2,
    ProducerOptions,
    PulsarSettings,
    Token,
)

_WHOLE_BATCH = 2**31 - 1
"""An index that no message has within its entry. So the reader starts behind the whole entry."""


def make_client_configuration(library: Any, settings: PulsarSettings) -> Any:
    """Configure how to connect, and with which credentials."""
    options, tls = settings.client, settings.tls
    conf = library.ClientConfiguration()
    conf.io_threads(options.io_threads)
    conf.message_listener_threads(1)
    conf.operation_timeout_seconds(options.operation_timeout_seconds)
    conf.connection_timeout(int(options.connection_timeout_seconds * 1000))
    conf.concurrent_lookup_requests(options.concurrent_lookup_requests)
    conf.stats_interval_in_seconds(options.stats_interval_seconds)
    level = getattr(library.LoggerLevel, options.log_level.capitalize())
    # Without a file, the library would log to the standard output.
    conf.set_file_logger(level, str(options.log_path or os.devnull))
    if options.listener_name:
        conf.listener_name(options.listener_name)
    conf.tls_trust_certs_file_path(str(tls.trust_certs) if tls.trust_certs else import_module("certifi").where())
    conf.tls_allow_insecure_connection(tls.allow_insecure)
    conf.tls_validate_hostname(tls.validate_hostname)
    if settings.authentication is not None:
        conf.authentication(_make_authentication(library, settings.authentication))
    return conf


def make_producer_configuration(library: Any, options: ProducerOptions, *, batching: bool, timeout: float) -> Any:
    """Configure how to send.

    Batches are made by key. Other batches would bring the messages of a key to several consumers.

    Args:
        library: the client library.
        options: the settings of producers.
        batching: whether batches are allowed for this topic.
        timeout: seconds until a message that is not accepted fails.
    """
    conf = library.ProducerConfiguration()
    conf.send_timeout_millis(max(1, int(timeout * 1000)))
    kinds = {"none": "NONE", "lz4": "LZ4", "zlib": "ZLib", "zstd": "ZSTD", "snappy": "SNAPPY"}
    conf.compression_type(getattr(library.CompressionType, kinds[options.compression]))
    conf.max_pending_messages(options.max_pending_messages)
    conf.block_if_queue_full(False)
    conf.batching_enabled(batching and options.batching)
    conf.batching_type(library.BatchingType.KeyBased)
    conf.batching_max_messages(options.batching_max_messages)
    conf.batching_max_allowed_size_in_bytes(options.batching_max_size_bytes)
    conf.batching_max_publish_delay_ms(options.batching_max_publish_delay_ms)
    conf.partitions_routing_mode(library.PartitionsRoutingMode.RoundRobinDistribution)
    return conf


def make_consumer_configuration(library: Any, *, keyed: bool, queue: int, partitions: int) -> Any:
    """Configure how to receive: from the earliest message on, each message of a batch by itself.

    Args:
        library: the client library.
        keyed: whether the topic is KEYED.
        queue: how many messages the library requests beforehand.
        partitions: how many partitions the topic has, 1 without.
    """
    conf = library.ConsumerConfiguration()
    conf.consumer_type(library.ConsumerType.KeyShared if keyed else library.ConsumerType.Shared)
    conf.subscription_initial_position(library.InitialPosition.Earliest)
    conf.receiver_queue_size(queue)
    conf.max_total_receiver_queue_size_across_partitions(max(queue, partitions))
    conf.batch_index_ack_enabled(True)
    if keyed:
        policy = library.KeySharedPolicy()
        policy.set_key_shared_mode(library.KeySharedMode.AutoSplit)
        policy.set_allow_out_of_order_delivery(False)
        conf.key_shared_policy(policy)
    return conf


def make_reader_configuration(library: Any, name: str, *, queue: int) -> Any:
    """Configure how to read without a durable subscription.

    Args:
        library: the client library.
        name: the name of the reader.
        queue: how many messages the library requests beforehand.
    """
    conf = library.ReaderConfiguration()
    conf.receiver_queue_size(queue)
    conf.reader_name(name)
    conf.subscription_role_prefix(name)
    return conf


def make_start(library: Any, after: tuple[int, int] | None) -> Any:
    """Where a reader starts: behind an entry (ledger and number), or with new messages."""
    return library.MessageId.latest if after is None else library.MessageId(-1, *after, _WHOLE_BATCH)


def make_key_url(given: str) -> str:
    """A private key as the library takes it: the document itself becomes a data: URL.

    Args:
        given: a path, a URL, or the document.
    """
    if given.lstrip().startswith("{"):
        return "data:application/json;base64," + b64encode(given.encode()).decode()
    if given.lstrip().startswith("-----BEGIN"):
        return "data:application/x-pem-file;base64," + b64encode(given.encode()).decode()
    return given


def _read_token(file: Path) -> str:
    """Read the current token. The library calls this, so it must not raise."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def _make_authentication(library: Any, how: Authentication) -> Any:
    match how:
        case Token(token=token, token_file=file):
            if file is not None:
                return library.AuthenticationToken.create(lambda: _read_token(file))
            assert token is not None
            return library.AuthenticationToken.create(token.get_secret_value())
        case OAuth2():
            fields = how.model_dump(exclude={"type"})
            fields["private_key"] = make_key_url(how.private_key.get_secret_value())
            return library.AuthenticationOauth2.create(json.dumps({k: v for k, v in fields.items() if v}))
        case Athenz():
            names = {
                "tenantDomain": how.tenant_domain,
                "tenantService": how.tenant_service,
                "providerDomain": how.provider_domain,
                "privateKey": make_key_url(how.private_key.get_secret_value()),
                "keyId": how.key_id,
                "ztsUrl": how.zts_url,
            }
            return library.AuthenticationAthenz.create(json.dumps(names))
        case Basic():
            return library.AuthenticationBasic.create(how.username, how.password.get_secret_value(), "basic")
        case ClientCertificate():
            return library.AuthenticationTLS.create(str(how.certificate), str(how.private_key))
