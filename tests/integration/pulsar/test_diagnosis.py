"""What the transport says of a broker and a namespace."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from infinitic.clock import Clock, SystemClock
from infinitic.diagnosis import Level
from infinitic.ids import new_id
from infinitic_transports.pulsar import PulsarSettings, PulsarTransport
from infinitic_transports.pulsar.admin import Admin
from infinitic_transports.pulsar.versions import explain_unfit
from tests.integration.pulsar.conftest import Play
from tests.integration.pulsar.helpers import shared


class Late(Clock):
    def now(self) -> float:
        return SystemClock().now() - 120


async def found(transport: PulsarTransport) -> dict[str, tuple[Level, str, str]]:
    return {each.subject: (each.level, each.message, each.remedy) for each in await transport.diagnose()}


def test_a_namespace_that_we_made_is_well(settings: PulsarSettings) -> None:
    async def test() -> None:
        new = settings.model_copy(update={"namespace": f"test-{new_id()[:12]}"})
        async with PulsarTransport(new) as transport:
            try:
                await look(transport)
            finally:
                await transport.admin.delete_namespace()

    async def look(transport: PulsarTransport) -> None:
        checks = await found(transport)
        assert checks["namespace"][0] is Level.WARNING
        assert "does not exist yet" in checks["namespace"][1]
        await transport.declare([shared()])
        checks = await found(transport)
        assert {level for level, _, _ in checks.values()} == {Level.OK}
        assert checks["topics"][1] == "1"
        assert checks["policies"][1] == "are as the configuration says"

    asyncio.run(test())


@pytest.mark.parametrize(
    ("path", "body", "subject", "level", "says"),
    [
        ("messageTTL", 3600, "policy message_ttl_in_seconds", Level.FAILURE, "less than the deduplication window"),
        (
            "delayedDelivery",
            {"active": False, "tickTime": 100},
            "policy delayed_delivery_policies",
            Level.FAILURE,
            "delayed delivery is off",
        ),
        (
            "inactiveTopicPolicies",
            {
                "inactiveTopicDeleteMode": "delete_when_subscriptions_caught_up",
                "maxInactiveDurationSeconds": 300,
                "deleteWhileInactive": True,
            },
            "policy inactive_topic_policies",
            Level.FAILURE,
            "removed",
        ),
        (
            "backlogQuota",
            {"limitSize": 1000, "limitTime": -1, "policy": "consumer_backlog_eviction"},
            "policy backlog_quota_map",
            Level.FAILURE,
            "dropped",
        ),
        ("subscriptionExpirationTime", 60, "policy subscription_expiration_time_minutes", Level.FAILURE, "removed"),
        ("subscriptionTypesEnabled", ["Shared"], "policy subscription_types_enabled", Level.FAILURE, "Shared"),
        (
            "retention",
            {"retentionTimeInMinutes": 5, "retentionSizeInMB": 6},
            "policy retention_policies",
            Level.WARNING,
            "is retentionTimeInMinutes=5, retentionSizeInMB=6, and the configuration says",
        ),
        (
            "autoTopicCreation",
            {"allowAutoTopicCreation": True, "topicType": "non-partitioned"},
            "policy autoTopicCreationOverride",
            Level.WARNING,
            "is allowAutoTopicCreation=true",
        ),
    ],
)
def test_a_policy_that_somebody_changed(
    settings: PulsarSettings, play: Play, path: str, body: Any, subject: str, level: Level, says: str
) -> None:
    async def test(transport: PulsarTransport) -> None:
        await transport.admin.prepare()
        before: Mapping[str, Any] = (await transport.admin.get(transport.admin.where)).json()
        await transport.admin.set_policy(path, body)
        checks = [each for each in await transport.diagnose() if each.subject == subject]
        assert any(each.level is level and says in each.message and each.remedy for each in checks), checks
        assert (await transport.admin.get(transport.admin.where)).json() != before
        await transport.admin.delete_namespace()

    play(test)


def test_a_clock_that_is_off(settings: PulsarSettings, play: Play) -> None:
    async def test(_: PulsarTransport) -> None:
        async with PulsarTransport(settings, clock=Late()) as late:
            level, message, remedy = (await found(late))["broker clock"]
        assert level is Level.FAILURE
        assert message.startswith(("is 120 s ahead of", "is 119 s ahead of", "is 121 s ahead of"))
        assert "NTP" in remedy

    play(test)


def test_an_old_broker_is_warned_of_once_and_is_a_failure(
    settings: PulsarSettings, play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def old(_: Admin) -> str:
        return "4.2.1"

    monkeypatch.setattr(Admin, "get_version", old)

    async def test(transport: PulsarTransport) -> None:
        await transport.declare([shared()])
        await transport.declare([shared()])
        level, message, remedy = (await found(transport))["broker version"]
        assert (level, remedy) == (Level.FAILURE, "upgrade the broker")
        assert message.startswith("has version 4.2.1")

    play(test)
    assert [each.getMessage()[:30] for each in caplog.records] == [f"The broker at {settings.web_service_url}"[:30]]


@pytest.mark.parametrize("version", ["4.0.13", "4.0.20", "4.2.4", "4.3.0", "5.0.0-SNAPSHOT", "unknown"])
def test_versions_that_will_do(version: str) -> None:
    assert explain_unfit(version) is None


@pytest.mark.parametrize("version", ["2.11.0", "3.3.9", "4.0.12", "4.1.9", "4.2.3", "4.2.0-rc1"])
def test_versions_that_stall(version: str) -> None:
    assert "4.2.4 or newer" in str(explain_unfit(version))
