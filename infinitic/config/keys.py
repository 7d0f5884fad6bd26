"""Names of keys: ours are snake_case; those of the JVM project are understood, or refused by name."""

from __future__ import annotations

import re

_EXECUTORS = ("services.executor", "workflows.executor")

RENAMED: dict[str, dict[str, tuple[str, float | None]]] = {
    "services.executor": {"timeout_seconds": ("attempt_timeout_seconds", None)},
    "workflows.executor": {"check_mode": ("replay_check", None)},
    "transport.pulsar.policies": {
        "retention_time_minutes": ("retention_minutes", None),
        "message_ttl_seconds": ("ttl_seconds", None),
        "delayed_delivery_tick_time_millis": ("delayed_delivery_tick_seconds", 0.001),
        "deduplication_enabled": ("deduplication", None),
    },
    "transport.pulsar.client": {"max_concurrent_lookup_requests": ("concurrent_lookup_requests", None)},
    "transport.pulsar.producer": {
        "compression_type": ("compression", None),
        "enable_batching": ("batching", None),
        "batching_max_bytes": ("batching_max_size_bytes", None),
        "batching_max_publish_delay_seconds": ("batching_max_publish_delay_ms", 1000),
    },
    **{f"storage.{name}": {"maximum_pool_size": ("pool_size", None)} for name in ("postgres", "mysql")},
}
"""By section: the key in snake_case, our name, and what a number is multiplied with."""

EARLIER_NAMES: dict[str, dict[str, str]] = {"": {"horizon_seconds": "deduplication_window_seconds"}}
"""By section: keys of earlier releases and their names today. They are accepted, with a warning."""

NOT_YET = {
    "event_listener": "event listeners are not available yet",
    "services.tag_engine": "tag engines are not available yet",
    "workflows.tag_engine": "tag engines are not available yet",
}

_HANDLERS = "its handlers need no settings"
_TLS = "say it under transport.pulsar.tls"
_SQL: dict[str, str] = dict.fromkeys(
    ("key_set_table", "key_value_table", "minimum_idle", "idle_timeout", "connection_timeout", "max_lifetime"), ""
)

NO_EQUIVALENT: dict[str, dict[str, str]] = {
    "": {
        "logs": "logging is that of Python",
        "service_default": "say it for each service",
        "workflow_default": "say it for each workflow",
    },
    "storage": {"cache": "live instances are cached by the worker"},
    "services.executor": {"batch": "batches are declared in code"},
    "workflows.executor": {
        "timeout_seconds": "workflow code has no timeout of its own",
        "retry": "workflow code is not retried: a method that raises fails",
        "batch": "",
    },
    "workflows.state_engine": {
        "storage": "there is one, at the top",
        "batch": "",
        "timer_handler_concurrency": _HANDLERS,
        "command_handler_concurrency": _HANDLERS,
        "event_handler_concurrency": _HANDLERS,
        "timer_handler_past_due_seconds": "",
    },
    "transport.pulsar": {"admin_roles": "give roles to the tenant with pulsar-admin"},
    "transport.pulsar.policies": dict.fromkeys(
        (
            "timer_ttl_seconds",
            "max_delivery_delay_in_millis",
            "schema_compatibility_strategy",
            "allow_auto_topic_creation",
            "schema_validation_enforced",
            "is_allow_auto_update_schema",
        ),
        "",
    ),
    "transport.pulsar.client": {
        "tls_trust_certs_file_path": _TLS,
        "allow_tls_insecure_connection": _TLS,
        "enable_tls_hostname_verification": _TLS,
        "tls_key_file_path": "say it under transport.pulsar.authentication",
        "tls_certificate_file_path": "say it under transport.pulsar.authentication",
        **dict.fromkeys(
            ("connection_max_idle_seconds", "memory_limit_mb", "enable_transaction", "listener_threads"), ""
        ),
    },
    "transport.pulsar.producer": dict.fromkeys(
        ("block_if_queue_full", "enable_chunking", "message_routing_mode", "hashing_scheme", "enable_multi_schema"), ""
    ),
    "transport.pulsar.consumer": dict.fromkeys(
        ("max_redeliver_count", "ack_timeout_seconds", "negative_ack_redelivery_delay_seconds", "start_paused"), ""
    ),
    "storage.postgres": _SQL,
    "storage.mysql": _SQL,
    "storage.redis": {
        "timeout": "say connect_timeout_seconds and deadline_seconds",
        "ssl": "say tls: {}",
        "pool_config": "say pool_size",
    },
}
"""By section: keys of the JVM project, in snake_case, and what to do instead."""

for _section in _EXECUTORS:
    for _key in ("event_handler_concurrency", "retry_handler_concurrency"):
        NO_EQUIVALENT[_section][_key] = _HANDLERS


def snake(key: str) -> str:
    """`brokerServiceUrl` and `messageTTLSeconds` as `broker_service_url` and `message_ttl_seconds`."""
    key = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", key)
    return re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", key).lower()


def renamed(section: str, key: str) -> tuple[str, float | None]:
    """Our name of a key, and what a number is multiplied with."""
    plain = snake(key)
    earlier = EARLIER_NAMES.get(section, {}).get(plain, plain)
    return RENAMED.get(section, {}).get(plain, (earlier, None))


def is_earlier(section: str, key: str) -> bool:
    """Whether a key is one that earlier releases had for something that has another name today."""
    return snake(key) in EARLIER_NAMES.get(section, {})


def refusal(section: str, key: str) -> str | None:
    """Why a key that we know is refused; None if we do not know it."""
    plain = snake(key)
    not_yet = NOT_YET.get(f"{section}.{plain}" if section else plain)
    if not_yet is not None:
        return not_yet
    instead = NO_EQUIVALENT.get(section, {}).get(plain)
    return None if instead is None else f"has no equivalent here{': ' if instead else ''}{instead}"
