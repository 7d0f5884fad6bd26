"""Our settings as configurations of the client library."""

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
"""An index that no message has within its entry: the entry is read to its end."""


def connection(library: Any, settings: PulsarSettings) -> Any:
    """How to connect, and as who."""
    options, tls = settings.client, settings.tls
    conf = library.ClientConfiguration()
    conf.io_threads(options.io_threads)
    conf.message_listener_threads(1)
    conf.operation_timeout_seconds(options.operation_timeout_seconds)
    conf.connection_timeout(int(options.connection_timeout_seconds * 1000))
    conf.concurrent_lookup_requests(options.concurrent_lookup_requests)
    conf.stats_interval_in_seconds(options.stats_interval_seconds)
    level = getattr(library.LoggerLevel, options.log_level.capitalize())
    conf.set_file_logger(level, str(options.log_path or os.devnull))  # its own choice is the standard output
    if options.listener_name:
        conf.listener_name(options.listener_name)
    conf.tls_trust_certs_file_path(str(tls.trust_certs) if tls.trust_certs else import_module("certifi").where())
    conf.tls_allow_insecure_connection(tls.allow_insecure)
    conf.tls_validate_hostname(tls.validate_hostname)
    if settings.authentication is not None:
        conf.authentication(_authentication(library, settings.authentication))
    return conf


def producing(library: Any, options: ProducerOptions, *, batching: bool, timeout: float) -> Any:
    """How to send. Batches are by key: others would bring a key to several consumers."""
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


def consuming(library: Any, *, keyed: bool, queue: int, partitions: int) -> Any:
    """How to receive: all there is, each message of a batch by itself; `queue` of them beforehand."""
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


def reading(library: Any, name: str, *, queue: int) -> Any:
    """How to read without a durable subscription."""
    conf = library.ReaderConfiguration()
    conf.receiver_queue_size(queue)
    conf.reader_name(name)
    conf.subscription_role_prefix(name)
    return conf


def place(library: Any, after: tuple[int, int] | None) -> Any:
    """Where to read from: behind an entry (ledger and number), or from now on."""
    return library.MessageId.latest if after is None else library.MessageId(-1, *after, _WHOLE_BATCH)


def key_url(given: str) -> str:
    """A key as the library takes it: a path or a URL as it is, the document itself as a data: URL."""
    if given.lstrip().startswith("{"):
        return "data:application/json;base64," + b64encode(given.encode()).decode()
    if given.lstrip().startswith("-----BEGIN"):
        return "data:application/x-pem-file;base64," + b64encode(given.encode()).decode()
    return given


def _token(file: Path) -> str:
    """The token of today. It is called by the library, where nothing may be raised."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def _authentication(library: Any, how: Authentication) -> Any:
    match how:
        case Token(token=token, token_file=file):
            if file is not None:
                return library.AuthenticationToken.create(lambda: _token(file))
            assert token is not None
            return library.AuthenticationToken.create(token.get_secret_value())
        case OAuth2():
            fields = how.model_dump(exclude={"type"})
            fields["private_key"] = key_url(how.private_key.get_secret_value())
            return library.AuthenticationOauth2.create(json.dumps({k: v for k, v in fields.items() if v}))
        case Athenz():
            names = {
                "tenantDomain": how.tenant_domain,
                "tenantService": how.tenant_service,
                "providerDomain": how.provider_domain,
                "privateKey": key_url(how.private_key.get_secret_value()),
                "keyId": how.key_id,
                "ztsUrl": how.zts_url,
            }
            return library.AuthenticationAthenz.create(json.dumps(names))
        case Basic():
            return library.AuthenticationBasic.create(how.username, how.password.get_secret_value(), "basic")
        case ClientCertificate():
            return library.AuthenticationTLS.create(str(how.certificate), str(how.private_key))
