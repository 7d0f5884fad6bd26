"""Topics, subscriptions and statistics through the REST interface of the brokers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from infinitic.errors import ConfigurationError, TransportError
from infinitic.topics import Topic
from infinitic.transport import SubscriptionStats, TopicStats, TransportClosed, TransportUnavailable, UnknownTopic
from infinitic_transports.pulsar.backlog import Backlog, parse_backlog
from infinitic_transports.pulsar.client import CLOSE_SECONDS
from infinitic_transports.pulsar.credentials import Credentials
from infinitic_transports.pulsar.errors import advise_connection, advise_refusal, extract_reason
from infinitic_transports.pulsar.handshake import Identity
from infinitic_transports.pulsar.library import load_module
from infinitic_transports.pulsar.names import Names, decode_subscription, encode_subscription
from infinitic_transports.pulsar.settings import PulsarSettings
from infinitic_transports.pulsar.versions import explain_unfit

if TYPE_CHECKING:
    import ssl

    import httpx

T = TypeVar("T")

_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
_UNOWNED = ("Can't find owner for topic", "Failed to find ownership for")
"""What a refusal with 412 begins with while a broker starts, ends or hands a topic on."""

_MAX_CALLS = 16
"""Calls that may be under way at the same time."""

_logger = logging.getLogger("infinitic.transports.pulsar")


class Admin:
    """The REST interface of one namespace. Its connections are opened when it is first used.

    Every method raises `TransportUnavailable` when REST does not answer, `TransportError` when
    somebody has to correct something, and `TransportClosed` after `close`.

    Args:
        settings: where REST is, and the namespace.
        names: how topics are named there.
        deduplication_window: seconds for which a new namespace keeps messages that nobody
            acknowledges.
    """

    def __init__(self, settings: PulsarSettings, names: Names, deduplication_window: float) -> None:
        self._httpx = load_module("httpx")
        self._settings = settings
        self._names = names
        self._deduplication_window = deduplication_window
        self.where = f"namespaces/{settings.tenant}/{settings.namespace}"
        self._credentials = Credentials(settings)
        self._client: httpx.AsyncClient | None = None
        self._closed = False
        self._ready = False
        # Once it has answered, the settings are right: later failures are outages.
        self._proven = False
        self._making = asyncio.Lock()
        self._slots = asyncio.Semaphore(_MAX_CALLS)

    async def prepare(self) -> None:
        """Make the namespace and its tenant if they do not exist."""
        async with self._making:
            if self._ready:
                return
            found = await self._call("GET", self.where, ok=(200, 404))
            if found.status_code == 404:
                await self._make_namespace()
            with contextlib.suppress(TransportError):
                advice = explain_unfit(await self.get_version())
                if advice:
                    _logger.warning("The broker at %s %s", self._settings.web_service_url, advice)
            self._ready = True

    async def make_topic(self, topic: Topic, *, partitions: int | None) -> None:
        """Make a topic if it does not exist.

        Args:
            topic: which one.
            partitions: how many partitions it gets; None for a topic without partitions.
        """
        path = self._names.path(topic)
        if partitions is None:
            await self._call("PUT", path, ok=(204, 409), topic=topic)
        else:
            await self._call("PUT", path + "/partitions", json=partitions, ok=(204, 409), topic=topic)

    async def make_subscription(self, topic: Topic, name: str) -> None:
        """Make a subscription that keeps all messages, from the earliest one on.

        Args:
            topic: where.
            name: of the subscription.

        Raises:
            UnknownTopic: there is no such topic.
        """
        path = f"{self._names.path(topic)}/subscription/{encode_subscription(name)}"
        for pause in (0.05, 0.1, 0.2, 0.4, None):
            made = await self._call("PUT", path, json="earliest", ok=(204, 409, 412), topic=topic)
            if made.status_code != 412:
                return
            if _parse_reason(made).startswith("Topic does not exist"):
                raise self._make_unknown_error(topic, _parse_reason(made))
            if pause is None:
                raise TransportUnavailable(
                    f"The subscription {name!r} of {topic.name!r} is in use: {_parse_reason(made)}"
                )
            # Somebody else makes it, or joins it, at this moment.
            await asyncio.sleep(pause)

    async def list_subscriptions(self, topic: Topic) -> list[str] | None:
        """List the subscriptions of a topic, readers included; None if there is no such topic."""
        path = self._names.path(topic) + "/subscriptions"
        found = await self._call("GET", path, ok=(200, 404), topic=topic)
        return [decode_subscription(name) for name in found.json()] if found.status_code == 200 else None

    async def delete_if_unused(self, topic: Topic, *, alone: bool) -> None:
        """Remove a topic that nobody reads now.

        Args:
            topic: which one.
            alone: whether only this reader ever reads it. Then it is removed although it may have
                producers. Otherwise the broker decides, so that a reader who joins at this moment
                keeps the topic.
        """
        if await self.list_subscriptions(topic) == []:
            path = self._names.path(topic) + ("?force=true" if alone else "")
            await self._call("DELETE", path, ok=(204, 404, 409, 412, 500), topic=topic)

    async def delete_topic(self, topic: Topic) -> None:
        """Remove a topic with its partitions, its consumers and all its messages."""
        path = self._names.path(topic)
        for each in (f"{path}/partitions", path):
            await self._call("DELETE", each + "?force=true", ok=(204, 404, 409, 412), topic=topic)

    async def stats(self, topic: Topic) -> dict[str, SubscriptionStats]:
        """Count the messages and consumers of each subscription; none if there is no topic."""
        path, query = self._names.path(topic), "?getPreciseBacklog=true&getEarliestTimeInBacklog=false"
        found = await self._call("GET", f"{path}/stats{query}", ok=(200, 404), topic=topic)
        if found.status_code == 404:
            found = await self._call("GET", f"{path}/partitioned-stats{query}", ok=(200, 404), topic=topic)
        if found.status_code == 404:
            return {}
        return {decode_subscription(name): _parse_stats(each) for name, each in found.json()["subscriptions"].items()}

    async def read_backlogs(self, topic: Topic, subscription: str) -> list[Backlog]:
        """Read which entries of a topic a subscription has not acknowledged.

        Returns:
            One backlog for each partition; none if there is no such topic or subscription.
        """
        path, full = self._names.path(topic), self._names.full(topic)
        found = await self._call("GET", f"{path}/internalStats", ok=(200, 404), topic=topic)
        parts: dict[str, Any] = {full: found.json()} if found.status_code == 200 else {}
        if found.status_code == 404:
            found = await self._call("GET", f"{path}/partitioned-internalStats", ok=(200, 404), topic=topic)
            parts = found.json()["partitions"] if found.status_code == 200 else {}
        backlogs = (parse_backlog(name, stats, subscription) for name, stats in parts.items())
        return [each for each in backlogs if each is not None]

    async def unload(self, topic: Topic) -> None:
        """Make the broker close the topic and open it again: all clients have to reconnect."""
        await self._call("PUT", self._names.path(topic) + "/unload", ok=(204,), topic=topic)

    async def get_version(self) -> str:
        """Ask for the version of the broker."""
        return (await self.get("brokers/version")).text.strip()

    async def get(self, path: str, ok: tuple[int, ...] = (200,)) -> httpx.Response:
        """Get a resource.

        Args:
            path: its path.
            ok: status codes that are no error.
        """
        return await self._call("GET", path, ok=ok)

    async def make_identity(self, *, tls: bool) -> tuple[Identity, ssl.SSLContext | None]:
        """Make the credentials for the binary port, and with `tls` its TLS context."""
        identity = await self._with_client("the credentials of the client", self._credentials.make_identity)
        return identity, self._credentials.make_ssl_context() if tls else None

    async def find_last_entry(self, topic: Topic) -> tuple[int, int]:
        """Find the last entry of a topic without partitions: its ledger, and its number there."""
        found = await self._call("GET", self._names.path(topic) + "/lastMessageId", topic=topic)
        entry = found.json()
        return int(entry["ledgerId"]), int(entry["entryId"])

    async def set_policy(self, name: str, value: object) -> None:
        """Set one policy of the namespace, by its name in the path."""
        await self._call("POST", f"{self.where}/{name}", json=value, ok=(200, 204))

    async def delete_namespace(self) -> None:
        """Remove the namespace with everything in it."""
        await self._call("DELETE", self.where + "?force=true", ok=(204, 404))

    async def close(self) -> None:
        """Close the connections, once running calls have ended or have taken too long."""
        self._closed = True
        ended = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                for _ in range(_MAX_CALLS):
                    await self._slots.acquire()
                    ended += 1
        for _ in range(ended):
            self._slots.release()
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _make_namespace(self) -> None:
        body = self.make_policies()
        made = await self._call("PUT", self.where, json=body, ok=(204, 404, 409))
        if made.status_code == 404:
            await self.make_tenant()
            await self._call("PUT", self.where, json=body, ok=(204, 409))

    async def make_tenant(self, admins: Sequence[str] = ()) -> None:
        """Make the tenant if it does not exist.

        Args:
            admins: roles that may administer it.
        """
        clusters = list(self._settings.allowed_clusters)
        if not clusters:
            clusters = [name for name in (await self.get("clusters")).json() if name != "global"]
        tenant = {"allowedClusters": clusters, "adminRoles": list(admins)}
        await self._call("PUT", f"tenants/{self._settings.tenant}", json=tenant, ok=(204, 409))

    def make_policies(self) -> dict[str, Any]:
        """The policies of a namespace that is made here, as REST takes them."""
        policies = self._settings.policies
        return {
            "retention_policies": {
                "retentionTimeInMinutes": policies.retention_minutes,
                "retentionSizeInMB": policies.retention_size_mb,
            },
            "message_ttl_in_seconds": min(policies.ttl_seconds or math.ceil(self._deduplication_window), 2**31 - 1),
            "delayed_delivery_policies": {
                "active": True,
                "tickTime": max(1, int(policies.delayed_delivery_tick_seconds * 1000)),
                "maxDeliveryDelayInMillis": 0,
            },
            "deduplicationEnabled": policies.deduplication,
            "autoTopicCreationOverride": {"allowAutoTopicCreation": False},
            "inactive_topic_policies": {
                "inactiveTopicDeleteMode": "delete_when_no_subscriptions",
                "maxInactiveDurationSeconds": policies.ephemeral_idle_seconds,
                "deleteWhileInactive": True,
            },
        }

    async def _call(
        self, method: str, path: str, *, json: Any = None, ok: tuple[int, ...] = (200,), topic: Topic | None = None
    ) -> httpx.Response:
        async def request(client: httpx.AsyncClient) -> httpx.Response:
            headers = await self._credentials.make_headers(client)
            response = await client.request(method, path, json=json, headers=headers)
            self._proven = True
            return response

        response = await self._with_client(f"{method} {path}", request)
        if response.status_code in ok:
            return response
        raise self._make_error(f"{method} {path}", response, topic)

    async def _with_client(self, what: str, use: Callable[[httpx.AsyncClient], Awaitable[T]]) -> T:
        async with self._slots:
            if self._closed:
                raise TransportClosed("This transport is closed")
            if self._client is None:
                self._client = self._open()
            try:
                return await use(self._client)
            except (self._httpx.HTTPError, RuntimeError) as error:
                # A closed client raises `RuntimeError`.
                if self._closed:
                    raise TransportClosed("This transport is closed") from error
                if isinstance(error, RuntimeError):
                    raise
                raise self._make_unanswered_error(what, str(error) or type(error).__name__) from error

    def _make_unanswered_error(self, call: str, reason: str) -> TransportError:
        text = f"REST of Pulsar does not answer at {self._settings.web_service_url} ({call}: {reason})"
        advice = None if self._proven else advise_connection(reason)
        if advice is not None:
            return TransportError(f"{text}: {advice}")
        return TransportUnavailable(f"{text}; check web_service_url, and whether the broker is up")

    def _make_error(self, call: str, response: httpx.Response, topic: Topic | None) -> TransportError:
        settings, status, reason = self._settings, response.status_code, _parse_reason(response)
        text = f"{call} at {settings.web_service_url} gave {status}: {reason}"
        advice = advise_refusal(status, reason, settings.tenant)
        if advice is not None:
            return TransportError(f"{text}. {advice}")
        if status == 404 and topic is not None:
            return self._make_unknown_error(topic, text)
        if status in _TRANSIENT or (status == 412 and reason.startswith(_UNOWNED)):
            return TransportUnavailable(text)
        if status == 307:
            return TransportError(f"{text}. It redirects to another host: use the URL of a broker or of a proxy")
        return TransportError(text)

    @staticmethod
    def _make_unknown_error(topic: Topic, text: str) -> UnknownTopic:
        return UnknownTopic(f"The topic {topic.name!r} was never declared, or is gone ({text})")

    def _open(self) -> httpx.AsyncClient:
        settings = self._settings
        try:
            client: httpx.AsyncClient = self._httpx.AsyncClient(
                base_url=settings.web_service_url.rstrip("/") + "/admin/v2/",
                timeout=settings.client.rest_timeout_seconds,
                verify=not settings.web_service_url.startswith("https:") or self._credentials.make_ssl_context(),
                follow_redirects=True,
                trust_env=False,
            )
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{settings.web_service_url} cannot be used: {error}") from error
        return client


def _parse_reason(response: httpx.Response) -> str:
    try:
        return str(response.json()["reason"])
    except (ValueError, KeyError, TypeError):
        return extract_reason(response.text)


def _parse_stats(each: dict[str, Any]) -> SubscriptionStats:
    delayed = int(each.get("msgDelayed", 0))
    # Pulsar counts below zero for batches that are acknowledged in part.
    unacked = max(0, int(each.get("unackedMessages", 0)))
    backlog = max(0, int(each.get("msgBacklog", 0)) - unacked - delayed)
    return SubscriptionStats(backlog=backlog, unacked=unacked, delayed=delayed, consumers=len(each["consumers"]))


def merge_delayed(
    main: dict[str, SubscriptionStats], subscription: str | None, waiting: SubscriptionStats
) -> TopicStats:
    """Add the messages that wait for a KEYED topic to the delayed ones of its main subscription.

    Args:
        main: the subscriptions of the topic, by name.
        subscription: the name of its main subscription.
        waiting: the statistics of the topic where messages wait until they are due.
    """
    figures = main.get(subscription or "")
    if figures is None or subscription is None:
        return TopicStats(main)
    more = waiting.backlog + waiting.delayed + waiting.unacked
    added = SubscriptionStats(figures.backlog, figures.unacked, figures.delayed + more, figures.consumers)
    return TopicStats({**main, subscription: added})
