"""How the broker and the namespace are. Only reads."""

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
from infinitic_transports.pulsar.versions import NEEDED, unfit, version_of

UNACKED_RANGES = 100_000

_VERSION, _CLOCK, _BINARY = "broker version", "broker clock", "broker port"
_NAMESPACE, _CONFIGURATION = "namespace", "broker configuration"
Read = tuple[Mapping[str, Any] | None, list[Diagnosis]]


async def diagnose(
    admin: Admin, reach: Reach, settings: PulsarSettings, deduplication_window: float, clock: Clock
) -> list[Diagnosis]:
    """The findings. What the role may not see is said, not raised; a broker that is away is."""
    checks = await _broker(admin, clock)
    largest, binary = await _binary(reach, settings)
    checks.append(binary)
    runtime, unseen = await _read(admin, "brokers/configuration/runtime", _CONFIGURATION)
    policies, wrong = await _read(admin, admin.where, _NAMESPACE)
    if policies is not None:
        checks += _losses(policies, runtime, deduplication_window) + _differences(policies, admin.policies())
    checks += await _unmade(admin, settings) if policies is None and not wrong else wrong
    checks += await _topics(admin, settings) if policies is not None else []
    if runtime is None:
        checks += [ok(_CONFIGURATION, "not looked at: the role of this client may not see it")] if unseen else []
    else:
        checks += _configuration(runtime)
    return checks + _size(largest, settings)


async def _broker(admin: Admin, clock: Clock) -> list[Diagnosis]:
    version = await admin.version()
    before = clock.now()
    answer = await admin.get("brokers/version")  # once more, over the connection that is there: for its time
    middle = (before + clock.now()) / 2
    advice = unfit(version)
    if advice is not None:
        checks = [Diagnosis(_VERSION, Level.FAILURE, advice, "upgrade the broker")]
    elif version_of(version) is None:
        checks = [Diagnosis(_VERSION, Level.WARNING, f"is unknown: {version[:60]}", NEEDED)]
    else:
        checks = [ok(_VERSION, version)]
    date = answer.headers.get("date")
    if date is not None:  # it has whole seconds, and half a one is lost on average
        ahead = parsedate_to_datetime(date).timestamp() + 0.5 - middle
        checks.append(skew(_CLOCK, ahead, precision=2.0, harm=": timers and timeouts come at wrong times"))
    return checks


async def _read(admin: Admin, path: str, subject: str) -> Read:
    """A document; None with the reason if it may not be seen, and without one if it does not exist."""
    try:
        found = await admin.get(path, ok=(200, 404))
    except TransportError as error:
        return None, [Diagnosis(subject, Level.FAILURE, str(error), "see to the rights of the role of this client")]
    return (found.json() if found.status_code == 200 else None), []


async def _unmade(admin: Admin, settings: PulsarSettings) -> list[Diagnosis]:
    """There is no namespace: whether this client may make it, and the tenant if that is missing, too."""
    siblings, wrong = await _read(admin, f"namespaces/{settings.tenant}", _NAMESPACE)
    if siblings is None and not wrong:
        _, wrong = await _read(admin, "tenants", _NAMESPACE)
    message = f"{settings.tenant}/{settings.namespace} does not exist yet"
    if wrong:
        return [Diagnosis(_NAMESPACE, Level.FAILURE, f"{message}. {wrong[0].message}", wrong[0].remedy)]
    return [Diagnosis(_NAMESPACE, Level.WARNING, message, "the first worker or client makes it")]


def _losses(policies: Mapping[str, Any], runtime: Mapping[str, Any] | None, window: float) -> list[Diagnosis]:
    """Policies under which messages are lost, or late."""
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
        bad("subscription_expiration_time_minutes", "the subscriptions of workers that stand still are removed",
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


def _differences(policies: Mapping[str, Any], configured: Mapping[str, Any]) -> list[Diagnosis]:
    """Where an existing namespace is not as the settings say: nobody changes it."""
    found: list[Diagnosis] = []
    for name, wanted in configured.items():
        given: object = policies.get(name)
        if isinstance(wanted, dict) and isinstance(given, dict):
            few, all_given = cast("dict[str, Any]", wanted), cast("dict[str, Any]", given)
            given = {key: all_given.get(key) for key in few}
        if given != wanted:
            message = f"is {_text(given)}, and the configuration says {_text(cast('object', wanted))}"
            remedy = "`policies` counts only for a new namespace: change one of the two (pulsar-admin namespaces …)"
            found.append(Diagnosis(f"policy {name}", Level.WARNING, message, remedy))
    return found or [ok("policies", "are as the configuration says")]


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={_text(each)}" for key, each in cast("dict[str, Any]", value).items())
    return "not set" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


async def _topics(admin: Admin, settings: PulsarSettings) -> list[Diagnosis]:
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


async def _binary(reach: Reach, settings: PulsarSettings) -> tuple[int, Diagnosis]:
    """The port where messages go, which is not that of REST. With the size that a broker there takes, 0 if unknown."""
    try:
        greeting = await reach.greet()
    except TransportError as error:
        remedy = "mend broker_service_url, or what stands in its way"
        return 0, Diagnosis(_BINARY, Level.FAILURE, str(error), remedy)
    return greeting.max_message_size, ok(_BINARY, f"{settings.broker_service_url} answers")


def _size(largest: int, settings: PulsarSettings) -> list[Diagnosis]:
    wanted = settings.max_message_size_bytes
    if not 0 < largest < wanted:
        return []
    message = f"{largest:,} is less than `max_message_size_bytes`, {wanted:,}: it is the limit"
    return [Diagnosis("maxMessageSize", Level.WARNING, message, "set max_message_size_bytes to it, or it higher")]


def _configuration(runtime: Mapping[str, Any]) -> list[Diagnosis]:
    """What only the broker's own configuration can say."""
    found: list[Diagnosis] = []

    def number(name: str) -> int | None:
        text = str(runtime.get(name, ""))
        return int(text) if text.lstrip("-").isdigit() else None

    def note(name: str, level: Level, message: str, remedy: str) -> None:
        found.append(Diagnosis(name, level, message, f"{remedy} in broker.conf"))

    name, delay = "managedLedgerNewEntriesCheckDelayInMillis", number("managedLedgerNewEntriesCheckDelayInMillis")
    if delay:
        note(name, Level.WARNING, f"{delay} ms is the least that a message of a quiet topic waits", f"set {name}=0")
    name, ranges = "managedLedgerMaxUnackedRangesToPersist", number("managedLedgerMaxUnackedRangesToPersist")
    if ranges is not None and ranges < UNACKED_RANGES:
        message = f"with {ranges:,}, acknowledged messages may come again after a restart of the broker"
        note(name, Level.WARNING, message, f"set {name}={UNACKED_RANGES}")
    return found or [ok(_CONFIGURATION, "as recommended")]
