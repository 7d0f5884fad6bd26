"""Checks the broker and the namespace, for `infinitic doctor`. It only reads."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, cast

from infinitic.clock import Clock
from infinitic.diagnosis import Diagnosis, Level, ok, skew
from infinitic.errors import TransportError
from infinitic_transports.pulsar.admin import Admin
from infinitic_transports.pulsar.reach import Reach
from infinitic_transports.pulsar.settings import PulsarSettings
from infinitic_transports.pulsar.versions import NEEDED, explain_unfit, parse_version

UNACKED_RANGES = 100_000

_VERSION, _CLOCK, _BINARY = "broker version", "broker clock", "broker port"
_NAMESPACE, _CONFIGURATION = "namespace", "broker configuration"
Read = tuple[Mapping[str, Any] | None, list[Diagnosis]]


async def diagnose(
    admin: Admin, reach: Reach, settings: PulsarSettings, deduplication_window: float, clock: Clock
) -> list[Diagnosis]:
    """Check the broker, its port, and the namespace.

    What the role of this client may not see is reported, not raised.

    Args:
        admin: REST.
        reach: asks the port for messages.
        settings: what is configured.
        deduplication_window: seconds for which messages have to be kept.
        clock: the clock of this machine.

    Raises:
        TransportUnavailable: REST does not answer.
    """
    checks = await _check_broker(admin, clock)
    largest, binary = await _check_port(reach, settings)
    checks.append(binary)
    runtime, unseen = await _read_document(admin, "brokers/configuration/runtime", _CONFIGURATION)
    policies, wrong = await _read_document(admin, admin.where, _NAMESPACE)
    if policies is not None:
        checks += _find_losses(policies, runtime, deduplication_window) + _find_differences(
            policies, admin.make_policies()
        )
    checks += await _check_missing_namespace(admin, settings) if policies is None and not wrong else wrong
    checks += await _check_topics(admin, settings) if policies is not None else []
    if runtime is None:
        checks += [ok(_CONFIGURATION, "not checked: the role of this client may not see it")] if unseen else []
    else:
        checks += _check_configuration(runtime)
    return checks + _check_size(largest, settings)


async def _check_broker(admin: Admin, clock: Clock) -> list[Diagnosis]:
    version = await admin.get_version()
    before = clock.now()
    # Once more, over the connection that is open now: the time of its answer is read.
    answer = await admin.get("brokers/version")
    middle = (before + clock.now()) / 2
    advice = explain_unfit(version)
    if advice is not None:
        checks = [Diagnosis(_VERSION, Level.FAILURE, advice, "upgrade the broker")]
    elif parse_version(version) is None:
        checks = [Diagnosis(_VERSION, Level.WARNING, f"is unknown: {version[:60]}", NEEDED)]
    else:
        checks = [ok(_VERSION, version)]
    date = answer.headers.get("date")
    if date is not None:
        # It has whole seconds, and loses half a second on average.
        ahead = parsedate_to_datetime(date).timestamp() + 0.5 - middle
        checks.append(skew(_CLOCK, ahead, precision=2.0, harm=": timers and timeouts come at wrong times"))
    return checks


async def _read_document(admin: Admin, path: str, subject: str) -> Read:
    """Read a document; None with a finding if it may not be seen, without one if there is none."""
    try:
        found = await admin.get(path, ok=(200, 404))
    except TransportError as error:
        return None, [Diagnosis(subject, Level.FAILURE, str(error), "give the role of this client the permission")]
    return (found.json() if found.status_code == 200 else None), []


async def _check_missing_namespace(admin: Admin, settings: PulsarSettings) -> list[Diagnosis]:
    """Check whether this client may make the missing namespace, and the tenant if it is missing."""
    siblings, wrong = await _read_document(admin, f"namespaces/{settings.tenant}", _NAMESPACE)
    if siblings is None and not wrong:
        _, wrong = await _read_document(admin, "tenants", _NAMESPACE)
    message = f"{settings.tenant}/{settings.namespace} does not exist yet"
    if wrong:
        return [Diagnosis(_NAMESPACE, Level.FAILURE, f"{message}. {wrong[0].message}", wrong[0].remedy)]
    return [Diagnosis(_NAMESPACE, Level.WARNING, message, "the first worker or client makes it")]


def _find_losses(policies: Mapping[str, Any], runtime: Mapping[str, Any] | None, window: float) -> list[Diagnosis]:
    """Find policies by which messages are lost or late."""
    found: list[Diagnosis] = []

    def bad(name: str, message: str, remedy: str) -> None:
        found.append(Diagnosis(f"policy {name}", Level.FAILURE, message, f"pulsar-admin namespaces {remedy}"))

    ttl = policies.get("message_ttl_in_seconds")
    if ttl and 0 < ttl < window:
        bad(
            "message_ttl_in_seconds",
            f"{ttl:,} s is less than the deduplication window of {window:,.0f} s: messages that wait are lost",
            f"set-message-ttl --messageTTL {int(window)}, or set deduplication_window_seconds lower",
        )
    delays: Mapping[str, Any] | None = policies.get("delayed_delivery_policies")
    by_default = (runtime or {}).get("delayedDeliveryEnabled", "true") == "true"
    active = delays.get("active") if delays else by_default
    if not active:
        bad("delayed_delivery_policies", "delayed delivery is off: retries and timers come at once",
            "set-delayed-delivery --enable --time 100")  # fmt: skip
    quotas: Mapping[str, Mapping[str, Any]] = policies.get("backlog_quota_map") or {}
    for quota in quotas.values():
        if quota.get("policy") == "consumer_backlog_eviction":
            bad("backlog_quota_map", "messages are dropped when the backlog is full",
                "set-backlog-quota --policy producer_request_hold …")  # fmt: skip
    if policies.get("subscription_expiration_time_minutes"):
        bad("subscription_expiration_time_minutes", "subscriptions without messages are removed, and messages are lost",
            "set-subscription-expiration-time --time 0")  # fmt: skip
    idle: Mapping[str, Any] = policies.get("inactive_topic_policies") or {}
    if idle.get("deleteWhileInactive") and idle.get("inactiveTopicDeleteMode") != "delete_when_no_subscriptions":
        bad("inactive_topic_policies", "topics are removed while nobody consumes them",
            "set-inactive-topic-policies --delete-mode delete_when_no_subscriptions …")  # fmt: skip
    kinds = policies.get("subscription_types_enabled")
    if kinds and not {"Shared", "Key_Shared"} <= set(kinds):
        bad("subscription_types_enabled", f"only {', '.join(kinds)} may subscribe",
            "set-subscription-types-enabled --types Shared,Key_Shared,Exclusive")  # fmt: skip
    return found


def _find_differences(policies: Mapping[str, Any], configured: Mapping[str, Any]) -> list[Diagnosis]:
    """Compare an existing namespace with the settings. Nobody changes it."""
    found: list[Diagnosis] = []
    for name, wanted in configured.items():
        given: object = policies.get(name)
        if isinstance(wanted, dict) and isinstance(given, dict):
            few, all_given = cast("dict[str, Any]", wanted), cast("dict[str, Any]", given)
            given = {key: all_given.get(key) for key in few}
        if given != wanted:
            message = f"is {_format(given)}, and the configuration says {_format(cast('object', wanted))}"
            remedy = "`policies` is used only for a new namespace: change one of the two (pulsar-admin namespaces …)"
            found.append(Diagnosis(f"policy {name}", Level.WARNING, message, remedy))
    return found or [ok("policies", "are as the configuration says")]


def _format(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={_format(each)}" for key, each in cast("dict[str, Any]", value).items())
    return "not set" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


async def _check_topics(admin: Admin, settings: PulsarSettings) -> list[Diagnosis]:
    path = f"persistent/{settings.tenant}/{settings.namespace}"
    try:
        names = [str(each) for each in (await admin.get(path)).json()]
        parted = [str(each) for each in (await admin.get(f"{path}/partitioned")).json()]
    except TransportError as error:
        return [Diagnosis("topics", Level.FAILURE, str(error))]
    plain = [each for each in names if "-partition-" not in each and "/__" not in each]
    checks = [ok("topics", f"{len(plain) + len(parted):,}")]
    if parted and settings.partitions is None:
        message = f"{len(parted):,} topics have partitions, and `partitions` is not set"
        checks.append(Diagnosis("topics", Level.WARNING, message, "set `partitions` to what they were made with"))
    return checks


async def _check_port(reach: Reach, settings: PulsarSettings) -> tuple[int, Diagnosis]:
    """Check the port for messages, which is not that of REST.

    Returns:
        Bytes of a message that a broker takes there, 0 if unknown, and the finding.
    """
    try:
        greeting = await reach.greet()
    except TransportError as error:
        remedy = "correct broker_service_url, or what blocks the connection"
        return 0, Diagnosis(_BINARY, Level.FAILURE, str(error), remedy)
    return greeting.max_message_size, ok(_BINARY, f"{settings.broker_service_url} answers")


def _check_size(largest: int, settings: PulsarSettings) -> list[Diagnosis]:
    wanted = settings.max_message_size_bytes
    if not 0 < largest < wanted:
        return []
    message = f"{largest:,} is less than `max_message_size_bytes`, {wanted:,}: messages may not be larger"
    return [
        Diagnosis(
            "maxMessageSize",
            Level.WARNING,
            message,
            "lower max_message_size_bytes, or raise maxMessageSize of the broker",
        )
    ]


def _check_configuration(runtime: Mapping[str, Any]) -> list[Diagnosis]:
    """Check what only the configuration of the broker can tell."""
    found: list[Diagnosis] = []

    def number(name: str) -> int | None:
        text = str(runtime.get(name, ""))
        return int(text) if text.lstrip("-").isdigit() else None

    def note(name: str, level: Level, message: str, remedy: str) -> None:
        found.append(Diagnosis(name, level, message, f"{remedy} in broker.conf"))

    name, delay = "managedLedgerNewEntriesCheckDelayInMillis", number("managedLedgerNewEntriesCheckDelayInMillis")
    if delay:
        note(name, Level.WARNING, f"a message of a quiet topic waits at least {delay} ms", f"set {name}=0")
    name, ranges = "managedLedgerMaxUnackedRangesToPersist", number("managedLedgerMaxUnackedRangesToPersist")
    if ranges is not None and ranges < UNACKED_RANGES:
        message = f"with {ranges:,}, acknowledged messages may be delivered again after a restart of the broker"
        note(name, Level.WARNING, message, f"set {name}={UNACKED_RANGES}")
    return found or [ok(_CONFIGURATION, "as recommended")]
