"""The names of keys: those of this project, of earlier releases, and of the JVM project.

Keys are in snake_case here. Keys of the JVM project are translated, or refused with the reason.
"""

from __future__ import annotations

import re

_EXECUTORS = ("services.executor", "workflows.executor")

RENAMED: dict[str, dict[str, tuple[str, float | None]]] = {
    "services.executor": {"timeout_seconds": ("attempt_timeout_seconds", None)},
    "event_listener": {"subscription_name": ("name", None)},
    "event_listener.batch": {"max_messages": ("max_events", None)},
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
"""Keys of the JVM project, by section and in snake_case: the name here, and a factor."""

EARLIER_NAMES: dict[str, dict[str, str]] = {"": {"horizon_seconds": "deduplication_window_seconds"}}
"""Keys of earlier releases, by section: the name of today. They are accepted, with a warning."""

NOT_YET: dict[str, str] = {}

_HANDLERS = "its handlers have no settings"
_TLS = "set it under transport.pulsar.tls"
_SQL: dict[str, str] = dict.fromkeys(
    ("key_set_table", "key_value_table", "minimum_idle", "idle_timeout", "connection_timeout", "max_lifetime"), ""
)

NO_EQUIVALENT: dict[str, dict[str, str]] = {
    "": {
        "logs": "configure the logging of Python instead",
        "service_default": "set it for each service",
        "workflow_default": "set it for each workflow",
    },
    "event_listener": {"concurrency": "batches are handed over one after the other"},
    "event_listener.services": {"list_refresh_seconds": "name the services: allow"},
    "event_listener.workflows": {"list_refresh_seconds": "name the workflows: allow"},
    "storage": {"cache": "the worker caches instances, see cache_size"},
    "services.executor": {},
    "workflows.executor": {
        "timeout_seconds": "workflow code has no timeout",
        "retry": "a method of a workflow that raises has failed, and is not retried",
        "batch": "",
    },
    "workflows.state_engine": {
        "storage": "all workflows have the storage at the top of the file",
        "batch": "",
        "timer_handler_concurrency": _HANDLERS,
        "command_handler_concurrency": _HANDLERS,
        "event_handler_concurrency": _HANDLERS,
        "timer_handler_past_due_seconds": "",
    },
    "transport.pulsar": {"admin_roles": "give the tenant its roles with pulsar-admin"},
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
        "tls_key_file_path": "set it under transport.pulsar.authentication",
        "tls_certificate_file_path": "set it under transport.pulsar.authentication",
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
        "timeout": "set connect_timeout_seconds and deadline_seconds",
        "ssl": "set tls: {}",
        "pool_config": "set pool_size",
    },
}
"""Keys of the JVM project that are refused, by section and in snake_case: what to do instead."""

for _section in _EXECUTORS:
    for _key in ("event_handler_concurrency", "retry_handler_concurrency"):
        NO_EQUIVALENT[_section][_key] = _HANDLERS


def to_snake_case(key: str) -> str:
    """Convert a key from camelCase: `brokerServiceUrl` becomes `broker_service_url`.

    Capitals in a row are one word: `messageTTLSeconds` becomes `message_ttl_seconds`.
    """
    key = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", key)
    return re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", key).lower()


def translate(section: str, key: str) -> tuple[str, float | None]:
    """Find the name that a key has here.

    Args:
        section: the section that the key stands in, such as `transport.pulsar`; empty for the top.
        key: the key as it was written.

    Returns:
        The name, and the factor that turns a number of the old unit into one of the new unit. The
        factor is None if the unit is the same. A key that is not known is only put into snake_case.
    """
    plain = to_snake_case(key)
    earlier = EARLIER_NAMES.get(section, {}).get(plain, plain)
    return RENAMED.get(section, {}).get(plain, (earlier, None))


def is_earlier_name(section: str, key: str) -> bool:
    """Tell whether a key is one of an earlier release that has another name today.

    Arguments as for `translate`.
    """
    return to_snake_case(key) in EARLIER_NAMES.get(section, {})


def explain_refusal(section: str, key: str) -> str | None:
    """Say why a known key is refused; None if the key is not known.

    Arguments as for `translate`.
    """
    plain = to_snake_case(key)
    not_yet = NOT_YET.get(f"{section}.{plain}" if section else plain)
    if not_yet is not None:
        return not_yet
    instead = NO_EQUIVALENT.get(section, {}).get(plain)
    return None if instead is None else f"has no equivalent here{': ' if instead else ''}{instead}"
